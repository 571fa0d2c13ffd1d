/** The input of one `iptables-restore --noflush`, and which entry each of its lines is about. */
import type { Change } from '../reconcile/driver.ts';
import { type IptablesEntry, type IptablesTable, TABLES } from '../reconcile/tables.ts';
import { hookRule } from './iptables-rule.ts';
import { hookChain, hookPrecedes, IPTABLES_TABLES, type SavedHook, type SavedHooks } from './iptables-save.ts';

export type IptablesChange = Change<IptablesEntry>;

/** What a line of the script is there for; the tool names lines when it refuses. */
export type ScriptLine =
  | { readonly at: 'table' | 'commit'; readonly table: IptablesTable; readonly text: string }
  | { readonly at: 'entry'; readonly table: IptablesTable; readonly text: string; readonly key: string };

/** The entry a change is about. */
export function subjectOf(change: IptablesChange): IptablesEntry {
  return change.op === 'delete' ? change.from : change.to;
}

/**
 * The lines for the changes of one family. Each table is committed as a whole or not at all. Within a table: our chains are made or
 * emptied, hooks that go or move are deleted by their very text, rules are added, hooks inserted, and chains deleted, which by
 * then nothing jumps to. All of that takes effect at once.
 */
export function iptablesScript(changes: readonly IptablesChange[], hooks: SavedHooks): readonly ScriptLine[] {
  const lines: ScriptLine[] = [];
  for (const table of IPTABLES_TABLES) {
    const ofTable = changes.filter(change => subjectOf(change).table === table);
    if (ofTable.length === 0) continue;
    const line = (key: string, text: string): void => {
      lines.push({ at: 'entry', table, text, key });
    };
    lines.push({ at: 'table', table, text: `*${table}` });
    const moves = hookMoves(ofTable, hooks);
    for (const change of ofTable) {
      const entry = subjectOf(change);
      if (entry.kind === 'chain') line(change.key, `:${entry.name} - [0:0]`);
    }
    for (const { key, text } of moves.deletes) line(key, text);
    for (const change of ofTable) {
      if (change.op === 'delete' || change.to.kind !== 'chain') continue;
      for (const rule of change.to.rules) line(change.key, `-A ${change.to.name}${rule === '' ? '' : ' '}${rule}`);
    }
    for (const { key, text } of moves.inserts) line(key, text);
    for (const change of ofTable) {
      if (change.op === 'delete' && change.from.kind === 'chain') line(change.key, `-X ${change.from.name}`);
    }
    lines.push({ at: 'commit', table, text: 'COMMIT' });
  }
  return lines;
}

export function scriptText(lines: readonly ScriptLine[]): string {
  return lines.map(line => `${line.text}\n`).join('');
}

/** The hooks as the changes themselves imply them: those they start from, at the head of their chains. For a dry run. */
export function impliedHooks(changes: readonly IptablesChange[]): SavedHooks {
  const implied = new Map<string, SavedHook[]>();
  for (const change of changes) {
    if (change.op === 'create' || change.from.kind !== 'hook') continue;
    const chain = hookChain(change.from.table, change.from.from);
    const { to, order, match } = change.from;
    implied.set(chain, [...(implied.get(chain) ?? []), { to, order, match, position: 0, rule: hookRule(change.from) }]);
  }
  for (const [chain, hooks] of implied) {
    hooks.sort((one, other) => one.order - other.order);
    implied.set(
      chain,
      hooks.map((hook, index) => ({ ...hook, position: index + 1 })),
    );
  }
  return implied;
}

interface HookLine {
  readonly key: string;
  readonly text: string;
}

/**
 * Deletes every hook that goes or changes, then inserts the wanted ones: behind our nearest hook of a lower order, else at the head.
 * A foreign rule that someone put above ours stays above until then.
 */
