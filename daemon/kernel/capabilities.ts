/**
 * What the host can do, found by doing it: a kernel has a facility built in or as a module, and only use tells. Nothing of it stays
 * behind. Loading a module is tried where something is missing, and its failure means nothing.
 */
import type { Capabilities } from '../cluster/snapshot.ts';
import { messageOf } from '../errors.ts';
import type { Command, CommandRunner } from './command.ts';
import { type IptablesTools, isAbsence, PROBE_CHAIN, probeIptables } from './iptables-flavour.ts';
import { isLockHeld, reasonOf } from './iptables-refusal.ts';

export interface CapabilityOptions {
  readonly runner: CommandRunner;
  /** Rejects where there is no such file. */
  readonly files: { readFile(path: string): Promise<string> };
  /** See {@link probeIptables}. */
  readonly onChain?: ((name: string) => void) | undefined;
}

/** One line of `fairway check`. */
export interface FacilityReport {
  /** `IPVS`, `iptables (ipv4)` ... */
  readonly facility: string;
  /** Names of the modules that need it. */
  readonly neededBy: readonly string[];
  readonly ok: boolean;
  /** What is wrong and what to do; for what is well, how it was found. */
  readonly remark: string;
}

export interface HostProbe {
  readonly capabilities: Capabilities;
  readonly iptables: IptablesTools;
  readonly reports: readonly FacilityReport[];
}

const FILES = {
  ipvs: '/proc/net/ip_vs',
  bridge: '/proc/sys/net/bridge/bridge-nf-call-iptables',
  ipv6: '/proc/net/if_inet6',
};

/** Nothing waits long for it: what is not there by then is looked for again. */
const MODPROBE_MS = 10_000;
/** What is loaded where something is missing; `systemd/modules-load.d` has the same, for a daemon that may load nothing. */
export const MODULES: readonly string[] = ['ip_vs', 'br_netfilter', 'dummy', 'xt_ipvs', 'xt_set', 'xt_limit', 'xt_NFLOG'];

/** Names nobody else takes; a probe that was killed half way is cleared up by the next one. */
export const PROBE_LINK = 'fairway-probe';
const PROBE_SETS: readonly (readonly [name: string, type: string])[] = [
  ['fairway-probe', 'hash:ip'],
  ['fairway-probe-2', 'hash:ip,port'],
  ['fairway-probe-3', 'hash:ip,port,ip'],
  ['fairway-probe-4', 'hash:ip,port,net'],
  ['fairway-probe-marks', 'hash:ip,port skbinfo'],
  ['fairway-probe-net', 'hash:net'],
];
const PROBE_SET_IPV6: readonly [name: string, type: string] = ['inet6:fairway-probe', 'hash:ip family inet6'];

/** Whether a set is one that a probe made, perhaps this very moment. */
export function isProbeSet(name: string): boolean {
  return [...PROBE_SETS, PROBE_SET_IPV6].some(([probe]) => probe === name);
}

