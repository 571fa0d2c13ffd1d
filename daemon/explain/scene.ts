/** All that an explanation looks at: the objects, the kernel as it is and as it is wanted, and what is complained of. */
import type { Snapshot } from '../cluster/snapshot.ts';
import type { Family, IpAddress } from '../net/address.ts';
import { mustParseAddress } from '../net/address.ts';
import type { Diagnostic, ObjectRef } from '../reconcile/fragment.ts';
import { kernelText } from '../reconcile/kernel-text.ts';
import { sameEntry, type TableName, type TableTypes } from '../reconcile/tables.ts';
import type { TablesView, ViewedEntry } from '../reconcile/view.ts';
import { ClusterObjects } from './cluster-objects.ts';
import type { Step } from './explanation.ts';
import { PacketPath } from './packet-path.ts';
import { linkTo } from './routes.ts';
import { readRule } from './rule-match.ts';
import { Asked, type Side, viewedKernel } from './viewed-kernel.ts';

export interface View {
  readonly snapshot: Snapshot;
  readonly tables: TablesView;
  readonly diagnostics: readonly Diagnostic[];
  readonly moduleNames: readonly string[];
}

/** An entry on the packet's way that is not as it is wanted. */
export interface Deviation {
  readonly table: TableName;
  readonly entry: ViewedEntry<TableTypes[TableName]>;
}

export class Scene {
  readonly snapshot: Snapshot;
  readonly tables: TablesView;
  readonly diagnostics: readonly Diagnostic[];
  readonly moduleNames: readonly string[];
  readonly objects: ClusterObjects;
  readonly asked = new Asked();

  constructor({ snapshot, tables, diagnostics, moduleNames }: View) {
    this.snapshot = snapshot;
    this.tables = tables;
    this.diagnostics = diagnostics;
    this.moduleNames = moduleNames;
    this.objects = new ClusterObjects(snapshot);
  }

  path(side: Side): PacketPath {
    const { snapshot, tables, objects } = this;
    return new PacketPath(
      viewedKernel(tables, snapshot.host, side, this.asked),
      {
        primary: family => this.primary(family),
        linkTo: address => linkTo(address, snapshot, tables, objects),
      },
      readRule,
    );
  }

  primary(family: Family): IpAddress {
    return this.snapshot.node.primary[family] ?? mustParseAddress(family === 'ipv4' ? '0.0.0.0' : '::');
  }

  looksAfter(table: TableName): boolean {
    return this.tables.tables.includes(table);
  }

  /** `NetworkPolicy default/web`, of each owner of an entry. */
  ownersOf(table: TableName, key: string): readonly string[] {
    return (this.tables.entry(table, key)?.owners ?? []).map(refText);
  }

  /** Entries that were asked for and are not as wanted. */
  deviations(): readonly Deviation[] {
    const found: Deviation[] = [];
    for (const [table, key] of this.asked) {
      const entry = this.tables.entry(table, key);
      if (entry === undefined) continue;
      const { actual, wanted, failure } = entry;
      const isAsWanted =
        failure === undefined &&
        actual !== undefined &&
        wanted !== undefined &&
        sameEntry<never>(table as never, actual as never, wanted as never);
      if (!isAsWanted) found.push({ table, entry });
    }
    return found;
  }
}

export function refText({ kind, key }: Pick<ObjectRef, 'kind' | 'key'>): string {
  return `${kind} ${key}`;
}

/** What is said of an entry that is not as wanted. */
export function deviationStep({ table, entry: { key, actual, wanted, owners, failure } }: Deviation): Step {
  const shown = wanted ?? actual;
  const kernel = shown === undefined ? [] : shortened(kernelText<TableName>(table, key, shown));
  const common = { kernel, objects: owners.map(refText) };
  const state = failure !== undefined ? 'failing' : actual === undefined ? 'missing' : 'differs';
  const note = failure === undefined ? undefined : `${failure.error.code}: ${failure.error.message}`;
  const what =
    wanted === undefined
      ? `${table} ${key} is in the kernel and nobody wants it: it is about to go`
      : actual === undefined
        ? `${table} ${key} is wanted and not in the kernel`
        : `${table} ${key} is other in the kernel than wanted`;
  return { what, ...common, state, ...(note === undefined ? {} : { note }) };
}

const MOST_LINES = 6;

export function shortened(lines: readonly string[]): readonly string[] {
  return lines.length <= MOST_LINES ? lines : [...lines.slice(0, MOST_LINES), `... ${lines.length - MOST_LINES} more`];
}
