/** What leads a pod's namespace from what is there to what a change asks for: lines of `ip -batch` and assignments of sysctl(8). Pure. */
import { familyOf, type IpAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import type { Change } from '../reconcile/driver.ts';
import { type BatchLines, textOf } from './ip-batch.ts';
import { filterNames, type PodState, tunnelNameOf } from './pod-tunnel-state.ts';

/** One pod with all the virtual addresses on its tunnel, at least one. */
export interface PodVips {
  readonly pod: IpAddress;
  /** Sorted. */
  readonly vips: readonly IpAddress[];
}

/** rp_filter as a record has it. */
type FormerFilters = Readonly<Record<string, number>>;

export function podOf(change: Change<PodVips>): IpAddress {
  return change.op === 'delete' ? change.from.pod : change.to.pod;
}

/** Lines for links and addresses. A link of our name and another type is not touched. */
export function linesFor({ tunnel }: PodState, change: Change<PodVips>): BatchLines {
  const pod = podOf(change);
  const name = tunnelNameOf(pod);
  if (tunnel === 'foreign') return [];
  if (change.op === 'delete') return tunnel === 'absent' ? [] : [`link delete dev ${name}`];
  const { vips } = change.to;
  if (tunnel === 'absent') return [additionOf(pod), `link set dev ${name} up`, ...vips.map(vip => addressLine('add', vip, name))];
  if (!tunnel.isAsMade) return [`link delete dev ${name}`, ...linesFor(WITHOUT_TUNNEL, change)];
  return [
    ...(tunnel.isUp ? [] : [`link set dev ${name} up`]),
    ...vips.filter(vip => !tunnel.vips.includes(vip)).map(vip => addressLine('add', vip, name)),
    ...tunnel.vips.filter(vip => !vips.includes(vip)).map(vip => addressLine('del', vip, name)),
  ];
}

/** What a tunnel is made in. */
const WITHOUT_TUNNEL: PodState = { hasPodAddress: true, tunnel: 'absent', rpFilter: new Map() };

/**
 * To any remote: IPVS wraps on whichever node the client came in at. The fallback devices tunl0 and ip6tnl0 take only what no tunnel of the pod's own
 * address does. IPVS sends no option of RFC 2473 (tunnel encapsulation limit), so none is made.
 */
function additionOf(pod: IpAddress): string {
  const name = tunnelNameOf(pod);
  return familyOf(pod) === 'ipv6'
    ? `link add name ${name} type ip6tnl mode ip6ip6 local ${pod} remote :: encaplimit none`
    : `link add name ${name} type ipip mode ipip local ${pod} remote 0.0.0.0`;
}

/** Nobody else is to be asked whether he has a virtual address (nodad): every pod behind it has. */
function addressLine(verb: 'add' | 'del', vip: IpAddress, name: string): string {
  const nodad = verb === 'add' && familyOf(vip) === 'ipv6' ? ' nodad' : '';
  return `addr ${verb} ${hostPrefix(vip)} dev ${name}${nodad}`;
}

/** Assignments for sysctl(8): all filters off, or those that were not off before us and still are as we left them put back. */
export function filtersFor({ tunnel, rpFilter }: PodState, change: Change<PodVips>, former: FormerFilters): readonly string[] {
  const pod = podOf(change);
  const own = tunnelNameOf(pod);
  if (change.op === 'delete') {
    return filterNames(pod)
      .filter(name => name !== own && rpFilter.get(name) === 0 && (former[name] ?? 0) !== 0)
      .map(name => assignment(name, former[name] ?? 0));
  }
  // A new link takes over that of `default`.
  const isNew = typeof tunnel === 'string' || !tunnel.isAsMade;
  return filterNames(pod)
    .filter(name => (name === own && isNew) || (rpFilter.get(name) ?? 0) !== 0)
    .map(name => assignment(name, 0));
}

function assignment(name: string, value: number): string {
  return `net.ipv4.conf.${name}.rp_filter=${value}`;
}

/** Whether links and addresses are as the change asks. */
export function isInForce(state: PodState, change: Change<PodVips>): boolean {
  return (state.tunnel !== 'foreign' || change.op === 'delete') && linesFor(state, change).length === 0;
}

/** The text for many pods, as if each had what the change says it has. */
export function renderChanges(changes: readonly Change<PodVips>[]): string {
  return changes
    .map(change => {
      const state = assumedFor(change);
      const filters = filtersFor(state, change, {}).map(text => `# sysctl -w ${text}`);
      return textOf([`# pod ${podOf(change)}`, ...linesFor(state, change), ...filters]);
    })
    .join('');
}

function assumedFor(change: Change<PodVips>): PodState {
  if (change.op !== 'create') return { ...WITHOUT_TUNNEL, tunnel: { isAsMade: true, isUp: true, vips: change.from.vips } };
  // What a pod may have had, so that the text names all that is set.
  const strict = filterNames(change.to.pod).map(name => [name, 1] as const);
  return { ...WITHOUT_TUNNEL, rpFilter: new Map(strict) };
}