/** Probes; eight short processes where all is well. Throws only for an aborted signal. */
export async function probeHost(options: CapabilityOptions, signal: AbortSignal): Promise<HostProbe> {
  const isThere = (path: string): Promise<boolean> =>
    options.files.readFile(path).then(
      () => true,
      () => false,
    );
  const run = (command: Command): Promise<string | undefined> => complaintOf(options.runner, command, signal);
  if (!((await isThere(FILES.ipvs)) && (await isThere(FILES.bridge))))
    await run({ argv: ['modprobe', '-a', '-q', ...MODULES], timeoutMs: MODPROBE_MS });
  const [ipvs, bridge, ipv6] = await Promise.all([isThere(FILES.ipvs), isThere(FILES.bridge), isThere(FILES.ipv6)]);
  const probeSets = ipv6 ? [...PROBE_SETS, PROBE_SET_IPV6] : PROBE_SETS;
  const createSets = probeSets.map(([name, type]) => `create ${name} ${type}\n`).join('');
  const [iptables, dummy, ipvsadm, sets, gobgpd, conntrack] = await Promise.all([
    probeIptables(options, signal),
    probeDummy(run),
    // The tool asks the kernel before it reads its options.
    run({ argv: ['ipvsadm', '--version'] }),
    run({ argv: ['ipset', 'restore', '-exist'], stdin: createSets }),
    run({ argv: ['gobgpd', '--version'] }),
    run({ argv: ['conntrack', '--version'] }),
  ]);
  const complaints = await probeRules(options.runner, iptables, signal);
  await run({ argv: ['ipset', 'restore'], stdin: probeSets.map(([name]) => `destroy ${name}\n`).join('') });
  const reports: FacilityReport[] = [
    report(
      SERVICES,
      'IPVS',
      ipvs && ipvsadm === undefined,
      `${FILES.ipvs} is there, and ipvsadm`,
      ipvs && ipvsadm !== undefined
        ? ipvsadm
        : `${FILES.ipvs} is missing: load ip_vs with modprobe, or use a kernel with CONFIG_IP_VS`,
    ),
    report(
      SERVICES,
      'conntrack',
      conntrack === undefined,
      'the tool is there',
      `${conntrack}; without it UDP and SCTP clients may stay with endpoints that are gone`,
    ),
    report(
      SERVICES,
      'dummy links',
      dummy === undefined,
      'one was made and deleted',
      `${dummy}: load dummy with modprobe (CONFIG_DUMMY)`,
    ),
    report(
      ALL,
      'ipset',
      sets === undefined,
      'sets of all our types were made and deleted',
      `${sets}: load ip_set and ip_set_hash_*`,
    ),
    ...(['ipv4', 'ipv6'] as const).map(family =>
      report(ALL, `iptables (${family})`, iptables.byFamily[family] !== undefined, iptables.reason, iptables.reason),
    ),
    report(
      SERVICES,
      "iptables' match on IPVS",
      complaints.ipvs === undefined,
      'a rule was made and deleted',
      `${complaints.ipvs}: load xt_ipvs`,
    ),
    report(
      ALL,
      "iptables' match on sets",
      complaints.set === undefined,
      'a rule was made and deleted',
      `${complaints.set}: load xt_set`,
    ),
    report(
      POLICY,
      "iptables' log of denied packets",
      complaints.nflog === undefined,
      'a rule with limit and NFLOG was made and deleted',
      `${complaints.nflog}: load xt_limit and xt_NFLOG, or packets that policies deny are not logged`,
    ),
    report(
      BOTH,
      'iptables on bridges',
      bridge,
      `${FILES.bridge} is there`,
      `${FILES.bridge} is missing: load br_netfilter, or packets between two pods of one bridge bypass policies and IPVS`,
    ),
    report(
      ROUTING,
      'gobgpd',
      gobgpd === undefined,
      'it is there',
      `${gobgpd}; without it there is no BGP (--pod-routes=api without external peers needs none)`,
    ),
    report(
      ALL,
      'IPv6',
      ipv6,
      `${FILES.ipv6} is there`,
      `${FILES.ipv6} is missing: IPv6 is switched off (ipv6.disable=1) or not built in`,
    ),
  ];
  const capabilities: Capabilities = {
    ipvs: ipvs && ipvsadm === undefined,
    // Sets are there to be matched on: without that match they are of no use.
    ipset: sets === undefined && complaints.set === undefined,
    dummyLink: dummy === undefined,
    iptables: { ipv4: iptables.byFamily.ipv4 !== undefined, ipv6: iptables.byFamily.ipv6 !== undefined },
    xtIpvs: complaints.ipvs === undefined,
    bridgeNetfilter: bridge,
    nflog: complaints.nflog === undefined,
    ipv6,
  };
  return { capabilities, iptables, reports };
}

