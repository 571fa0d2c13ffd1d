/** One round of the reconciler for one table: what is read, compared with what is wanted, and applied. */
import type { Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { TABLES, type VirtualServer } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;

/** Gives the keys that failed. */
export async function reconcile(
  driver: TableDriver<VirtualServer>,
  wanted: ReadonlyMap<string, VirtualServer>,
): Promise<readonly string[]> {
  const actual = await driver.read(wanted, never);
  const changes: Change<VirtualServer>[] = [];
  for (const [key, to] of wanted) {
    const from = actual.get(key);
    if (from === undefined) changes.push({ op: 'create', key, to });
    else if (!TABLES.virtualServer.same(from, to)) changes.push({ op: 'update', key, from, to });
  }
  for (const [key, from] of actual) if (!wanted.has(key)) changes.push({ op: 'delete', key, from });
  if (changes.length === 0) return [];
  return [...(await driver.apply(changes, never)).failed.keys()];
}
