/**
 * Which iptables to use. A host has two rule sets, the legacy one and nft's, and everybody on it must write to the same one, or packets
 * meet rules nobody sees together. The choice follows kubernetes-sigs/iptables-wrappers, as kubelet's and kube-proxy's images do.
 */
import { FairwayError, messageOf } from '../errors.ts';
import type { Family } from '../net/address.ts';
import type { Command, CommandRunner } from './command.ts';
import { isLockHeld, reasonOf } from './iptables-refusal.ts';

/** `default` is a plain `iptables` on a host that has no tool named for its flavour. */
export type IptablesFlavour = 'nft' | 'legacy' | 'default';

export interface IptablesTool {
  readonly save: Command['argv'];
  readonly restore: Command['argv'];
}

/** The tools to use, and why. */
export interface IptablesTools {
  /** Undefined where none works. */
  readonly flavour: IptablesFlavour | undefined;
  /** For `check` and the log: why this flavour, or what is wrong with each. */
  readonly reason: string;
  /** A family is absent where its tool, or its filter or nat table, does not work. */
  readonly byFamily: Readonly<Partial<Record<Family, IptablesTool>>>;
}

/** What one flavour's rule sets tell. */
interface Survey {
  readonly flavour: IptablesFlavour;
  readonly isInstalled: boolean;
  /** Rules of both families. */
  readonly rules: number;
  /** The kubelet marks its flavour with a chain in the mangle table (KEP-3178). */
  readonly hasKubeletHint: boolean;
}

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Chains with which the kubelet marks the flavour it uses; the canary is that of versions before 1.24. */
const KUBELET_HINTS: readonly string[] = [':KUBE-IPTABLES-HINT ', ':KUBE-KUBELET-CANARY '];

/** A chain made and deleted again within one transaction: it needs the table and leaves no rule (nft keeps the tables, empty). */
export const PROBE_CHAIN = 'FAIRWAY-PROBE';

const TRIAL = ['filter', 'nat'].map(table => `*${table}\n:${PROBE_CHAIN} - [0:0]\n-X ${PROBE_CHAIN}\nCOMMIT\n`).join('');

/** What the probe asks. */
export interface IptablesProbeOptions {
  readonly runner: CommandRunner;
  /** Rejects where there is no such file. */
  readonly files: { readFile(path: string): Promise<string> };
  /** Hears the names of chains where both flavours' rule sets are read. */
  readonly onChain?: ((name: string) => void) | undefined;
}

/** Names of the legacy tables in use in this network namespace, one a line; missing or empty where none is. */
const LEGACY_TABLES: readonly string[] = ['/proc/net/ip_tables_names', '/proc/net/ip6_tables_names'];

/**
 * Asks the host; two processes where nothing uses the legacy tables, else six. A flavour that the kernel does not support is never
 * chosen. Throws only for an aborted signal.
 */
export async function probeIptables(options: IptablesProbeOptions, signal: AbortSignal): Promise<IptablesTools> {
  const { runner } = options;
  const complaints: string[] = [];
  for (const { flavour, reason } of await candidates(options, signal)) {
    const trials = await Promise.all(FAMILIES.map(family => trial(runner, flavour, family, signal)));
    const byFamily: Partial<Record<Family, IptablesTool>> = {};
    for (const [index, family] of FAMILIES.entries()) {
      const complaint = trials[index];
      if (complaint === undefined) byFamily[family] = toolOf(flavour, family);
      else complaints.push(complaint);
    }
    const notes = complaints.length === 0 ? '' : `; ${complaints.join('; ')}`;
    if (Object.keys(byFamily).length > 0) return { flavour, reason: `${flavour}: ${reason}${notes}`, byFamily };
  }
  return { flavour: undefined, reason: complaints.join('; '), byFamily: {} };
}

interface Candidate {
  readonly flavour: IptablesFlavour;
  readonly reason: string;
}

