/** Our own part in BGP: who we are, whom we talk to besides nodes, what we take in and what we tell. */
import type { Node } from '../../daemon/cluster/kinds.ts';
import { type AnnotatedPeer, peersOfAnnotations } from '../../daemon/cluster/peer-annotations.ts';
import { type Family, familyOf, HOST_BITS, type IpAddress, mustParseAddress } from '../../daemon/net/address.ts';
import { identifierOf } from '../../daemon/net/names.ts';
import { type IpPrefix, mustParsePrefix, prefixFamily, prefixLength } from '../../daemon/net/prefix.ts';
import type {
  BgpActions,
  BgpPeer,
  BgpPolicy,
  BgpServer,
  BgpStatement,
  PrefixRange,
} from '../../daemon/reconcile/routing-tables.ts';
import { FAMILIES, type RoutingContext } from './context.ts';
import { MARTIANS } from './martians.ts';
import {
  asnOf,
  exportActionsOf,
  importRejectOf,
  localAddressesOf,
  primaryFamilyOf,
  type ReflectorRole,
  reflectorRoleOf,
} from './node-bgp.ts';
import type { RoutingOptions } from './options.ts';

/** Who we are to other nodes. */
export interface BgpIdentity {
  readonly asn: number;
  readonly reflector: ReflectorRole;
  /** The family of sessions with nodes that have it. */
  readonly family: Family;
}

export interface BgpPlan {
  /** Undefined without BGP: nothing in the cluster asks for it, or something is missing, which `problems` tells. */
  readonly identity: BgpIdentity | undefined;
  readonly server: BgpServer | undefined;
  readonly policies: readonly BgpPolicy[];
  readonly externalPeers: readonly BgpPeer[];
  readonly problems: readonly string[];
}

const NO_ANNOTATIONS: Node['annotations'] = {};

/** `node` is our own Node object; on bare metal there may be none. */
export function planBgp(node: Node | undefined, context: RoutingContext, options: RoutingOptions): BgpPlan {
  const annotations = node?.annotations ?? NO_ANNOTATIONS;
  const problems: string[] = [];
  const take = <T>({ value, problems: told }: { readonly value: T; readonly problems: readonly string[] }): T => {
    problems.push(...told);
    return value;
  };
  const reflector = take(reflectorRoleOf(annotations));
  const asn = options.fullMesh ? options.clusterAsn : take(asnOf(annotations));
  const family = primaryFamily(node, context);
  const external = externalPeers(annotations, context, options, problems);
  const listen = take(localAddressesOf(annotations));
  const actions: BgpActions = { ...take(exportActionsOf(annotations)), nextHopSelf: options.overrideNextHop };
  const rejected = take(importRejectOf(annotations));
  if (asn === undefined && needsBgp(external, options)) {
    problems.push(
      'without kube-router.io/node.asn there is no BGP on this node: annotate the Node with its AS number, or use --nodes-full-mesh=true',
    );
  }
  const routerId = routerIdOf(context, options);
  if (asn === undefined || family === undefined || routerId === undefined || !needsBgp(external, options)) {
    return { identity: undefined, server: undefined, policies: [], externalPeers: [], problems };
  }
  return {
    identity: { asn, reflector, family },
    server: { asn, routerId, port: options.bgpPort, listenAddresses: listenAddresses(listen, context) },
    policies: [
      importPolicy(context.podCIDRs, rejected),
      exportPolicy(
        external.map(({ address }) => address),
        reflector.role === 'server',
        actions,
        options,
      ),
    ],
    externalPeers: external,
    problems,
  };
}

/** Routes from Node objects need no sessions between nodes; BGP is for the fabric then. */
export function meshes({ podRoutes, ibgp }: RoutingOptions): boolean {
  return podRoutes === 'bgp' && ibgp;
}

function needsBgp(external: readonly BgpPeer[], options: RoutingOptions): boolean {
  return meshes(options) || external.length > 0;
}

function primaryFamily(node: Node | undefined, { families }: RoutingContext): Family | undefined {
  const family = node === undefined ? undefined : primaryFamilyOf(node);
  return family !== undefined && families.includes(family) ? family : families[0];
}

/** An identifier is of 32 bits whatever the families (RFC 6286): a node without IPv4 gets one from its address. */
function routerIdOf({ addresses }: RoutingContext, { routerId }: RoutingOptions): IpAddress | undefined {
  const primary = addresses.ipv4 ?? addresses.ipv6;
  if (primary === undefined) return undefined;
  if (routerId === 'generate') return identifierOf(primary);
  // The option takes nothing but an IPv4 address besides.
  if (routerId !== '') return routerId as IpAddress;
  return addresses.ipv4 ?? identifierOf(primary);
}

/**
 * All addresses, so that nothing that comes and goes with a link ends all sessions: GoBGP starts on addresses that are all there, or not at all. An
 * annotation may name fewer, beside another program that speaks BGP.
 */
function listenAddresses(annotated: readonly IpAddress[] | undefined, { families }: RoutingContext): readonly IpAddress[] {
  const usable = (annotated ?? []).filter(address => families.includes(familyOf(address)));
  return (usable.length > 0 ? usable : families.map(family => ANY_ADDRESS[family])).toSorted();
}

const ANY_ADDRESS: Readonly<Record<Family, IpAddress>> = { ipv4: mustParseAddress('0.0.0.0'), ipv6: mustParseAddress('::') };

