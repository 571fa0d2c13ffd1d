/** Kernel settings that filtering needs. */
import type { Family } from '../../daemon/net/address.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';

const CALLS: Readonly<Record<Family, string>> = {
  ipv4: 'net/bridge/bridge-nf-call-iptables',
  ipv6: 'net/bridge/bridge-nf-call-ip6tables',
};

/** Packets between two pods of one bridge pass iptables only so (absent without br_netfilter, which is told as a missing facility). */
export function sysctlEntries(families: readonly Family[]): readonly Entry[] {
  return families.map(family => entry('sysctl', { path: CALLS[family], value: '1', alsoGood: [], whenMissing: 'skip' }));
}
