/** What one `ip -j` within a pod shows of its tunnel. */
import { FairwayError } from '../errors.ts';
import { familyOf, type IpAddress, parseAddress } from '../net/address.ts';
import type { CommandRunner } from './command.ts';
import { textOf } from './ip-batch.ts';
import { type PodNamespace, runnerWithin } from './pod-namespace.ts';

export interface TunnelLink {
  /** Of our type, from the pod's address, to any. */
  readonly isAsMade: boolean;
  readonly isUp: boolean;
  /** Sorted. */
  readonly vips: readonly IpAddress[];
}

export interface PodState {
  /** Whether a link of the namespace has the pod's address: a namespace without it is not (or no longer) the pod's. */
  readonly hasPodAddress: boolean;
  /** `foreign`: a link of our name and another type. */
  readonly tunnel: TunnelLink | 'absent' | 'foreign';
  /** rp_filter of those of {@link filterNames} that are there; 0 to 2. Empty for IPv6, which has no such filter, and where ip does not say. */
  readonly rpFilter: ReadonlyMap<string, number>;
}

/** kube-router's names. */
export function tunnelNameOf(pod: IpAddress): string {
  return familyOf(pod) === 'ipv6' ? 'kube-tunnel-v6' : 'kube-tunnel-if';
}

export function tunnelTypeOf(pod: IpAddress): 'ipip' | 'ip6tnl' {
  return familyOf(pod) === 'ipv6' ? 'ip6tnl' : 'ipip';
}

/**
 * Whose rp_filter must be 0: an inner packet comes in by the tunnel and the answer goes out by eth0, which strict filtering takes for a spoofed source. The
 * kernel applies the larger of the link's and `all`'s (ip-sysctl).
 */
export function filterNames(pod: IpAddress): readonly string[] {
  return familyOf(pod) === 'ipv6' ? [] : ['all', 'eth0', tunnelNameOf(pod)];
}

/** Links with their addresses, and the filters: one process. `-force`, since a kernel may not know `netconf`. */
const QUESTIONS = textOf(['addr show', 'netconf show']);
const ARGV = ['ip', '-j', '-d', '-force', '-batch', '-'] as const;
const FILTERS: readonly unknown[] = ['off', 'strict', 'loose'];

/** Throws a FairwayError where the namespace cannot be entered, or ip cannot be read. */
export async function lookInto(
  runner: CommandRunner,
  namespace: PodNamespace,
  pod: IpAddress,
  signal: AbortSignal,
): Promise<PodState> {
  const { stdout, stderr } = await runnerWithin(runner, namespace).run({ argv: ARGV, stdin: QUESTIONS }, signal);
  const lists = listsIn(stdout);
  if (lists.length === 0) {
    const message = `'${ARGV.join(' ')}' in the network namespace of pod ${pod} (${namespace.path}) failed: ${stderr.trim()}`;
    throw new FairwayError('FW_COMMAND_FAILED', message);
  }
  return stateOf(lists.flat(), pod);
}

type Shown = Readonly<Record<string, unknown>>;

/** What is printed is links (with `ifname`) and filters (with `interface`). */
function stateOf(shown: readonly Shown[], pod: IpAddress): PodState {
  const name = tunnelNameOf(pod);
  const links = shown.filter(({ ifname }) => typeof ifname === 'string');
  const filters = filterNames(pod).flatMap(filtered => {
    const found = shown.find(each => each['interface'] === filtered && each['family'] === 'inet');
    const value = FILTERS.indexOf(found?.['rp_filter']);
    return value < 0 ? [] : [[filtered, value] as const];
  });
  const tunnel = links.find(({ ifname }) => ifname === name);
  return {
    hasPodAddress: links.some(link => link !== tunnel && addressesOf(link).includes(pod)),
    tunnel: tunnel === undefined ? 'absent' : tunnelOf(tunnel, pod),
    rpFilter: new Map(filters),
  };
}

function tunnelOf(link: Shown, pod: IpAddress): TunnelLink | 'foreign' {
  const { info_kind: kind, info_data: shown } = recordOf(link['linkinfo']);
  if (kind !== tunnelTypeOf(pod)) return 'foreign';
  const { local, remote, proto } = recordOf(shown);
  const { flags } = link;
  return {
    // kube-router's takes in any protocol.
    isAsMade: parseAddress(String(local)) === pod && remote === 'any' && INNER_PROTOCOLS.includes(proto),
    isUp: Array.isArray(flags) && flags.includes('UP'),
    vips: addressesOf(link)
      .filter(address => familyOf(address) === familyOf(pod))
      .sort(),
  };
}

/** ip before 5 does not print it. */
const INNER_PROTOCOLS: readonly unknown[] = ['any', 'ipip', 'ip6ip6', undefined];

/** Those that reach beyond the link: the kernel gives each tunnel a link-local address of its own. */
function addressesOf(link: Shown): readonly IpAddress[] {
  const { addr_info: shown } = link;
  const list: readonly unknown[] = Array.isArray(shown) ? shown : [];
  return list.flatMap(each => {
    const { local, scope } = recordOf(each);
    return scope === 'link' ? [] : (parseAddress(String(local)) ?? []);
  });
}

/** One JSON list a line. */
function listsIn(stdout: string): readonly (readonly Shown[])[] {
  return stdout.split('\n').flatMap(line => {
    if (line.trim() === '') return [];
    const list = parseJson(line);
    if (!Array.isArray(list)) throw unreadable();
    return [list.map(recordOf)];
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable({ cause });
  }
}

function recordOf(value: unknown): Shown {
  return typeof value === 'object' && value !== null ? (value as Shown) : {};
}

function unreadable(options?: ErrorOptions): FairwayError {
  return new FairwayError('FW_READ_UNPARSABLE', `'${ARGV.join(' ')}' printed no list: iproute2 4.17 or newer is needed`, options);
}
