/**
 * Which destinations drain, and until when: the file that lets the next daemon go on with it. Pure text.
 *
 * Deadlines are by the time since the host was started, which the file does not outlive: the wall clock may be set between two daemons, and would then end
 * all draining at once, or none for hours.
 */
import type { IpAddress } from '../net/address.ts';
import { parseAddress } from '../net/address.ts';
import { type Instant, instantOf } from '../net/instant.ts';

export interface Draining {
  /** Of the virtual service, as `listenerKey` gives it. */
  readonly server: string;
  /** As `destinationKey` gives it. */
  readonly destination: string;
  readonly address: IpAddress;
  readonly deadline: Instant;
  /** It stays until its deadline whatever its connections, and is worth no record. */
  readonly isBrief: boolean;
  /** Its connections have ends, so that it does no harm after its deadline. */
  readonly mayWait: boolean;
}

/**
 * One line each: `up 86400000 10.244.1.5 10.244.1.5:8080 TCP 10.96.0.1:80`, the deadline in milliseconds since the start of the host first; `startedAt` is
 * that start, by the daemon's clock.
 */
export function recordText(all: Iterable<Draining>, startedAt: Instant): string {
  return [...all]
    .map(
      ({ server, destination, address, deadline }) =>
        `up ${Math.round(deadline - startedAt)} ${address} ${destination} ${server}\n`,
    )
    .join('');
}

/** Lines that cannot be read (a file torn by a crash) are left out: what they told of is deleted at once, or drains anew. */
export function parseRecord(text: string, startedAt: Instant): readonly Draining[] {
  return text.split('\n').flatMap(line => {
    const [, deadline, host, destination, server] = /^up (\d+) (\S+) (\S+) ((?:TCP|FWM) .+)$/.exec(line) ?? [];
    const address = parseAddress(host ?? '');
    if (address === undefined || destination === undefined || server === undefined) return [];
    return [{ server, destination, address, deadline: instantOf(startedAt + Number(deadline)), isBrief: false, mayWait: true }];
  });
}
