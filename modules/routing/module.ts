/**
 * Pod routing: pods of all nodes reach each other, and the fabric reaches them and Services.
 *
 * Planning is incremental: one event plans what it touches, a Node, a Service or a learned route, and everything only when what all
 * depend on has changed.
 */
import type { EndpointSlice, Node, ObjectKey, Service } from '../../daemon/cluster/kinds.ts';
import { differingKeys, patched } from '../../daemon/cluster/patched-map.ts';
import { RulesInForce } from '../../daemon/cluster/rules-in-force.ts';
import type { LearnedRoute, Rib, Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { type Fragment, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { Stable, sameText } from '../../daemon/reconcile/stable.ts';
import type { TableName } from '../../daemon/reconcile/tables.ts';
import { planAdvertisement } from './advertise.ts';
import { type BgpPlan, planBgp } from './bgp.ts';
import { type RoutingContext, routingContextOf } from './context.ts';
import { planRoute } from './learned-route.ts';
import { NodeIndex } from './node-index.ts';
import { isReached, type NodeSurroundings, planNode } from './node-plan.ts';
import type { RoutingOptions } from './options.ts';
import { hasEgress, type OwnSurroundings, planOwn } from './own-plan.ts';
import { sameBgpPlan } from './same-bgp-plan.ts';

export function routingModule(options: RoutingOptions): Module {
  const planner = new RoutingPlanner(options);
  return {
    name: 'routing',
    reads: ['Node', 'Service', 'EndpointSlice', ...(options.followsPools ? (['ConfigMap'] as const) : [])],
    writes: [
      'sysctl',
      'fouPort',
      'link',
      'ipset',
      'iptables',
      'unicastRoute',
      'rule',
      'cniConfig',
      'bgpServer',
      'bgpPolicy',
      'bgpPath',
      'bgpPeer',
    ],
    plan: snapshot => planner.plan(snapshot),
  };
}

/** While neighbours may still tell us of routes, those of an earlier run stay, and the tunnels they lead through. */
const UNSETTLED: readonly TableName[] = ['unicastRoute', 'link'];
const NO_SLICES: readonly EndpointSlice[] = [];
const NO_ROUTES: Rib['routes'] = new Map();

class RoutingPlanner {
  readonly #options: RoutingOptions;
  /** What Services may be announced at. */
  readonly #rules: RulesInForce<RoutingOptions>;
  readonly #context = new Stable<RoutingContext>(sameText);
  readonly #bgp = new Stable<BgpPlan>(sameBgpPlan);
  readonly #ofNodes = new Stable<NodeSurroundings>(sameNodeSurroundings);
  readonly #ofOwn = new Stable<OwnSurroundings>(sameOwnSurroundings);
  readonly #index = new NodeIndex();
  #nodes: ReadonlyMap<string, Node> = new Map();
  #services: ReadonlyMap<ObjectKey, Service> = new Map();
  #slices: ReadonlyMap<ObjectKey, readonly EndpointSlice[]> = new Map();
  #routes: Rib['routes'] = NO_ROUTES;
  #last:
    | {
        readonly context: RoutingContext;
        readonly ofNodes: NodeSurroundings;
        readonly ofOwn: OwnSurroundings;
        readonly hasServer: boolean;
        readonly rules: RoutingOptions;
      }
    | undefined;
  /** What is to be planned again; kept until done, so that a plan that fails forgets none. */
  readonly #staleNodes = new Set<string>();
  readonly #staleServices = new Set<ObjectKey>();
  readonly #staleRoutes = new Set<string>();
  #fragments: ReadonlyMap<OwnerKey, Fragment> = new Map();

  constructor(options: RoutingOptions) {
    this.#options = options;
    this.#rules = new RulesInForce(options);
  }

  plan(snapshot: Snapshot): Plan {
    const context = this.#context.of(routingContextOf(snapshot.node, snapshot.host, this.#options));
    this.#noteNodes(snapshot.nodes);
    this.#noteServices(snapshot);
    this.#noteRoutes(snapshot.rib.routes);
    const { capabilities } = snapshot.host;
    const bgp = this.#bgp.of(planBgp(snapshot.nodes.get(context.nodeName), context, this.#options));
    const setFamilies = context.families.filter(family => hasEgress(capabilities, family, this.#options));
    const ofNodes = this.#ofNodes.of({ context, identity: bgp.identity, setFamilies });
    const ofOwn = this.#ofOwn.of({ context, capabilities, bgp, elements: this.#index.elements });
    const rules = this.#rules.with(snapshot.addressPools);
    this.#noteSurroundings(context, ofNodes, bgp);
    this.#noteRules(snapshot.services, rules);
    const changes = new Map<OwnerKey, Fragment | undefined>();
    try {
      this.#planNodes(snapshot, ofNodes, changes);
      this.#planServices(snapshot, context, bgp, rules, changes);
      this.#planRoutes(snapshot.rib.routes, context, bgp, changes);
      if (this.#last?.ofOwn !== ofOwn) this.#put(planOwn(ofOwn, this.#options), changes);
      this.#last = { context, ofNodes, ofOwn, hasServer: bgp.server !== undefined, rules };
    } finally {
      // What was planned before a failure is stale no more.
      if (changes.size > 0) this.#fragments = patched(this.#fragments, changes);
    }
    return { fragments: this.#fragments, undecided: snapshot.rib.isSettled ? [] : UNSETTLED };
  }

  #noteNodes(nodes: ReadonlyMap<string, Node>): void {
    for (const name of differingKeys(this.#nodes, nodes)) {
      this.#staleNodes.add(name);
      const touched = this.#index.replace(this.#nodes.get(name), nodes.get(name));
      for (const prefix of touched) this.#staleRoutes.add(prefix);
    }
    this.#nodes = nodes;
  }

  #noteServices({ services, endpointSlicesOf }: Snapshot): void {
    for (const key of differingKeys(this.#services, services)) this.#staleServices.add(key);
    for (const key of differingKeys(this.#slices, endpointSlicesOf)) this.#staleServices.add(key);
    this.#services = services;
    this.#slices = endpointSlicesOf;
  }

  #noteRoutes(routes: Rib['routes']): void {
    for (const prefix of differingKeys(this.#routes, routes)) {
      this.#staleRoutes.add(prefix);
      this.#index.route(this.#routes.get(prefix), routes.get(prefix));
    }
    this.#routes = routes;
  }

  #noteSurroundings(context: RoutingContext, ofNodes: NodeSurroundings, bgp: BgpPlan): void {
    if (this.#last?.ofNodes !== ofNodes) for (const name of this.#nodes.keys()) this.#staleNodes.add(name);
    const hadServer = this.#last?.hasServer === true;
    if (this.#last?.context !== context || hadServer !== (bgp.server !== undefined)) {
      for (const prefix of this.#routes.keys()) this.#staleRoutes.add(prefix);
      for (const key of this.#services.keys()) this.#staleServices.add(key);
    }
  }

  #noteRules(services: ReadonlyMap<ObjectKey, Service>, rules: RoutingOptions): void {
    if ((this.#last?.rules ?? rules) === rules) return;
    for (const [key, { loadBalancerIPs }] of services) if (loadBalancerIPs.length > 0) this.#staleServices.add(key);
  }

  #planNodes({ nodes }: Snapshot, surroundings: NodeSurroundings, changes: Map<OwnerKey, Fragment | undefined>): void {
    for (const name of this.#staleNodes) {
      const node = nodes.get(name);
      if (node === undefined) changes.set(`Node ${name}`, undefined);
      else this.#put(planNode(node, surroundings, this.#options), changes);
      this.#staleNodes.delete(name);
    }
  }

  #planServices(
    { services, endpointSlicesOf }: Snapshot,
    context: RoutingContext,
    bgp: BgpPlan,
    rules: RoutingOptions,
    changes: Map<OwnerKey, Fragment | undefined>,
  ): void {
    for (const key of this.#staleServices) {
      const service = bgp.server === undefined ? undefined : services.get(key);
      const slices = endpointSlicesOf.get(key) ?? NO_SLICES;
      const fragment = service === undefined ? undefined : planAdvertisement(service, slices, context, rules);
      this.#putAt(`Service ${key}`, fragment, changes);
      this.#staleServices.delete(key);
    }
  }

  #planRoutes(routes: Rib['routes'], context: RoutingContext, bgp: BgpPlan, changes: Map<OwnerKey, Fragment | undefined>): void {
    const surroundings = {
      context,
      isNode: (address: IpAddress): boolean => this.#index.isNode(address),
      nodeAddresses: () => this.#index.addresses(),
    };
    for (const prefix of this.#staleRoutes) {
      // A speaker that was stopped tells of no withdrawals.
      const learned: LearnedRoute | undefined = bgp.server === undefined ? undefined : routes.get(prefix);
      // Where Node objects say the way to pods, no neighbour does.
      const isSaid = [...this.#index.nodesWith(prefix)].some(node => isReached(node, prefix as IpPrefix, context, this.#options));
      const fragment = learned === undefined || isSaid ? undefined : planRoute(learned, surroundings, this.#options);
      this.#putAt(`Route ${prefix}`, fragment, changes);
      this.#staleRoutes.delete(prefix);
    }
  }

  #put(fragment: Fragment, changes: Map<OwnerKey, Fragment | undefined>): void {
    this.#putAt(ownerKey(fragment.owner), fragment, changes);
  }

  /** A plan that comes out as before keeps its object. */
  #putAt(key: OwnerKey, fragment: Fragment | undefined, changes: Map<OwnerKey, Fragment | undefined>): void {
    const former = this.#fragments.get(key);
    if (former === undefined ? fragment === undefined : fragment !== undefined && sameFragment(former, fragment)) return;
    changes.set(key, fragment);
  }
}

/** Passwords do not show in text: a fragment with a peer that has one is never taken for the same. */
function sameFragment(former: Fragment, now: Fragment): boolean {
  return !hasPassword(former) && !hasPassword(now) && sameText(former, now);
}

function hasPassword({ entries }: Fragment): boolean {
  return entries.some(({ table, value }) => table === 'bgpPeer' && value.password.reveal() !== '');
}

function sameNodeSurroundings(former: NodeSurroundings, now: NodeSurroundings): boolean {
  return (
    former.context === now.context && sameText(former.setFamilies, now.setFamilies) && sameText(former.identity, now.identity)
  );
}

function sameOwnSurroundings(former: OwnSurroundings, now: OwnSurroundings): boolean {
  return (
    former.context === now.context &&
    former.bgp === now.bgp &&
    former.elements === now.elements &&
    sameText(former.capabilities, now.capabilities)
  );
}