const SERVICES = ['services'];
const POLICY = ['policy'];
const BOTH = ['services', 'policy'];
const ROUTING = ['routing'];
const ALL = [...BOTH, ...ROUTING];

function report(neededBy: readonly string[], facility: string, ok: boolean, how: string, remedy: string): FacilityReport {
  return { facility, neededBy, ok, remark: ok ? how : remedy };
}

/**
 * Undefined where the command succeeds, else why not. What could not be tried (no process, no time, a lock that others hold) is no complaint: a facility
 * that counts as lacking has what an earlier run made with it taken away, policies among it; one that counts as there fails, is told, and is tried again.
 */
async function complaintOf(runner: CommandRunner, command: Command, signal: AbortSignal): Promise<string | undefined> {
  try {
    const result = await runner.run(command, signal);
    if (result.status === 0) return undefined;
    return `${command.argv[0]}: ${result.stderr.trim().split('\n')[0]?.replace(/\.$/, '') || `exit status ${result.status}`}`;
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return isAbsence(thrown) ? messageOf(thrown) : undefined;
  }
}

/** One batch makes and deletes a dummy; with `-force` the deletion is tried whatever became of the making. */
async function probeDummy(run: (command: Command) => Promise<string | undefined>): Promise<string | undefined> {
  const stdin = `link add ${PROBE_LINK} type dummy\nlink delete ${PROBE_LINK}\n`;
  const complaint = await run({ argv: ['ip', '-force', '-batch', '-'], stdin });
  // One left behind shows as much as one made.
  return complaint?.includes('File exists') ? undefined : complaint;
}

/** A rule for each extension of iptables that is not part of every kernel with iptables. */
function probedRules(set: string) {
  return {
    ipvs: '-m ipvs --vdir ORIGINAL --vmethod MASQ -j RETURN',
    set: `-m set --match-set ${set} dst -j RETURN`,
    nflog: '-m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-prefix "fairway probe" --nflog-group 100',
  } as const;
}

/** Why each rule was refused; undefined where it was not. */
type RuleComplaints = Readonly<Record<keyof ReturnType<typeof probedRules>, string | undefined>>;

/**
 * Commits the rules in a chain that nothing jumps to, and deletes the chain in a second commit of the same run: the legacy flavour shows
 * the kernel only what is left at a commit, and neither flavour's `--test` asks the kernel. Only where not all pass is each tried alone.
 */
async function probeRules(runner: CommandRunner, iptables: IptablesTools, signal: AbortSignal): Promise<RuleComplaints> {
  const tool = iptables.byFamily.ipv4 ?? iptables.byFamily.ipv6;
  if (tool === undefined) return { ipvs: iptables.reason, set: iptables.reason, nflog: iptables.reason };
  const rules = probedRules(iptables.byFamily.ipv4 === undefined ? 'inet6:fairway-probe' : 'fairway-probe');
  const tryRules = async (tried: readonly string[]): Promise<string | undefined> => {
    const added = tried.map(rule => `-A ${PROBE_CHAIN} ${rule}\n`).join('');
    const stdin = `*nat\n:${PROBE_CHAIN} - [0:0]\n${added}COMMIT\n*nat\n:${PROBE_CHAIN} - [0:0]\n-X ${PROBE_CHAIN}\nCOMMIT\n`;
    try {
      const result = await runner.run({ argv: [tool.restore[0], '--noflush', '-w', '5'], stdin }, signal);
      return result.status === 0 || isLockHeld(result) ? undefined : reasonOf(result);
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      return isAbsence(thrown) ? messageOf(thrown) : undefined;
    }
  };
  if ((await tryRules(Object.values(rules))) === undefined) return { ipvs: undefined, set: undefined, nflog: undefined };
  return { ipvs: await tryRules([rules.ipvs]), set: await tryRules([rules.set]), nflog: await tryRules([rules.nflog]) };
}