function externalPeers(
  annotations: Node['annotations'],
  context: RoutingContext,
  options: RoutingOptions,
  problems: string[],
): readonly BgpPeer[] {
  const peers: BgpPeer[] = [];
  for (const peer of peersAsked(annotations, options, problems)) {
    const family = familyOf(peer.address);
    // Flags are those of all nodes, and a router may be one of them.
    if (context.ownAddresses.includes(peer.address)) continue;
    if (context.addresses[family] === undefined && peer.localAddress === undefined) {
      problems.push(`BGP peer ${peer.address} is left out: this node has no address of its family`);
      continue;
    }
    peers.push({
      address: peer.address,
      asn: peer.asn,
      // None where the node's address is on no link: the kernel is to choose.
      localAddress: peer.localAddress ?? context.sources[family],
      port: peer.port,
      password: peer.password,
      holdSeconds: options.holdSeconds,
      multihopTtl: options.multihopTtl,
      families: context.families,
      gracefulRestart: options.gracefulRestart,
      reflectorClusterId: undefined,
    });
  }
  return peers;
}

/** Peers given by flags are those of all nodes, and then annotations do not count. */
function peersAsked(annotations: Node['annotations'], { peers }: RoutingOptions, problems: string[]): readonly AnnotatedPeer[] {
  if (peers.length > 0) return peers.map(peer => ({ ...peer, localAddress: undefined }));
  const asked = peersOfAnnotations(annotations);
  problems.push(...asked.problems);
  return asked.peers;
}

const ANY = { neighbors: undefined, prefixes: undefined, origin: undefined, audience: undefined } as const;
const EVERY: Readonly<Record<Family, PrefixRange>> = {
  ipv4: { prefix: mustParsePrefix('0.0.0.0/0'), minLength: 0, maxLength: HOST_BITS.ipv4 },
  ipv6: { prefix: mustParsePrefix('::/0'), minLength: 0, maxLength: HOST_BITS.ipv6 },
};
const UNCHANGED: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };

/**
 * Never taken in, so that reflectors do not hand it on either: a default route, martians, anything inside our own pod prefixes, and what the
 * operator rejects. A statement's prefixes are of one family, as GoBGP's sets are.
 */
function importPolicy(podCIDRs: readonly IpPrefix[], rejected: readonly PrefixRange[]): BgpPolicy {
  const inside = podCIDRs.map(prefix => ({
    prefix,
    minLength: prefixLength(prefix),
    maxLength: HOST_BITS[prefixFamily(prefix)],
  }));
  const statements = [MARTIANS, inside, rejected].flatMap(ranges =>
    FAMILIES.flatMap((family): readonly BgpStatement[] => {
      const prefixes = ranges.filter(({ prefix }) => prefixFamily(prefix) === family);
      return prefixes.length === 0 ? [] : [{ ...ANY, prefixes, verdict: 'reject', actions: UNCHANGED }];
    }),
  );
  // GoBGP asks it of our own paths as well, and our pod prefixes are among what nobody else may tell.
  const own: BgpStatement = { ...ANY, origin: 'local', verdict: 'accept', actions: UNCHANGED };
  return { direction: 'import', statements: [own, ...statements], otherwise: 'accept' };
}

/**
 * What goes where is written into each path when it is made, so that this is constant: it names external peers, which change seldom, and neither
 * nodes nor Services. Nodes hear of our pods, the fabric of Services too; nobody hears of what another neighbour told us, but the clients of a
 * reflector of other nodes, and the fabric behind it.
 */
function exportPolicy(
  external: readonly IpAddress[],
  isReflector: boolean,
  actions: BgpActions,
  { advertisePodCidr }: RoutingOptions,
): BgpPolicy {
  const statement = (conditions: Partial<BgpStatement>, done: BgpActions = UNCHANGED): BgpStatement => ({
    ...ANY,
    verdict: 'accept',
    actions: done,
    ...conditions,
  });
  const neighbors = external.toSorted();
  // Our end of a session has an address of one family: a route of the other keeps its next hop, this node's address of its own family.
  const told = (conditions: Partial<BgpStatement>): readonly BgpStatement[] =>
    actions.nextHopSelf
      ? FAMILIES.flatMap(family => {
          const some = neighbors.filter(address => familyOf(address) === family);
          if (some.length === 0) return [];
          return [
            statement({ ...conditions, neighbors: some, prefixes: [EVERY[family]] }, actions),
            statement({ ...conditions, neighbors: some }, { ...actions, nextHopSelf: false }),
          ];
        })
      : [statement({ ...conditions, neighbors }, actions)];
  const toFabric: readonly BgpStatement[] =
    neighbors.length === 0
      ? []
      : [
          ...told({ origin: 'local', audience: 'fabric' }),
          ...(advertisePodCidr ? told({ origin: 'local', audience: 'everyone' }) : []),
          ...(advertisePodCidr && isReflector ? told({ origin: 'internal' }) : []),
          statement({ neighbors, verdict: 'reject' }),
        ];
  return {
    direction: 'export',
    statements: [
      ...toFabric,
      statement({ origin: 'local', audience: 'everyone' }),
      ...(isReflector ? [statement({ origin: 'internal' })] : []),
    ],
    otherwise: 'reject',
  };
}