function hookMoves(changes: readonly IptablesChange[], saved: SavedHooks): { deletes: HookLine[]; inserts: HookLine[] } {
  const deletes: HookLine[] = [];
  const inserts: HookLine[] = [];
  const standing = new Map<string, StandingHooks>();
  const chainOf = (entry: Extract<IptablesEntry, { kind: 'hook' }>): StandingHooks => {
    const name = hookChain(entry.table, entry.from);
    const found = standing.get(name) ?? new StandingHooks(saved.get(name) ?? []);
    standing.set(name, found);
    return found;
  };
  const wanted: { readonly key: string; readonly hook: Extract<IptablesEntry, { kind: 'hook' }> }[] = [];
  for (const change of changes) {
    const entry = subjectOf(change);
    if (entry.kind !== 'hook') continue;
    for (const rule of chainOf(entry).remove(entry.to)) deletes.push({ key: change.key, text: `-D ${entry.from} ${rule}` });
    if (change.op !== 'delete') wanted.push({ key: change.key, hook: entry });
  }
  wanted.sort((one, other) => (hookPrecedes(one.hook, other.hook) ? -1 : 1));
  for (const { key, hook } of wanted) {
    inserts.push({ key, text: `-I ${hook.from} ${chainOf(hook).insert(hook)} ${hookRule(hook)}` });
  }
  return { deletes, inserts };
}

/** Our hooks of one built-in chain while a script deletes and inserts. */
class StandingHooks {
  #hooks: { readonly to: string; readonly order: number; readonly rule: string; position: number }[];

  constructor(saved: readonly SavedHook[]) {
    this.#hooks = saved.map(hook => ({ ...hook }));
  }

  /** Deletes all jumps to a chain; their rules, each as often as it stands there. */
  remove(to: string): string[] {
    const gone = this.#hooks.filter(hook => hook.to === to);
    this.#hooks = this.#hooks.filter(hook => hook.to !== to);
    for (const hook of this.#hooks) hook.position -= gone.filter(other => other.position < hook.position).length;
    return gone.map(hook => hook.rule);
  }

  /** The position for a new hook. */
  insert(added: { readonly to: string; readonly order: number }): number {
    const position = this.#hooks.reduce(
      (last, hook) => (hookPrecedes(hook, added) ? Math.max(last, hook.position + 1) : last),
      1,
    );
    for (const hook of this.#hooks) if (hook.position >= position) hook.position += 1;
    this.#hooks.push({ to: added.to, order: added.order, rule: '', position });
    return position;
  }
}

/**
 * The changes so that each stands behind all it depends on: any first part of them can be applied without the rest. Hooks that go,
 * chains behind those they jump to, hooks, and then the chains that go, callers first.
 */
export function inDependencyOrder(changes: readonly IptablesChange[]): readonly IptablesChange[] {
  const byKey = new Map(changes.map(change => [change.key, change]));
  const ordered = new Set<IptablesChange>();
  const visit = (change: IptablesChange, path: ReadonlySet<string>): void => {
    if (ordered.has(change) || path.has(change.key)) return;
    const deeper = new Set(path).add(change.key);
    for (const need of TABLES.iptables.requires(subjectOf(change))) {
      const needed = need.table === 'iptables' ? byKey.get(need.key) : undefined;
      if (needed !== undefined && (needed.op === 'delete') === (change.op === 'delete')) visit(needed, deeper);
    }
    ordered.add(change);
  };
  const isHook = (change: IptablesChange): boolean => subjectOf(change).kind === 'hook';
  const deletes = changes.filter(change => change.op === 'delete' && !isHook(change));
  for (const change of deletes) visit(change, new Set());
  const calleesFirst = [...ordered];
  ordered.clear();
  for (const change of changes) if (change.op === 'delete' && isHook(change)) ordered.add(change);
  for (const change of changes) if (change.op !== 'delete' && !isHook(change)) visit(change, new Set());
  for (const change of changes) if (change.op !== 'delete') visit(change, new Set());
  return [...ordered, ...calleesFirst.reverse()];
}
