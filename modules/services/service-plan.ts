/** All that one Service wants: virtual servers, its virtual addresses, and their places in the sets. */
import { returnsDirectly } from '../../daemon/cluster/direct-return.ts';
import { type EndpointSlice, keyOf, type Service, type ServicePort } from '../../daemon/cluster/kinds.ts';
import { isServed } from '../../daemon/cluster/served.ts';
import { familiesOf, type Objection, policiesOf, type Vip, vipsOf } from '../../daemon/cluster/virtual-addresses.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { DIRECT_RETURN } from '../../daemon/net/marks.ts';
import type { Diagnostic, Entry, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { Destination } from '../../daemon/reconcile/tables.ts';
import type { ServicesContext } from './context.ts';
import { annotationDiagnostics, translatedDiagnostic, tunnelled } from './direct-return.ts';
import { chooseEndpoints, type EndpointChoice } from './endpoints.ts';
import { healthPortEntries } from './health-port.ts';
import type { ServicesOptions } from './options.ts';
import { schedulingOf } from './scheduling.ts';
import { Draft, type ListenerEntry, type PlannedListener } from './service-draft.ts';

export interface ServicePlan {
  readonly owner: ObjectRef;
  /** All but {@link contested}. */
  readonly entries: readonly Entry[];
  readonly contested: readonly ListenerEntry[];
  /** Keys of all listeners it claims, served or dropped. */
  readonly listeners: readonly string[];
  /** Those of them that are dropped. */
  readonly dropped: readonly string[];
  readonly diagnostics: readonly Diagnostic[];
  /** Addresses of which it mattered whether they are occupied. */
  readonly askedAbout: readonly IpAddress[];
  /** Connections may go on by another node than they began at, which must take them up. */
  readonly needsSloppyTcp: boolean;
}

/**
 * The plan of a Service for which {@link isServed} holds. `occupied`: addresses that must not be taken, see `occupiedAddresses`. `markOf`: the
 * number of each of {@link markKeysOf}.
 */
export function planService(
  service: Service,
  slices: readonly EndpointSlice[],
  context: ServicesContext,
  options: ServicesOptions,
  occupied: ReadonlySet<IpAddress>,
  markOf: (key: string) => number | undefined,
): ServicePlan {
  const owner: ObjectRef = { kind: 'Service', key: keyOf(service.meta), since: service.meta.creationTimestamp };
  const diagnostics: Diagnostic[] = [];
  const scheduling = schedulingOf(service, owner, diagnostics);
  const { policies, objections } = policiesOf(service);
  const addresses = vipsOf(service, policies, options);
  const told = (objection: Objection): Diagnostic => ({ ...objection, object: owner });
  diagnostics.push(...[...objections, ...addresses.objections].map(told), ...annotationDiagnostics(service, owner));
  const served = service.ports.length === 0 ? [] : addresses.vips.filter(vip => context.families.includes(vip.family));
  const askedAbout = new Set<IpAddress>();
  const isOccupied = (address: IpAddress): boolean => {
    askedAbout.add(address);
    return occupied.has(address);
  };
  const canBeDirect =
    returnsDirectly(service) && service.ports.every(port => markOf(markKey(owner.key, port, 'direct')) !== undefined);
  // An address that a node or link has is somebody's already: it is served where its packets come by.
  const isDirect = (vip: Vip): boolean =>
    canBeDirect && isExternal(vip) && context.sets[vip.family].includes('direct') && !isOccupied(vip.address);
  const isNodeAddress = (address: IpAddress): boolean => context.nodeAddresses.includes(address) || isOccupied(address);
  const draft = new Draft(context, scheduling);
  const chosen = service.ports.map(port => ({ port, choices: choicesOf(slices, port, context) }));
  // While nothing answers at an address of direct server return, it is ours like any other: the kernel refuses under no address but its own.
  const isForPods = (vip: Vip): boolean =>
    isDirect(vip) && chosen.some(({ choices }) => (choices[vip.family]?.cluster.length ?? 0) > 0);
  for (const vip of served) {
    if (context.hasVipLink && !isForPods(vip) && !isOccupied(vip.address)) draft.take(vip.address);
  }
  const families = familiesOf(service);
  const nodePortAddresses = context.nodePortAddresses.filter(address => families?.has(familyOf(address)) ?? true);
  for (const { port, choices } of chosen) {
    const marks = policies.external === 'Local' ? markOf(markKey(owner.key, port, 'inside')) : undefined;
    /** Pods of this node and the node itself meet all endpoints at addresses of outside. */
    const serveInside = (planned: PlannedListener, bit: number, destinations: readonly Destination[]): void => {
      if (marks !== undefined) draft.serveInside(planned, bit | marks, destinations);
    };
    for (const vip of served) {
      const planned = draft.claim(vip, port.port, port, choices[vip.family]);
      if (planned === undefined) continue;
      const { cluster } = planned.choice;
      const direct = isDirect(vip) ? markOf(markKey(owner.key, port, 'direct')) : undefined;
      if (direct !== undefined) {
        draft.serveDirectly(planned, DIRECT_RETURN | direct, isNodeAddress);
        serveInside(planned, DIRECT_RETURN, tunnelled(cluster, port.port, isNodeAddress));
        diagnostics.push(...translatedDiagnostic(owner, port.port, cluster, isNodeAddress));
      } else {
        draft.serve(planned);
        if (isExternal(vip)) serveInside(planned, 0, cluster);
      }
      if (vip.origins.includes('loadBalancerIP')) draft.close(planned, service.loadBalancerSourceRanges);
    }
    const { nodePort } = port;
    if (nodePort === undefined) continue;
    for (const address of nodePortAddresses) {
      const family = familyOf(address);
      const where: Vip = { address, family, policy: policies.external, origins: [] };
      const planned = draft.claim(where, nodePort, port, choices[family]);
      if (planned === undefined) continue;
      draft.serve(planned);
      serveInside(planned, 0, planned.choice.cluster);
    }
  }
  draft.add(healthPortEntries(service, policies, slices, context.nodeName));
  const needsSloppyTcp = scheduling.scheduler === 'mh' && served.some(isDirect);
  return {
    owner,
    entries: draft.entries(),
    contested: draft.contested(),
    listeners: draft.listeners(),
    dropped: draft.dropped(),
    diagnostics: [...new Map(diagnostics.map(each => [each.message, each])).values()],
    askedAbout: [...askedAbout],
    needsSloppyTcp,
  };
}

/**
 * What a Service needs numbers for: ports whose external policy is Local, at whose external addresses and node ports pods of this node and the
 * node itself meet all endpoints all the same (Kubernetes: "Virtual IPs and Service Proxies", traffic policies); and ports with direct server return.
 */
export function markKeysOf(service: Service): readonly string[] {
  if (!isServed(service)) return NO_KEYS;
  const hasExternal = service.externalIPs.length > 0 || service.loadBalancerIPs.length > 0;
  const isLocal = policiesOf(service).policies.external === 'Local';
  const isDirect = hasExternal && returnsDirectly(service);
  const owner = keyOf(service.meta);
  return service.ports.flatMap(port => [
    ...(isLocal && (hasExternal || port.nodePort !== undefined) ? [markKey(owner, port, 'inside')] : []),
    ...(isDirect ? [markKey(owner, port, 'direct')] : []),
  ]);
}

const NO_KEYS: readonly string[] = [];

/** API: protocol and port are unique within a Service. */
function markKey(service: string, { protocol, port }: ServicePort, use: 'inside' | 'direct'): string {
  return `${service} ${protocol} ${port} ${use}`;
}

/** An address that is the cluster IP as well is one of inside. */
function isExternal({ origins }: Vip): boolean {
  return !origins.includes('clusterIP');
}

/** The choice of each served family; all listeners of a port share its arrays. */
function choicesOf(
  slices: readonly EndpointSlice[],
  port: ServicePort,
  context: ServicesContext,
): Readonly<Partial<Record<Family, EndpointChoice>>> {
  return Object.fromEntries(context.families.map(family => [family, chooseEndpoints(slices, port, family, context)]));
}
