/** IPVS in memory: a change does what the lines of ipvsadm for it would do, destinations have connections, and /proc/net/ip_vs tells of them. */
import { FairwayError } from '../../daemon/errors.ts';
import type { ReadLines } from '../../daemon/kernel/text-lines.ts';
import { bytesOf } from '../../daemon/net/address.ts';
import type { ApplyResult, Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { type Destination, destinationKey, sameDestination, TABLES, type VirtualServer } from '../../daemon/reconcile/tables.ts';

/** IPv4 only. */
export class FakeIpvs implements TableDriver<VirtualServer> {
  /** What is really there. A test may change it: someone else did. */
  readonly state = new Map<string, VirtualServer>();
  /** By virtual service and destination, as `TCP 10.96.0.1:80 10.244.1.5:8080`; 0 where it does not say. */
  readonly connections = new Map<string, number>();
  /** Virtual services that no change is made to. */
  readonly refused = new Set<string>();
  /** Why the tool cannot be asked at all, if so. */
  broken: string | undefined;
  /** Changes asked for, as `update TCP 10.96.0.1:80`. */
  readonly asked: string[] = [];
  /** How often the connections were looked at. */
  looks = 0;
  /** How often changes were handed over. */
  applies = 0;

  read(expected: ReadonlyMap<string, VirtualServer>): Promise<ReadonlyMap<string, VirtualServer>> {
    if (this.broken !== undefined) return Promise.reject(new FairwayError('FW_COMMAND_FAILED', this.broken));
    const found = [...this.state].map(([key, server]): [string, VirtualServer] => {
      const wanted = expected.get(key);
      return [key, wanted !== undefined && TABLES.virtualServer.same(server, wanted) ? wanted : server];
    });
    return Promise.resolve(new Map(found));
  }

  async apply(changes: readonly Change<VirtualServer>[], signal: AbortSignal): Promise<ApplyResult> {
    signal.throwIfAborted();
    this.applies++;
    const failed = new Map<string, FairwayError>();
    for (const change of changes) {
      this.asked.push(`${change.op} ${change.key}`);
      if (!this.refused.has(change.key) && this.broken === undefined) this.#change(change);
      if (!this.#isDone(change)) failed.set(change.key, new FairwayError('FW_COMMAND_REFUSED', `${change.key} is not as asked`));
    }
    return { failed };
  }

  render(changes: readonly Change<VirtualServer>[]): string {
    return changes.map(({ op, key }) => `${op} ${key}\n`).join('');
  }

  readonly readLines: ReadLines = (_path, onLine, signal) => {
    signal.throwIfAborted();
    this.looks++;
    if (this.broken !== undefined) return Promise.reject(new Error(this.broken));
    onLine('IP Virtual Server version 1.2.1 (size=4096)');
    onLine('Prot LocalAddress:Port Scheduler Flags');
    onLine('  -> RemoteAddress:Port Forward Weight ActiveConn InActConn');
    for (const [key, { listener, scheduler, destinations }] of this.state) {
      const where =
        listener.by === 'address' ? `${listener.protocol.padEnd(4)} ${hex(listener)}` : `FWM  ${hexNumber(listener.mark, 8)}`;
      onLine(`${where} ${scheduler} `);
      for (const destination of destinations) {
        const active = this.connections.get(`${key} ${destinationKey(destination)}`) ?? 0;
        const shownWeight = String(destination.weight).padEnd(6);
        onLine(`  -> ${hex(destination)}      Masq    ${shownWeight} ${String(active).padEnd(10)} 0         `);
      }
    }
    return Promise.resolve();
  };

  #change(change: Change<VirtualServer>): void {
    const there = this.state.get(change.key);
    switch (change.op) {
      case 'create':
        if (there === undefined) this.state.set(change.key, change.to);
        break;
      case 'update':
        if (there !== undefined) this.state.set(change.key, { ...change.to, destinations: destinationsAfter(there, change) });
        break;
      case 'delete':
        this.state.delete(change.key);
        break;
    }
  }

  #isDone(change: Change<VirtualServer>): boolean {
    const there = this.state.get(change.key);
    if (change.op === 'delete') return there === undefined;
    return there !== undefined && TABLES.virtualServer.same(there, change.to);
  }
}

/** The kernel adds no destination that is there, and edits or deletes none that is not. */
function destinationsAfter(
  there: VirtualServer,
  { from, to }: Extract<Change<VirtualServer>, { readonly op: 'update' }>,
): readonly Destination[] {
  const found = keyed(there);
  const before = keyed(from);
  for (const [key, destination] of keyed(to)) {
    const former = before.get(key);
    before.delete(key);
    const isAddition = former === undefined;
    const isDue = isAddition || !sameDestination(former, destination);
    if (isDue && isAddition !== found.has(key)) found.set(key, destination);
  }
  for (const key of before.keys()) found.delete(key);
  return [...found.values()];
}

function keyed({ destinations }: VirtualServer): Map<string, Destination> {
  return new Map(destinations.map(destination => [destinationKey(destination), destination]));
}

function hex({ address, port }: Pick<Destination, 'address' | 'port'>): string {
  return `${[...bytesOf(address)].map(byte => hexNumber(byte, 2)).join('')}:${hexNumber(port, 4)}`;
}

function hexNumber(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0');
}
