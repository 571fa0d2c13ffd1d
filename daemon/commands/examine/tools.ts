/** The tools that are installed, with what is known of their versions. */
import type { ModuleName } from '../../config/modules.ts';
import { messageOf } from '../../errors.ts';
import type { Command, CommandRunner } from '../../kernel/command.ts';
import type { IptablesTools } from '../../kernel/iptables-flavour.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

interface Tool {
  readonly argv: Command['argv'];
  readonly neededBy: readonly ModuleName[];
  /** Where it only does less without. */
  readonly without?: string;
  /** What is wrong with a version. */
  readonly judge: (version: Version) => Pick<Finding, 'verdict' | 'remark'> | undefined;
}

/** Major, minor, patch. */
type Version = readonly [number, number, number];

const ALL = ['services', 'policy', 'routing'] as const;

/** What was built and tested with. Where no older version is known to fail, none is refused. */
const TOOLS: readonly Tool[] = [
  {
    argv: ['ip', '-V'],
    neededBy: [...ALL, 'lan-announcer'],
    judge: atLeast([4, 17, 0], 'it prints no JSON (-j): install iproute2 4.17 or newer'),
  },
  { argv: ['ipset', '--version'], neededBy: ALL, judge: atLeast([6, 21, 0], 'it knows no skbinfo: install ipset 6.21 or newer') },
  {
    argv: ['ipvsadm', '--version'],
    neededBy: ['services'],
    judge: atLeast([1, 28, 0], 'it cannot set the flags of schedulers: install ipvsadm 1.28 or newer'),
  },
  {
    argv: ['conntrack', '--version'],
    neededBy: ['services'],
    without: 'UDP and SCTP clients may stay with endpoints that are gone',
    judge: () => undefined,
  },
  {
    argv: ['gobgpd', '--version'],
    neededBy: ['routing'],
    without: 'there is no BGP (--pod-routes=api without external peers needs none)',
    judge: ([major]) =>
      major === 3 ? undefined : { verdict: 'missing', remark: 'its API is another: install gobgpd 3.x (Debian package gobgpd)' },
  },
  {
    argv: ['nsenter', '--version'],
    neededBy: ['services'],
    without: 'Services with direct server return (DSR) get no tunnels in their pods',
    judge: () => undefined,
  },
  {
    argv: ['modprobe', '--version'],
    neededBy: ALL,
    without: 'kernel modules must be loaded beforehand',
    judge: () => undefined,
  },
];

export interface ToolsOptions {
  readonly runner: CommandRunner;
  readonly iptables: IptablesTools;
  readonly isEnabled: (module: ModuleName) => boolean;
}

export function toolsExaminer({ runner, iptables, isEnabled }: ToolsOptions): Examiner {
  const examine = async (tool: Tool, signal: AbortSignal): Promise<Finding> => {
    const [name] = tool.argv;
    const isNeeded = tool.neededBy.some(isEnabled);
    const said = await versionText(runner, tool.argv, signal);
    if (said.failure !== undefined) {
      const remark = tool.without === undefined ? said.failure : `${said.failure}; without it ${tool.without}`;
      return isNeeded && tool.without === undefined ? missing(name, remark) : warning(name, remark);
    }
    const version = versionIn(said.text);
    const objection = version === undefined ? undefined : tool.judge(version);
    const shown = version === undefined ? said.text : version.join('.');
    if (objection === undefined) return ok(name, shown);
    const { verdict, remark } = objection;
    return { verdict: isNeeded ? verdict : 'warning', subject: name, remark: `${shown}: ${remark}` };
  };
  return {
    title: 'Tools',
    examine: async signal => [
      ok('node', process.version),
      ...(await Promise.all([examineIptables(runner, iptables, signal), ...TOOLS.map(tool => examine(tool, signal))])),
    ],
  };
}

/** The flavour that is used; whether it works at all is a matter of the kernel, and found by doing. */
async function examineIptables(
  runner: CommandRunner,
  { byFamily, reason }: IptablesTools,
  signal: AbortSignal,
): Promise<Finding> {
  const tool = byFamily.ipv4 ?? byFamily.ipv6;
  if (tool === undefined) return missing('iptables', `${reason}: install the Debian package iptables`);
  const { text } = await versionText(runner, [tool.restore[0], '--version'], signal);
  const version = versionIn(text);
  if (version === undefined) return ok('iptables', text);
  const shown = `${version.join('.')} (${text.includes('legacy') ? 'legacy' : 'nf_tables'}); ${reason}`;
  if (!isAtLeast(version, [1, 8, 0])) return missing('iptables', `${shown}: --noflush with -w needs 1.8 or newer`);
  if (!text.includes('legacy') && !isAtLeast(version, [1, 8, 4])) {
    return warning('iptables', `${shown}: the nft flavour before 1.8.4 loses and doubles rules: install a newer one`);
  }
  if (text.includes('nf_tables') && isAtLeast(version, [1, 8, 8]) && !isAtLeast(version, [1, 8, 9])) {
    const remark =
      '1.8.8 writes rules that 1.8.7 and older misread and then write back wrong: have one version in host and images';
    return warning('iptables', `${shown}: ${remark}`);
  }
  return ok('iptables', shown);
}

interface Said {
  readonly text: string;
  readonly failure?: string;
}

/** Some print it on standard error; ipvsadm prints none where the kernel lacks IPVS, which is told as such. */
async function versionText(runner: CommandRunner, argv: Command['argv'], signal: AbortSignal): Promise<Said> {
  try {
    const { status, stdout, stderr } = await runner.run({ argv, timeoutMs: 10_000 }, signal);
    const text = (stdout.trim() || stderr.trim()).split('\n')[0] ?? '';
    if (status === 0) return { text };
    const reason = stderr.trim().split('\n').at(-1) ?? '';
    return { text: `there, though it tells no version: ${reason || `exit status ${status}`}` };
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return { text: '', failure: messageOf(thrown) };
  }
}

/** The first number with a dot, or the whole number of those that have none. */
export function versionIn(text: string): Version | undefined {
  const [, major, minor, patch] = /(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? /\b(\d+)\b/.exec(text) ?? [];
  return major === undefined ? undefined : [Number(major), Number(minor ?? 0), Number(patch ?? 0)];
}

function isAtLeast(version: Version, least: Version): boolean {
  for (const [index, part] of version.entries()) {
    const other = least[index] ?? 0;
    if (part !== other) return part > other;
  }
  return true;
}

function atLeast(least: Version, remark: string): Tool['judge'] {
  return version => (isAtLeast(version, least) ? undefined : { verdict: 'missing', remark });
}
