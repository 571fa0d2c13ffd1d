/**
 * Load-balancer addresses answered for on the local network (ARP, NDP), each by one node. All nodes choose it alike from the same objects: nobody is elected,
 * and nobody asks the others. Where they do not see the same yet, two may answer for a moment, and the announcement of the later one counts.
 *
 * One fragment a Service, and one for what the module needs itself. An event costs the Services that it is about; one about Nodes costs a hash for each address
 * and node, and then only the Services whose addresses move.
 */
import { areAllKnown, poolOf, poolsInForce } from '../../daemon/cluster/address-pools.ts';
import type { AddressPool, EndpointSlice, Kind, ObjectKey } from '../../daemon/cluster/kinds.ts';
import { differingKeys, patched } from '../../daemon/cluster/patched-map.ts';
import { RulesInForce } from '../../daemon/cluster/rules-in-force.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { type Diagnostic, type Entry, entry, type Fragment, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { Stable, sameList, sameText } from '../../daemon/reconcile/stable.ts';
import { type Announcer, announcersOf } from './announcers.ts';
import { type Candidacy, type Decision, Election } from './election.ts';
import { type AnnouncingLinks, announcingLinksOf, linksFor } from './links.ts';
import type { LanAnnouncerOptions } from './options.ts';
import { planOwn } from './own-plan.ts';
import { type ServiceWish, type WishRules, wishOf } from './service-wish.ts';

export function lanAnnouncerModule(options: LanAnnouncerOptions): Module {
  return new LanAnnouncer(options);
}

/** An address with the Services that have it, and what was decided of it. */
interface Claimed {
  /** Whose nodes may answer. */
  readonly pool: AddressPool | undefined;
  readonly candidacies: ReadonlyMap<ObjectKey, Candidacy>;
  readonly decision: Decision | undefined;
}

const NO_SLICES: readonly EndpointSlice[] = [];

class LanAnnouncer implements Module {
  readonly name = 'lan-announcer';
  readonly reads: readonly Kind[];
  readonly writes = ['sysctl', 'lanAddress'] as const;
  readonly #options: LanAnnouncerOptions;
  readonly #announcers = new Stable<readonly Announcer[]>(sameText);
  readonly #links = new Stable<AnnouncingLinks>(sameText);
  #from: readonly unknown[] = [];
  readonly #inForce: RulesInForce<LanAnnouncerOptions>;
  #poolsFrom: Snapshot['addressPools'];
  #rules: WishRules;
  #election = new Election([]);
  #electionOf: readonly Announcer[] | undefined;
  #linksThen: AnnouncingLinks | undefined;
  #nodeThen = '';
  #services: Snapshot['services'] = new Map();
  #slices: Snapshot['endpointSlicesOf'] = new Map();
  readonly #wishes = new Map<ObjectKey, ServiceWish>();
  readonly #claimed = new Map<IpAddress, Claimed>();
  /** What is to be done; kept until it is, so that a plan that fails forgets nothing. */
  readonly #staleWishes = new Set<ObjectKey>();
  readonly #staleAddresses = new Set<IpAddress>();
  readonly #staleFragments = new Set<ObjectKey>();
  #fragments: ReadonlyMap<OwnerKey, Fragment> = new Map();

  constructor(options: LanAnnouncerOptions) {
    this.#options = options;
    this.reads = ['Service', 'EndpointSlice', 'Node', 'Lease', ...(options.followsPools ? (['ConfigMap'] as const) : [])];
    this.#inForce = new RulesInForce(options);
    this.#rules = this.#rulesWith(undefined);
  }

