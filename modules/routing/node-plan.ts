/** All that another node, or this one, means to us: a BGP session, elements of the sets of egress, and with `--pod-routes=api` the routes to its pods. */
import type { Node } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { hostPrefix, type IpPrefix, prefixAddress, prefixFamily } from '../../daemon/net/prefix.ts';
import { Secret } from '../../daemon/net/secret.ts';
import { type Diagnostic, type Entry, entry, type Fragment, type ObjectRef } from '../../daemon/reconcile/fragment.ts';
import { type BgpPeer, MAIN_TABLE } from '../../daemon/reconcile/routing-tables.ts';
import { type BgpIdentity, meshes } from './bgp.ts';
import { leadsIntoItself, type RoutingContext } from './context.ts';
import { isInside, isMartian } from './martians.ts';
import { setName } from './names.ts';
import { addressOf, asnOf, primaryFamilyOf, type ReflectorRole, reflectorRoleOf } from './node-bgp.ts';
import type { RoutingOptions } from './options.ts';
import { wayTo } from './overlay.ts';

/** What every node's plan depends on. */
export interface NodeSurroundings {
  readonly context: RoutingContext;
  /** Undefined without BGP. */
  readonly identity: BgpIdentity | undefined;
  /** Families that there are sets of. */
  readonly setFamilies: readonly Family[];
}

export function planNode(node: Node, surroundings: NodeSurroundings, options: RoutingOptions): Fragment {
  const owner: ObjectRef = { kind: 'Node', key: node.meta.name, since: node.meta.creationTimestamp };
  const diagnostics: Diagnostic[] = [];
  const report = (message: string): void => {
    diagnostics.push({ code: 'FW_NODE_ROUTING', object: owner, message: `Node ${node.meta.name}: ${message}` });
  };
  const isOwn = node.meta.name === surroundings.context.nodeName;
  const entries = [
    ...setEntries(node, surroundings.setFamilies),
    ...(isOwn ? [] : peerEntries(node, surroundings, options, report)),
    ...(isOwn || options.podRoutes !== 'api' ? [] : routeEntries(node, surroundings.context, options, report)),
  ];
  return { owner, entries, diagnostics };
}

function setEntries(node: Node, families: readonly Family[]): readonly Entry[] {
  return [
    ...node.podCIDRs
      .filter(prefix => families.includes(prefixFamily(prefix)) && !isMartian(prefix))
      .map(prefix =>
        entry('ipset', { kind: 'element', set: setName('podSubnets', prefixFamily(prefix)), value: netElement(prefix) }),
      ),
    ...[...new Set([...node.internalIPs, ...node.externalIPs])]
      .filter(address => families.includes(familyOf(address)))
      .map(address => entry('ipset', { kind: 'element', set: setName('nodeIps', familyOf(address)), value: address })),
  ];
}

/** As `ipset save` prints it. */
function netElement(prefix: IpPrefix): string {
  return prefix === hostPrefix(prefixAddress(prefix)) ? prefixAddress(prefix) : prefix;
}

/** Sessions between nodes are direct, of one AS number, over one family for the routes of both. */
const INTERNAL_HOLD_SECONDS = 90;
const NO_PASSWORD = new Secret('');

function peerEntries(
  node: Node,
  { identity, context }: NodeSurroundings,
  options: RoutingOptions,
  report: (message: string) => void,
): readonly Entry[] {
  if (identity === undefined || !meshes(options)) return [];
  const { asn, reflector } = identity;
  const { value: theirAsn } = asnOf(node.annotations);
  if (!options.fullMesh && theirAsn !== asn) return [];
  const { value: theirs } = reflectorRoleOf(node.annotations);
  if (!isTalkedTo(theirs.role, reflector.role)) return [];
  const family = sessionFamily(node, identity, context);
  const address = family === undefined ? undefined : addressOf(node, family);
  if (family === undefined || address === undefined) {
    report('there is no BGP session with it: it has no address of a family that this node has too');
    return [];
  }
  const peer: BgpPeer = {
    address,
    asn,
    localAddress: context.sources[family],
    port: options.bgpPort,
    password: NO_PASSWORD,
    holdSeconds: INTERNAL_HOLD_SECONDS,
    multihopTtl: 0,
    families: context.families.filter(each => addressOf(node, each) !== undefined),
    gracefulRestart: options.gracefulRestart,
    reflectorClusterId: reflector.role === 'server' && theirs.role === 'client' ? reflector.clusterId : undefined,
  };
  return [entry('bgpPeer', peer)];
}

/** Clients talk to reflectors alone, so that nobody else need wait for them. Both ends come to the same. */
function isTalkedTo(theirs: ReflectorRole['role'], ours: ReflectorRole['role']): boolean {
  return ours === 'server' || theirs === 'server' || (ours === 'none' && theirs === 'none');
}

/** Both ends come to the same: the primary family where it is that of both, else one that both have, IPv4 first. */
function sessionFamily(node: Node, identity: BgpIdentity, { families }: RoutingContext): Family | undefined {
  const common = families.filter(family => addressOf(node, family) !== undefined);
  return primaryFamilyOf(node) === identity.family && common.includes(identity.family) ? identity.family : common[0];
}

/** Whether Node objects say the way to these pods, so that no neighbour does. What the fabric has to carry it may say itself. */
export function isReached(node: Node, prefix: IpPrefix, context: RoutingContext, options: RoutingOptions): boolean {
  if (options.podRoutes !== 'api' || node.meta.name === context.nodeName) return false;
  const remote = addressOf(node, prefix.includes(':') ? 'ipv6' : 'ipv4');
  if (remote === undefined || leadsIntoItself(prefix, remote, context)) return false;
  return wayTo(remote, true, context, options) !== undefined;
}

function routeEntries(
  node: Node,
  context: RoutingContext,
  options: RoutingOptions,
  report: (message: string) => void,
): readonly Entry[] {
  const entries: Entry[] = [];
  for (const destination of node.podCIDRs) {
    const family = prefixFamily(destination);
    if (!context.families.includes(family)) continue;
    const remote = addressOf(node, family);
    const objection = objectionTo(destination, context);
    if (objection !== undefined) report(`pod CIDR ${destination} ${objection}; there is no route to it`);
    else if (remote === undefined)
      report(`it has pods of ${destination}, but no address of that family to send their packets to`);
    else if (leadsIntoItself(destination, remote, context))
      report(`pod CIDR ${destination} holds its own address ${remote}; there is no route to it`);
    else {
      const way = wayTo(remote, true, context, options);
      if (way === undefined) continue;
      const route = { table: MAIN_TABLE, destination, nextHops: [way.nextHop], source: context.sources[family] } as const;
      entries.push(entry('unicastRoute', route), ...way.entries);
    }
  }
  return entries;
}

/** Why packets to this prefix must not be sent to another node, if so. */
function objectionTo(destination: IpPrefix, { podCIDRs, ownAddresses }: RoutingContext): string | undefined {
  if (isMartian(destination)) return 'is no prefix that can be routed';
  const own = podCIDRs.find(prefix => isInside(destination, prefix) || isInside(prefix, destination));
  if (own !== undefined) return `overlaps this node's own ${own}: give one of the nodes another`;
  return ownAddresses.some(address => isHostOf(address, destination)) ? 'is an address of this node' : undefined;
}

function isHostOf(address: IpAddress, prefix: IpPrefix): boolean {
  return prefix.startsWith(`${address}/`) && (prefix.endsWith('/32') || prefix.endsWith('/128'));
}