/** The flavours to try, best first. */
async function candidates(options: IptablesProbeOptions, signal: AbortSignal): Promise<readonly Candidate[]> {
  const { files } = options;
  const lists = await Promise.all(LEGACY_TABLES.map(path => files.readFile(path).catch(() => '')));
  const plain: Candidate = { flavour: 'default', reason: 'the only one installed' };
  if (lists.every(list => list.trim() === '')) {
    return [
      { flavour: 'nft', reason: 'nothing on this host uses the legacy tables' },
      { flavour: 'legacy', reason: 'the nft flavour does not work' },
      plain,
    ];
  }
  const surveys = await Promise.all((['nft', 'legacy'] as const).map(flavour => survey(options, flavour, signal)));
  return [...preferred(surveys.filter(({ isInstalled }) => isInstalled)), plain];
}

/** The flavours, best first, each with the reason to take it. */
export function preferred(surveys: readonly Survey[]): readonly Candidate[] {
  const nft = surveys.find(({ flavour }) => flavour === 'nft');
  const legacy = surveys.find(({ flavour }) => flavour === 'legacy');
  const reasonFor = (one: Survey, other: Survey | undefined): string => {
    if (other === undefined) return 'the only one installed';
    if (one.hasKubeletHint) return 'the kubelet uses it';
    if (one.rules > other.rules) return `it holds more rules (${one.rules} to ${other.rules})`;
    return one.flavour === 'nft' ? 'the one to use where nothing speaks for the other' : 'the other does not work';
  };
  const isLegacyFirst =
    nft === undefined || (legacy !== undefined && !nft.hasKubeletHint && (legacy.hasKubeletHint || legacy.rules > nft.rules));
  const order = isLegacyFirst ? [legacy, nft] : [nft, legacy];
  return order.flatMap((one, index) =>
    one === undefined ? [] : [{ flavour: one.flavour, reason: reasonFor(one, order[1 - index]) }],
  );
}

export function toolOf(flavour: IptablesFlavour, family: Family): IptablesTool {
  const name = `${family === 'ipv4' ? 'iptables' : 'ip6tables'}${flavour === 'default' ? '' : `-${flavour}`}`;
  return { save: [`${name}-save`], restore: [`${name}-restore`] };
}

/** Counts without keeping. Without `-t` the legacy tool prints the tables in use and loads no other. */
async function survey(
  { runner, onChain }: IptablesProbeOptions,
  flavour: 'nft' | 'legacy',
  signal: AbortSignal,
): Promise<Survey> {
  let rules = 0;
  let hasKubeletHint = false;
  const onLine = (line: string): void => {
    if (line.startsWith('-A ')) rules++;
    else if (line.startsWith(':')) {
      if (KUBELET_HINTS.some(hint => line.startsWith(hint))) hasKubeletHint = true;
      onChain?.(line.slice(1, line.indexOf(' ')));
    }
  };
  const isInstalled = await Promise.all(
    FAMILIES.map(family =>
      runner.lines({ argv: toolOf(flavour, family).save }, onLine, signal).then(
        () => true,
        (thrown: unknown) => {
          if (signal.aborted) throw thrown;
          return !isAbsence(thrown);
        },
      ),
    ),
  );
  return { flavour, isInstalled: isInstalled.includes(true), rules, hasKubeletHint };
}

/** Undefined where the tool can write to its filter and nat tables, else what is wrong. */
async function trial(
  runner: CommandRunner,
  flavour: IptablesFlavour,
  family: Family,
  signal: AbortSignal,
): Promise<string | undefined> {
  const [program] = toolOf(flavour, family).restore;
  try {
    const result = await runner.run({ argv: [program, '--noflush', '-w', '5'], stdin: TRIAL }, signal);
    // A lock that others hold says that they use this flavour: choosing another would part our rules from theirs.
    return result.status === 0 || isLockHeld(result) ? undefined : `${program}: ${reasonOf(result)}`;
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return isAbsence(thrown) ? messageOf(thrown) : undefined;
  }
}

/** Whether this says that there is no such program: anything else passes. */
export function isAbsence(thrown: unknown): boolean {
  return thrown instanceof FairwayError && thrown.code === 'FW_CAPABILITY_TOOL_MISSING';
}