  plan(snapshot: Snapshot): Plan {
    const changes = new Map<OwnerKey, Fragment | undefined>();
    this.#noteRules(snapshot);
    this.#noteServices(snapshot);
    const links = this.#noteNodes(snapshot, changes);
    try {
      this.#wish(snapshot);
      this.#decide();
      this.#write(snapshot.node.name, links, changes);
    } finally {
      // What was planned before a failure is stale no more.
      if (changes.size > 0) this.#fragments = patched(this.#fragments, changes);
    }
    return { fragments: this.#fragments };
  }

  #noteRules({ addressPools, services }: Snapshot): void {
    if (addressPools === this.#poolsFrom) return;
    this.#poolsFrom = addressPools;
    this.#rules = this.#rulesWith(addressPools);
    for (const key of services.keys()) this.#staleWishes.add(key);
    for (const [address, claimed] of this.#claimed) {
      this.#claimed.set(address, { ...claimed, pool: poolOf(address, this.#rules.pools) });
      this.#staleAddresses.add(address);
    }
  }

  #rulesWith(configured: Snapshot['addressPools']): WishRules {
    return {
      options: this.#inForce.with(configured),
      pools: poolsInForce(this.#options.flagRanges, configured),
      arePoolsKnown: !this.#options.followsPools || areAllKnown(configured),
    };
  }

  #noteServices({ services, endpointSlicesOf }: Snapshot): void {
    for (const key of differingKeys(this.#services, services)) this.#staleWishes.add(key);
    for (const key of differingKeys(this.#slices, endpointSlicesOf)) this.#staleWishes.add(key);
    this.#services = services;
    this.#slices = endpointSlicesOf;
  }

  #noteNodes(snapshot: Snapshot, changes: Map<OwnerKey, Fragment | undefined>): AnnouncingLinks {
    const { node, nodes, host, silentNodes } = snapshot;
    const from = [node, nodes, host, silentNodes, this.#rules];
    if (this.#linksThen !== undefined && sameList(this.#from, from)) return this.#linksThen;
    const announcers = this.#announcers.of(announcersOf(snapshot, this.#rules.pools));
    if (announcers !== this.#electionOf) {
      this.#electionOf = announcers;
      this.#election = new Election(announcers);
      for (const address of this.#claimed.keys()) this.#staleAddresses.add(address);
    }
    const links = this.#links.of(announcingLinksOf(node, host, this.#options));
    if (links !== this.#linksThen || node.name !== this.#nodeThen) {
      for (const key of this.#wishes.keys()) this.#staleFragments.add(key);
      const own = planOwn(links, this.#options);
      changes.set(ownerKey(own.owner), own);
      this.#linksThen = links;
      this.#nodeThen = node.name;
    }
    this.#from = from;
    return links;
  }

  #wish({ services, endpointSlicesOf }: Snapshot): void {
    for (const key of this.#staleWishes) {
      const service = services.get(key);
      const wish = service === undefined ? undefined : wishOf(service, endpointSlicesOf.get(key) ?? NO_SLICES, this.#rules);
      this.#replace(key, this.#wishes.get(key), wish);
      this.#staleWishes.delete(key);
    }
  }

  /** Endpoints that come and go mostly change no wish. */
  #replace(key: ObjectKey, former: ServiceWish | undefined, wish: ServiceWish | undefined): void {
    if (former === wish || (former !== undefined && wish !== undefined && sameText(former, wish))) return;
    for (const [address] of former?.candidacies ?? []) this.#claim(address, key, undefined);
    for (const [address, candidacy] of wish?.candidacies ?? []) this.#claim(address, key, candidacy);
    if (wish === undefined) this.#wishes.delete(key);
    else this.#wishes.set(key, wish);
    this.#staleFragments.add(key);
  }

  #claim(address: IpAddress, key: ObjectKey, candidacy: Candidacy | undefined): void {
    const former = this.#claimed.get(address);
    const candidacies = new Map(former?.candidacies);
    if (candidacy === undefined) candidacies.delete(key);
    else candidacies.set(key, candidacy);
    if (candidacies.size === 0) this.#claimed.delete(address);
    else {
      const pool = former === undefined ? poolOf(address, this.#rules.pools) : former.pool;
      this.#claimed.set(address, { pool, candidacies, decision: former?.decision });
    }
    this.#staleAddresses.add(address);
  }

  #decide(): void {
    for (const address of this.#staleAddresses) {
      const claimed = this.#claimed.get(address);
      if (claimed !== undefined) {
        const { pool, candidacies } = claimed;
        const decision = this.#election.decide(address, pool, [...candidacies.values()].sort(byService));
        if (claimed.decision === undefined || !sameDecision(claimed.decision, decision)) {
          this.#claimed.set(address, { pool, candidacies, decision });
          for (const key of candidacies.keys()) this.#staleFragments.add(key);
        }
      }
      this.#staleAddresses.delete(address);
    }
  }

  #write(nodeName: string, links: AnnouncingLinks, changes: Map<OwnerKey, Fragment | undefined>): void {
    for (const key of this.#staleFragments) {
      const wish = this.#wishes.get(key);
      const fragment = wish === undefined ? undefined : this.#fragmentOf(wish, nodeName, links);
      const former = this.#fragments.get(`Service ${key}`);
      if (former === undefined || fragment === undefined ? former !== fragment : !sameText(former, fragment))
        changes.set(`Service ${key}`, fragment);
      this.#staleFragments.delete(key);
    }
  }

  /** On most nodes most Services have none. */
  #fragmentOf(wish: ServiceWish, nodeName: string, links: AnnouncingLinks): Fragment | undefined {
    const entries: Entry[] = [];
    const diagnostics: Diagnostic[] = [...wish.diagnostics];
    for (const [address] of wish.candidacies) {
      const decision = this.#claimed.get(address)?.decision;
      if (decision?.owner === nodeName)
        entries.push(...linksFor(address, links).map(link => entry('lanAddress', { link, address })));
      if (decision?.teller === nodeName) diagnostics.push(...troublesOf(wish, address, decision));
    }
    return entries.length === 0 && diagnostics.length === 0 ? undefined : { owner: wish.owner, entries, diagnostics };
  }
}

/** What is said of several must not depend on who came first. */
function byService({ service: one }: Candidacy, { service: other }: Candidacy): number {
  return one < other ? -1 : 1;
}

function sameDecision(one: Decision, other: Decision): boolean {
  return (
    one.owner === other.owner &&
    one.trouble === other.trouble &&
    one.teller === other.teller &&
    sameList(one.missed, other.missed)
  );
}

function troublesOf(
  { owner }: ServiceWish,
  address: IpAddress,
  { owner: node, trouble, missed }: Decision,
): readonly Diagnostic[] {
  const subject = `Service ${owner.key}: load-balancer IP ${address}`;
  const told = (message: string): Diagnostic => ({ code: 'FW_LAN_UNANNOUNCED', object: owner, message });
  const troubles = trouble === undefined ? [] : [told(`${subject} is not announced on the local network: ${trouble}.`)];
  if (node === undefined || !missed.includes(owner.key)) return troubles;
  return [
    ...troubles,
    told(
      `${subject} is answered for by ${node}, where this Service has no endpoint: it shares the address with others whose endpoints are there, and its traffic policy is Local. Give it an address of its own, or set externalTrafficPolicy: Cluster.`,
    ),
  ];
}
