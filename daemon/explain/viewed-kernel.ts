/** The kernel as the reconciler believes it to be, or as it is wanted to be, for the tracer. */
import type { HostFacts } from '../cluster/snapshot.ts';
import { type IpAddress, isLoopback } from '../net/address.ts';
import type { TableName, TableTypes } from '../reconcile/tables.ts';
import type { TablesView, ViewedEntry } from '../reconcile/view.ts';
import type { Hook, KernelEntries } from './kernel-entries.ts';

/** What of an entry is looked at. */
export type Side = 'actual' | 'wanted';

/** Keys that were asked for, by table: what the answer depends on. */
export class Asked {
  readonly #keys = new Map<TableName, Set<string>>();

  add(table: TableName, key: string): void {
    const keys = this.#keys.get(table);
    if (keys === undefined) this.#keys.set(table, new Set([key]));
    else keys.add(key);
  }

  *[Symbol.iterator](): Iterable<readonly [TableName, string]> & Iterator<readonly [TableName, string]> {
    for (const [table, keys] of this.#keys) for (const key of keys) yield [table, key];
  }
}

/** From the longest to the shortest: a set does not tell which it holds. */
const LENGTHS: readonly number[] = Array.from({ length: 129 }, (_, index) => 128 - index);

export function viewedKernel(tables: TablesView, host: HostFacts, side: Side, asked: Asked): KernelEntries {
  let hooks: readonly Hook[] | undefined;
  let vipLinks: readonly string[] | undefined;
  const get = <K extends TableName>(table: K, key: string): TableTypes[K] | undefined => {
    asked.add(table, key);
    return tables.entry(table, key)?.[side];
  };
  // What stands on our own links is what the table says, whatever the host was seen to have.
  const linksOfVips = (): readonly string[] => {
    vipLinks ??= [...tables.entries('link')].flatMap(({ key, actual, wanted }) =>
      (actual ?? wanted)?.type === 'dummy' ? [key] : [],
    );
    return vipLinks;
  };
  return {
    get,
    hooks: () => {
      hooks ??= hooksOf(tables.entries('iptables'), side, asked);
      return hooks;
    },
    lengthsIn: () => LENGTHS,
    isLocal: address =>
      isLoopback(address) ||
      linksOfVips().some(link => get('address', `${address} ${link}`) !== undefined) ||
      isOnOtherLink(host, address, linksOfVips()),
  };
}

function isOnOtherLink({ addresses }: HostFacts, address: IpAddress, links: readonly string[]): boolean {
  return addresses.some(each => each.address === address && !links.includes(each.link));
}

function hooksOf(entries: Iterable<ViewedEntry<TableTypes['iptables']>>, side: Side, asked: Asked): readonly Hook[] {
  const hooks: Hook[] = [];
  for (const entry of entries) {
    if ((entry.actual ?? entry.wanted)?.kind !== 'hook') continue;
    asked.add('iptables', entry.key);
    const hook = entry[side];
    if (hook?.kind === 'hook') hooks.push(hook);
  }
  return hooks;
}
