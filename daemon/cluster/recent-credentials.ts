/**
 * Credentials remembered for a moment: ten thousand requests one after another do not read three files and check a certificate for each. What was
 * rotated is seen a moment later, or at once where the server refuses what there was.
 */
import type { Clock } from '../net/clock.ts';
import type { Instant } from '../net/instant.ts';
import type { CredentialSource, Credentials } from './credentials.ts';

/** Milliseconds. client-go reads a token again after a minute. */
const RECENT_MS = 1000;

export class RecentCredentials implements CredentialSource {
  readonly #source: CredentialSource;
  readonly #clock: Clock;
  #last: { readonly credentials: Promise<Credentials>; readonly at: Instant } | undefined;

  constructor(source: CredentialSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
  }

  current(): Promise<Credentials> {
    const now = this.#clock.now();
    if (this.#last !== undefined && now - this.#last.at < RECENT_MS && now >= this.#last.at) return this.#last.credentials;
    const last = { credentials: this.#source.current(), at: now };
    this.#last = last;
    // What cannot be read now may be whole the next time that it is asked for.
    last.credentials.catch(() => {
      if (this.#last === last) this.#last = undefined;
    });
    return last.credentials;
  }

  forget(): void {
    this.#last = undefined;
    this.#source.forget();
  }
}
