/** How many connections destinations of IPVS have, from `/proc/net/ip_vs`. */
import { mustParseAddress, withPort } from '../net/address.ts';
import { listenerKey } from '../reconcile/tables.ts';
import { destinationOfProcLine, procHeader } from './ipvsadm-read.ts';
import type { ReadLines } from './text-lines.ts';

/** Active and inactive ones together, by `listenerKey` of these virtual services and `destinationKey`. Rejects as `readLines` does. */
export async function connectionsOf(
  readLines: ReadLines,
  servers: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
  const all = new Map<string, Map<string, number>>();
  let keyOf: (isIpv6: boolean) => string = () => '';
  const onLine = (text: string): void => {
    if (text.startsWith('  -> Remote') || text.startsWith('IP Virtual Server') || text.startsWith('Prot ') || text === '') return;
    if (!text.startsWith('  -> ')) {
      const header = procHeader(text);
      // Only the destinations of a service by mark tell its family.
      if (header.listener === undefined) keyOf = isIpv6 => `FWM ${header.mark} ${isIpv6 ? 'ipv6' : 'ipv4'}`;
      else {
        const key = listenerKey(header.listener);
        keyOf = () => key;
      }
      return;
    }
    const key = keyOf(text.charAt(5) === '[');
    if (!servers.has(key)) return;
    const { address, port, counts } = destinationOfProcLine(text);
    const [, active = 0, inactive = 0] = counts.trim().split(/ +/).map(Number);
    const ofServer = all.get(key) ?? new Map<string, number>();
    all.set(key, ofServer.set(withPort(mustParseAddress(address), port), active + inactive));
  };
  await readLines('/proc/net/ip_vs', onLine, signal);
  return all;
}
