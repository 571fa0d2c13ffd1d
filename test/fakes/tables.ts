/** Tables in memory, with the failures real tools have: refused entries, tools that cannot be asked, others who change things. */
import { FairwayError } from '../../daemon/errors.ts';
import type { ApplyResult, Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import type { Drivers } from '../../daemon/reconcile/reconciler.ts';
import { STAGES, TABLES, type TableName, type TableTypes } from '../../daemon/reconcile/tables.ts';

export class FakeTable<T> implements TableDriver<T> {
  /** What is really there. A test may change it: someone else did. */
  readonly state = new Map<string, T>();
  /** Keys that the tool refuses, with its reason. */
  readonly refused = new Map<string, string>();
  /** Why the tool cannot be asked at all, if so. */
  broken: string | undefined;
  /** Entries written since the start, by change. */
  readonly written: string[] = [];
  reads = 0;

  read(_expected: ReadonlyMap<string, T>, _signal: AbortSignal): Promise<ReadonlyMap<string, T>> {
    this.reads++;
    if (this.broken !== undefined) return Promise.reject(new FairwayError('FW_COMMAND_FAILED', this.broken));
    return Promise.resolve(new Map(this.state));
  }

  apply(changes: readonly Change<T>[], _signal: AbortSignal): Promise<ApplyResult> {
    if (this.broken !== undefined) return Promise.reject(new FairwayError('FW_COMMAND_FAILED', this.broken));
    const failed = new Map<string, FairwayError>();
    for (const change of changes) {
      const reason = this.refused.get(change.key);
      if (reason !== undefined) failed.set(change.key, new FairwayError('FW_COMMAND_REFUSED', reason));
      else if (change.op === 'delete') this.state.delete(change.key);
      else this.state.set(change.key, change.to);
      if (reason === undefined) this.written.push(`${change.op} ${change.key}`);
    }
    return Promise.resolve({ failed });
  }

  render(changes: readonly Change<T>[]): string {
    return changes.map(change => `${change.op} ${change.key}\n`).join('');
  }
}

export type FakeTables = { readonly [K in TableName]: FakeTable<TableTypes[K]> };

export function fakeTables(): FakeTables & Drivers {
  return {
    sysctl: new FakeTable(),
    link: new FakeTable(),
    address: new FakeTable(),
    route: new FakeTable(),
    ipset: new FakeTable(),
    iptables: new FakeTable(),
    virtualServer: new FakeTable(),
    fouPort: new FakeTable(),
    bridgePort: new FakeTable(),
    markDelivery: new FakeTable(),
    podTunnel: new FakeTable(),
    healthPort: new FakeTable(),
    unicastRoute: new FakeTable(),
    rule: new FakeTable(),
    cniConfig: new FakeTable(),
    bgpServer: new FakeTable(),
    bgpPolicy: new FakeTable(),
    bgpPath: new FakeTable(),
    bgpPeer: new FakeTable(),
    lanAddress: new FakeTable(),
    serviceStatus: new FakeTable(),
  };
}

/** Keys of everything that is there, as `table key`, sorted. */
export function stateOf(tables: FakeTables): readonly string[] {
  return STAGES.flatMap(name => [...tables[name].state.keys()].map(key => `${name} ${key}`)).sort();
}

/** Keys and values of the virtual servers, for comparison by value. */
export function virtualServersOf(tables: FakeTables): ReadonlyMap<string, TableTypes['virtualServer']> {
  return new Map([...tables.virtualServer.state.values()].map(value => [TABLES.virtualServer.key(value), value]));
}
