/** Who uses which flavour of iptables: packets pass the rules of both, and neither tool shows those of the other. */
import type { CommandRunner } from '../../kernel/command.ts';
import { type IptablesTools, toolOf } from '../../kernel/iptables-flavour.ts';
import { type Examiner, type Finding, ok, warning } from './finding.ts';

export interface FlavoursOptions {
  readonly runner: CommandRunner;
  readonly iptables: IptablesTools;
  /** Rejects where there is no such file. */
  readonly readFile: (path: string) => Promise<string>;
}

export interface RuleCount {
  readonly ours: number;
  readonly others: number;
}

const FAMILIES = ['ipv4', 'ipv6'] as const;
/** Saving the legacy tables loads their modules: asked only where they are in use (`iptables-flavour.ts`). */
const LEGACY_TABLES = { ipv4: '/proc/net/ip_tables_names', ipv6: '/proc/net/ip6_tables_names' } as const;

export function flavoursExaminer({ runner, iptables, readFile }: FlavoursOptions): Examiner {
  const count = async (flavour: 'nft' | 'legacy', signal: AbortSignal): Promise<RuleCount> => {
    let [ours, others] = [0, 0];
    const onLine = (line: string): void => {
      if (/^-A FAIRWAY-|^-A .* -[jg] FAIRWAY-/.test(line)) ours++;
      else if (line.startsWith('-A ')) others++;
    };
    for (const family of FAMILIES) {
      if (flavour === 'legacy' && (await readFile(LEGACY_TABLES[family]).catch(() => '')).trim() === '') continue;
      await runner.lines({ argv: toolOf(flavour, family).save }, onLine, signal).catch((thrown: unknown) => {
        if (signal.aborted) throw thrown;
      });
    }
    return { ours, others };
  };
  return {
    title: 'Rules',
    examine: async signal => [judgeFlavours(iptables.flavour, await count('nft', signal), await count('legacy', signal))],
  };
}

export function judgeFlavours(used: IptablesTools['flavour'], nft: RuleCount, legacy: RuleCount): Finding {
  const subject = 'flavours of iptables';
  const unused = used === 'legacy' ? { name: 'nft', ...nft } : { name: 'legacy', ...legacy };
  if (unused.ours > 0) {
    const remark = `${unused.ours} rules of ours are left in the ${unused.name} flavour, and ${used ?? 'none'} is used now: 'fairway cleanup' takes out both`;
    return warning(subject, remark);
  }
  if (nft.others > 0 && legacy.others > 0) {
    const remark = `${nft.others} rules of others are in nft and ${legacy.others} in legacy, ours go into ${used ?? 'none'}: packets pass both, and a verdict in one is not seen in the other; have all software use one (update-alternatives --config iptables)`;
    return warning(subject, remark);
  }
  return ok(subject, `${used ?? 'none'} is used, and nobody uses another`);
}
