/**
 * Which addresses on the host's own links are ours, kept in a file: such a link says nothing of who put an address there, and neither one of the
 * administrator's (or keepalived's) may be taken away, nor one of ours be left behind, or taken for an address of the host.
 */
import type { HostAddress } from '../cluster/snapshot.ts';
import { FairwayError, messageOf } from '../errors.ts';
import { familyOf, HOST_BITS, parseAddress } from '../net/address.ts';
import { type LanAddress, lanAddressKey } from '../reconcile/service-tables.ts';
import { ANNOUNCING_BITS } from './lan-address-lines.ts';
import type { StateFile } from './state-file.ts';

/**
 * What an address on a link of the host is to us: put there by us; about to be taken away by us; taken away by us, so that one that is seen there is another's
 * again; or the host's own.
 */
export type AddressStanding = 'ours' | 'leaving' | 'left' | "the host's";

export class LanAddressRecord {
  readonly #file: StateFile;
  #isLoaded = false;
  #entries: ReadonlyMap<string, LanAddress> = new Map();
  #written = '';
  /** Keys. */
  readonly #leaving = new Set<string>();
  readonly #left = new Set<string>();
  #work: Promise<unknown> = Promise.resolve();

  constructor(file: StateFile) {
    this.#file = file;
  }

  get entries(): ReadonlyMap<string, LanAddress> {
    return this.#entries;
  }

  standingOf({ link, address, prefixLength }: HostAddress): AddressStanding {
    const family = familyOf(address);
    if (prefixLength !== HOST_BITS[family] && !(family === 'ipv4' && prefixLength === ANNOUNCING_BITS)) return "the host's";
    const key = lanAddressKey({ link, address });
    if (this.#leaving.has(key)) return 'leaving';
    if (this.#entries.has(key)) return 'ours';
    return this.#left.has(key) ? 'left' : "the host's";
  }

  /** One work after another: what one has decided by the record is on the links before the next decides. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => undefined);
    return done;
  }

  /** Once; again where it could not. Throws a FairwayError. */
  async load(): Promise<void> {
    if (this.#isLoaded) return;
    try {
      const text = (await this.#file.read()) ?? '';
      this.#entries = parseRecord(text);
      this.#written = renderRecord(this.#entries);
      this.#isLoaded = true;
    } catch (cause) {
      throw new FairwayError('FW_COMMAND_FAILED', `the record of announced addresses cannot be read: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  /** Before they are put on their links: a crash leaves none that nobody knows. Throws a FairwayError. */
  async add(entries: readonly LanAddress[]): Promise<void> {
    for (const entry of entries) this.#left.delete(lanAddressKey(entry));
    this.#entries = new Map([...this.#entries, ...entries.map(entry => [lanAddressKey(entry), entry] as const)]);
    await this.#write();
  }

  /** They are about to be taken from their links. */
  startLeaving(keys: readonly string[]): void {
    for (const key of keys) this.#leaving.add(key);
  }

  /** They are still there after all. */
  keep(keys: readonly string[]): void {
    for (const key of keys) this.#leaving.delete(key);
  }

  /** They are on their links no more. Throws a FairwayError. */
  async remove(keys: readonly string[]): Promise<void> {
    this.forget(keys);
    for (const key of keys) {
      this.#leaving.delete(key);
      this.#left.add(key);
    }
    await this.#write();
  }

  /** They were found not to be on their links; the file follows with the next change. */
  forget(keys: readonly string[]): void {
    const gone = new Set(keys);
    this.#entries = new Map([...this.#entries].filter(([key]) => !gone.has(key)));
  }

  async #write(): Promise<void> {
    const text = renderRecord(this.#entries);
    if (text === this.#written) return;
    try {
      await this.#file.write(text);
      this.#written = text;
    } catch (cause) {
      const remedy = 'free space below /run, or make it writable';
      const message = `the record of announced addresses cannot be written: ${messageOf(cause)} (${remedy})`;
      throw new FairwayError('FW_COMMAND_FAILED', message, { cause });
    }
  }
}

/** `ADDRESS LINK` a line, sorted. */
export function renderRecord(entries: ReadonlyMap<string, LanAddress>): string {
  return [...entries.values()]
    .map(entry => `${lanAddressKey(entry)}\n`)
    .sort()
    .join('');
}

/** Lines that are no record are left out. */
export function parseRecord(text: string): ReadonlyMap<string, LanAddress> {
  const entries = text.split('\n').flatMap((line): readonly LanAddress[] => {
    const [, addressText = '', link = ''] = /^(\S+) (\S+)$/.exec(line) ?? [];
    const address = parseAddress(addressText);
    return address === undefined ? [] : [{ link, address }];
  });
  return new Map(entries.map(entry => [lanAddressKey(entry), entry]));
}
