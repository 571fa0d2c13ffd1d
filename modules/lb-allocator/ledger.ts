/**
 * Who has which address and who waits, kept from plan to plan for one set of pools. What it says depends on the last snapshot alone; from the
 * former ones it knows what need not be looked at again.
 */
import type { Node, ObjectKey } from '../../daemon/cluster/kinds.ts';
import { differingKeys } from '../../daemon/cluster/patched-map.ts';
import type { NodeView, Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { sameList } from '../../daemon/reconcile/stable.ts';
import { allocate, type Failure, type Outcome, revoke, sameFailure, sameOutcome } from './allocate.ts';
import { type Claimant, claimantOf, type Place } from './claimant.ts';
import { type Aim, aimOf } from './demand.ts';
import { Occupancy } from './occupancy.ts';
import type { Pools } from './pools.ts';
import { DIFFERENT, type Waiter, Waiting } from './waiting.ts';

/** All there is to say of one Service. */
export interface Judgement {
  readonly claimant: Claimant;
  readonly aim: Aim;
  /** By address, who it must be left to. */
  readonly lost: ReadonlyMap<IpAddress, string>;
  /** By address that it keeps, the Node that has it as well. */
  readonly atNodes: ReadonlyMap<IpAddress, string>;
  readonly outcome: Outcome;
}

type Known = Pick<Snapshot, 'services' | 'namespaces'> & { readonly handedOver: Snapshot['allocation']['handedOver'] };

const NOTHING: Outcome = { granted: new Map(), failure: undefined };
const NONE: ReadonlyMap<IpAddress, string> = new Map();
const PREFIX = 'Service ';

export class Ledger {
  readonly pools: Pools;
  readonly #occupancy: Occupancy;
  readonly #waiting = new Waiting();
  #known: Known = { services: new Map(), namespaces: new Map(), handedOver: new Map() };
  #seen: { readonly nodes: ReadonlyMap<string, Node>; readonly node: NodeView } | undefined;
  #nodePlaces: readonly Place[] = [];
  readonly #claimants = new Map<ObjectKey, Claimant>();
  readonly #aims = new Map<ObjectKey, Aim>();
  /** By contested address, who of those who keep it must leave it to whom. */
  readonly #losers = new Map<IpAddress, ReadonlyMap<string, string>>();
  /** By address that Services keep, the Node that has it as well. */
  readonly #atNodes = new Map<IpAddress, string>();
  #outcomes: ReadonlyMap<Waiter, Outcome> = new Map();
  #hasGrants = false;
  /** Since the last allocation something changed that may make it come out different. */
  #isStale = false;

  constructor(pools: Pools) {
    this.pools = pools;
    this.#occupancy = new Occupancy(pools);
  }

  /** Takes in a snapshot; returns the keys of the Services of which something else is to be said now. */
  update(snapshot: Snapshot): ReadonlySet<ObjectKey> {
    const touched = new Set<IpAddress>();
    this.#takeNodes(snapshot, touched);
    const changed = this.#takeServices(snapshot, touched);
    for (const address of touched) this.#contest(address, changed);
    for (const key of changed) this.#aim(key);
    if (this.#isStale) this.#allocate(changed);
    return changed;
  }

  /** Undefined for a Service that the allocation has nothing to do with. */
  judgement(key: ObjectKey): Judgement | undefined {
    const claimant = this.#claimants.get(key);
    const aim = this.#aims.get(key);
    if (claimant === undefined || aim === undefined) return undefined;
    return { claimant, aim, lost: this.#lostOf(claimant), atNodes: this.#atNodesOf(claimant), outcome: this.#outcomeOf(key) };
  }

  #takeNodes({ nodes, node }: Snapshot, touched: Set<IpAddress>): void {
    if (nodes === this.#seen?.nodes && node === this.#seen.node) return;
    this.#seen = { nodes, node };
    const places = [...nodes.values()].flatMap(({ meta, internalIPs, externalIPs }) =>
      nodePlaces('node', meta.name, [...internalIPs, ...externalIPs]),
    );
    // Without a Node object, what we know of ourselves is from the host.
    if (!nodes.has(node.name)) places.push(...nodePlaces('host', node.name, node.addresses));
    if (sameList(places.map(placeText), this.#nodePlaces.map(placeText))) return;
    this.#replace(this.#nodePlaces, places, touched);
    this.#nodePlaces = places;
  }

  #takeServices({ services, namespaces, allocation: { handedOver } }: Snapshot, touched: Set<IpAddress>): Set<ObjectKey> {
    const known = this.#known;
    const stale = new Set([...differingKeys(known.services, services), ...differingKeys(known.handedOver, handedOver)]);
    const restless = differingKeys(known.namespaces, namespaces);
    if (restless.size > 0 && known.services.size > 0) {
      for (const key of this.#claimants.keys()) if (restless.has(key.slice(0, key.indexOf('/')))) stale.add(key);
    }
    this.#known = { services, namespaces, handedOver };
    const changed = new Set<ObjectKey>();
    for (const key of stale) {
      const service = services.get(key);
      const former = this.#claimants.get(key);
      const claimant =
        service === undefined ? undefined : claimantOf(service, namespaces.get(service.meta.namespace), handedOver, this.pools);
      if (former === undefined && claimant === undefined) continue;
      this.#replace(former?.places ?? [], claimant?.places ?? [], touched);
      if (claimant === undefined) this.#claimants.delete(key);
      else this.#claimants.set(key, claimant);
      changed.add(key);
    }
    return changed;
  }

  /** First those who come: an address that stays with its Service is free at no moment. */
  #replace(former: readonly Place[], now: readonly Place[], touched: Set<IpAddress>): void {
    for (const { address, holder } of now) this.#occupancy.add(address, holder);
    for (const { address, holder } of former) {
      const isFree = this.#occupancy.remove(address, holder);
      if (isFree && this.#waiting.size > 0) this.#isStale = true;
    }
    for (const { address } of [...former, ...now]) {
      touched.add(address);
      if (this.#hasGrants || this.#waiting.isWatched(address, this.#occupancy.keysAt(address))) this.#isStale = true;
    }
  }

  #contest(address: IpAddress, changed: Set<ObjectKey>): void {
    const former = this.#losers.get(address);
    const losers = this.#occupancy.losers(address);
    if (losers === undefined) this.#losers.delete(address);
    else this.#losers.set(address, losers);
    for (const name of new Set([...(former?.keys() ?? []), ...(losers?.keys() ?? [])])) {
      if (former?.get(name) !== losers?.get(name)) changed.add(name.slice(PREFIX.length));
    }
    this.#noteNode(address, changed);
  }

  #noteNode(address: IpAddress, changed: Set<ObjectKey>): void {
    const node = this.#occupancy.node(address);
    if (node === this.#atNodes.get(address)) return;
    if (node === undefined) this.#atNodes.delete(address);
    else this.#atNodes.set(address, node);
    for (const name of this.#occupancy.keepers(address)) changed.add(name.slice(PREFIX.length));
  }

  #aim(key: ObjectKey): void {
    const claimant = this.#claimants.get(key);
    const waiter = this.#waiting.of(key);
    if (waiter !== undefined) {
      if (this.#outcomes.has(waiter)) this.#isStale = true;
      this.#waiting.remove(key);
    }
    if (claimant === undefined) {
      this.#aims.delete(key);
      return;
    }
    const aim = aimOf(claimant, this.#lostOf(claimant), this.pools);
    this.#aims.set(key, aim);
    if (aim.demand === undefined) return;
    const { queueKey } = this.#waiting.add(claimant, aim.demand);
    // Where nothing was left for others like it and nothing changed, nothing is for this one.
    if (this.#hasGrants || this.#waiting.queue(queueKey)?.failure === undefined) this.#isStale = true;
  }

  #allocate(changed: Set<ObjectKey>): void {
    const former = this.#outcomes;
    const failures = new Map([...this.#waiting.queues].map(({ key, failure }) => [key, failure] as const));
    revoke(former, this.#occupancy);
    const outcomes = allocate(this.#waiting, this.#occupancy, this.pools);
    for (const [waiter, outcome] of outcomes) {
      if (!sameOutcome(former.get(waiter) ?? NOTHING, outcome)) changed.add(waiter.claimant.key);
    }
    for (const waiter of former.keys()) if (!outcomes.has(waiter)) changed.add(waiter.claimant.key);
    for (const { key, failure, waiters } of this.#waiting.queues) {
      if (key === DIFFERENT || sameFailure(failure, failures.get(key))) continue;
      for (const { claimant } of waiters) changed.add(claimant.key);
    }
    this.#outcomes = outcomes;
    this.#hasGrants = [...outcomes.values()].some(({ granted }) => granted.size > 0);
    this.#isStale = false;
  }

  #outcomeOf(key: ObjectKey): Outcome {
    const waiter = this.#waiting.of(key);
    if (waiter === undefined) return NOTHING;
    const outcome = this.#outcomes.get(waiter);
    if (outcome !== undefined) return outcome;
    const failure: Failure | undefined = this.#waiting.queue(waiter.queueKey)?.failure;
    return failure === undefined ? NOTHING : { granted: NOTHING.granted, failure };
  }

  #lostOf({ name, holdings }: Claimant): ReadonlyMap<IpAddress, string> {
    let lost: Map<IpAddress, string> | undefined;
    for (const address of [...holdings.kept.values(), ...holdings.surplus]) {
      const winner = this.#losers.get(address)?.get(name);
      if (winner !== undefined) lost = (lost ?? new Map<IpAddress, string>()).set(address, winner);
    }
    return lost ?? NONE;
  }

  #atNodesOf({ holdings }: Claimant): ReadonlyMap<IpAddress, string> {
    if (this.#atNodes.size === 0) return NONE;
    return new Map(
      [...holdings.kept.values(), ...holdings.surplus].flatMap(address => {
        const node = this.#atNodes.get(address);
        return node === undefined ? [] : [[address, node] as const];
      }),
    );
  }
}

function nodePlaces(ground: 'node' | 'host', name: string, addresses: readonly IpAddress[]): Place[] {
  const holder = { name: `Node ${name}`, ground, sharing: undefined, seniority: undefined } as const;
  return [...new Set(addresses)].map(address => ({ address, holder }));
}

function placeText({ address, holder }: Place): string {
  return `${address} ${holder.ground} ${holder.name}`;
}
