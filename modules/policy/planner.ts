/** One plan after another for one node: what changed since the last snapshot is planned again, and what that touches. */
import type { NetworkPolicy, ObjectKey } from '../../daemon/cluster/kinds.ts';
import { differingKeys, patched } from '../../daemon/cluster/patched-map.ts';
import { isOfNode } from '../../daemon/cluster/policy-subjects.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { type Family, familyOf } from '../../daemon/net/address.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { type Entry, entry, type Fragment, type ObjectRef, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import { sameList, sameText } from '../../daemon/reconcile/stable.ts';
import type { IpSetType } from '../../daemon/reconcile/tables.ts';
import { compilePolicy } from './compile.ts';
import { FAMILIES, filteredFamilies, type PolicyContext } from './context.ts';
import { nodeDiagnostics, policyDiagnostics } from './diagnostics.ts';
import { dispatchEntries, type FrameContext, frameEntries, MOST_GROUPS_IN_A_ROW } from './emit-frame.ts';
import { groupEntries, policyEntries, policyRules } from './emit-iptables.ts';
import { ofFamily, SETS } from './names.ts';
import type { PolicyOptions } from './options.ts';
import { elementsOfPod, type PodElements } from './pod-elements.ts';
import { PodIndex } from './pod-index.ts';
import { DIRECTIONS, type Direction, type PolicyProgram } from './program.ts';
import { type Selection, Selections } from './selections.ts';
import { selfEntries, servicePortEntries } from './service-elements.ts';
import { type GroupRecord, Subjects } from './subjects.ts';
import { sysctlEntries } from './sysctls.ts';

/** A policy that selects a pod of this node, and so is rendered here. */
interface ActivePolicy {
  readonly policy: NetworkPolicy;
  readonly programs: readonly PolicyProgram[];
  /** Where it has a chain: `ipv4 ingress`. */
  readonly chains: ReadonlySet<string>;
}

/** Sets that Services fill. */
const SERVICE_SETS: readonly (readonly [string, IpSetType])[] = [
  [SETS.servicePorts, 'hash:ip,port'],
  [SETS.self, 'hash:ip,port,ip'],
];

/** Fragments that are other now; undefined for one that is gone. */
type Changes = Map<OwnerKey, Fragment | undefined>;

/** What is to be planned again in one pass. */
interface Stale {
  readonly pods: Set<ObjectKey>;
  readonly policies: Set<ObjectKey>;
  readonly services: Set<ObjectKey>;
}

export class PolicyPlanner {
  readonly #context: PolicyContext;
  #options: PolicyOptions;
  readonly #families: readonly Family[];
  readonly #frame: FrameContext;
  readonly #index = new PodIndex();
  readonly #subjects = new Subjects();
  readonly #selections = new Selections();
  readonly #active = new Map<ObjectKey, ActivePolicy>();
  readonly #elements = new Map<ObjectKey, PodElements>();
  /** Sizes of the sets of each selection, as they were handed out. */
  readonly #sizes = new Map<string, readonly number[]>();
  readonly #groups = new Set<string>();
  /** Directions whose groups are found by buckets. */
  readonly #bucketed = new Set<Direction>();
  /** Elements that Services put into each set. */
  readonly #serviceElements = new Map<string, number>();
  #last: Pick<Snapshot, 'pods' | 'namespaces' | 'networkPolicies' | 'services' | 'endpointSlicesOf'> = {
    pods: new Map(),
    namespaces: new Map(),
    networkPolicies: new Map(),
    services: new Map(),
    endpointSlicesOf: new Map(),
  };
  #fragments: ReadonlyMap<OwnerKey, Fragment> = new Map();

  constructor(context: PolicyContext, options: PolicyOptions, familiesOfPods: ReadonlySet<Family> = new Set()) {
    this.#context = context;
    this.#options = options;
    this.#families = filteredFamilies(context, familiesOfPods, options);
    this.#frame = { families: this.#families, podCIDRs: context.podCIDRs, hasLog: context.capabilities.nflog };
  }

  /** One that knows of which families the pods of this node have addresses. */
  withFamiliesOfPods(): PolicyPlanner {
    return new PolicyPlanner(this.#context, this.#options, this.#subjects.families());
  }

  /**
   * All that is wanted for this snapshot, or word that other families than so far are to be filtered. `serviceRanges` stands for that of the options,
   * and is another object only where it is another list.
   */
  plan(snapshot: Snapshot, serviceRanges: readonly IpPrefix[]): ReadonlyMap<OwnerKey, Fragment> | 'other families' {
    const stale: Stale = { pods: new Set(), policies: new Set(), services: new Set() };
    const changes: Changes = new Map();
    this.#takePolicies(snapshot, stale);
    this.#takePods(snapshot, stale);
    if (!sameList(this.#families, filteredFamilies(this.#context, this.#subjects.families(), this.#options))) {
      return 'other families';
    }
    this.#takeNamespaces(snapshot, stale);
    const hasOtherRanges = this.#takeServices(snapshot, serviceRanges, stale);
    if (this.#families.length > 0) this.#render(snapshot, stale, changes);
    if (this.#fragments.size === 0 || hasOtherRanges) this.#renderFrame(changes);
    this.#last = snapshot;
    if (changes.size > 0) this.#fragments = patched(this.#fragments, changes);
    return this.#fragments;
  }

  #takePolicies({ networkPolicies }: Snapshot, stale: Stale): void {
    for (const key of differingKeys(this.#last.networkPolicies, networkPolicies)) {
      stale.policies.add(key);
      for (const pod of this.#subjects.putPolicy(key, networkPolicies.get(key))) stale.pods.add(pod);
    }
  }

  #takePods({ pods }: Snapshot, stale: Stale): void {
    const node = { name: this.#context.nodeName, addresses: this.#context.nodeAddresses };
    for (const key of differingKeys(this.#last.pods, pods)) {
      stale.pods.add(key);
      for (const other of this.#index.put(key, pods.get(key))) stale.pods.add(other);
      const pod = this.#index.get(key);
      const subject = pod !== undefined && isOfNode(pod, node) ? pod : undefined;
      for (const policy of this.#subjects.putPod(key, subject)) stale.policies.add(policy);
    }
  }

  #takeNamespaces({ namespaces }: Snapshot, stale: Stale): void {
    for (const name of differingKeys(this.#last.namespaces, namespaces)) {
      this.#selections.forgetNamespace(name);
      for (const pod of this.#index.ofNamespace(name)) stale.pods.add(pod);
    }
  }

  /** Returns whether the ranges are others than before: then it is asked anew of every Service which of its addresses are outside. */
  #takeServices({ services }: Snapshot, serviceRanges: readonly IpPrefix[], stale: Stale): boolean {
    const hasOtherRanges = this.#options.serviceRanges !== serviceRanges;
    if (hasOtherRanges) this.#options = { ...this.#options, serviceRanges };
    for (const key of differingKeys(this.#last.services, services)) stale.services.add(key);
    if (hasOtherRanges) for (const key of services.keys()) stale.services.add(key);
    return hasOtherRanges;
  }

  #render(snapshot: Snapshot, stale: Stale, changes: Changes): void {
    const revisited = new Set<ObjectKey>();
    const resized = new Set<Selection>();
    for (const key of stale.policies) {
      const { hasOtherChains, selections } = this.#renderPolicy(key, changes);
      if (hasOtherChains) revisited.add(key);
      for (const selection of selections) resized.add(selection);
      for (const selection of selections) for (const pod of this.#podsFor(selection, snapshot)) stale.pods.add(pod);
    }
    const swept = this.#subjects.sweepGroups();
    this.#countGroups(stale);
    const unused = this.#selections.sweep();
    for (const { pods } of unused) for (const pod of pods) stale.pods.add(pod);
    for (const key of stale.pods) for (const selection of this.#renderPod(key, snapshot, changes)) resized.add(selection);
    for (const selection of resized) this.#renderSelection(selection, changes);
    for (const { name } of unused) {
      this.#sizes.delete(name);
      changes.set(ownerKey(selectionRef(name)), undefined);
    }
    this.#renderGroups(swept, revisited, changes);
    this.#renderServices(snapshot, stale, changes);
  }

  /** Whether the chains it has are others than before, and the selections that nobody used before. */
  #renderPolicy(key: ObjectKey, changes: Changes): { hasOtherChains: boolean; selections: readonly Selection[] } {
    const policy = this.#subjects.activePolicy(key);
    const former = this.#active.get(key);
    if (policy === former?.policy) return { hasOtherChains: false, selections: [] };
    const programs = policy === undefined ? [] : DIRECTIONS.flatMap(direction => compilePolicy(policy, direction) ?? []);
    const chains = new Set(
      programs.flatMap(program =>
        this.#families.flatMap(family => (policyRules(program, family).length > 0 ? [`${family} ${program.direction}`] : [])),
      ),
    );
    // What both use is kept: it is released after it was used again.
    const selections = programs.flatMap(program => this.#selections.use(program));
    for (const program of former?.programs ?? []) this.#selections.release(program);
    if (policy === undefined) this.#active.delete(key);
    else this.#active.set(key, { policy, programs, chains });
    const owner: ObjectRef = { kind: 'NetworkPolicy', key, since: policy?.meta.creationTimestamp ?? 0 };
    const entries = programs.flatMap(program => policyEntries(program, this.#families));
    changes.set(
      ownerKey(owner),
      policy === undefined ? undefined : { owner, entries, diagnostics: policyDiagnostics(policy, owner) },
    );
    return { hasOtherChains: former === undefined || chains.symmetricDifference(former.chains).size > 0, selections };
  }

  #podsFor(selection: Selection, { namespaces }: Snapshot): readonly ObjectKey[] {
    return [...this.#index.namespaces()].flatMap(name =>
      this.#selections.includesNamespace(selection, name, namespaces.get(name))
        ? [...this.#index.ofNamespace(name)].filter(key => {
            const pod = this.#index.get(key);
            return pod !== undefined && this.#selections.includes(selection, pod, this.#subjects.isLocal(key));
          })
        : [],
    );
  }

  /** Returns the selections that the pod is in, or was. */
  #renderPod(key: ObjectKey, { namespaces }: Snapshot, changes: Changes): readonly Selection[] {
    const pod = this.#index.get(key);
    const former = this.#elements.get(key);
    const isLocal = this.#subjects.isLocal(key);
    const next =
      pod === undefined
        ? NO_ELEMENTS
        : elementsOfPod(
            pod,
            this.#index.addressesOf(key).filter(address => this.#families.includes(familyOf(address))),
            this.#selections.of(pod, namespaces.get(pod.meta.namespace), isLocal),
            isLocal
              ? {
                  groupOf: direction => this.#subjects.groupOf(key, direction),
                  hasBuckets: direction => this.#bucketed.has(direction),
                  defaultDeny: this.#options.defaultDeny,
                }
              : undefined,
          );
    for (const { selection, elements } of former?.shares ?? []) {
      selection.pods.delete(key);
      for (const family of FAMILIES) selection.elements[family] -= elements[family];
    }
    for (const { selection, elements } of next.shares) {
      selection.pods.add(key);
      for (const family of FAMILIES) selection.elements[family] += elements[family];
    }
    if (pod === undefined || next.entries.length === 0) this.#elements.delete(key);
    else this.#elements.set(key, next);
    const selections = [...(former?.shares ?? []), ...next.shares].map(({ selection }) => selection);
    const owner: ObjectRef = { kind: 'Pod', key, since: pod?.meta.creationTimestamp ?? 0 };
    if (this.#isAsBefore(owner, former?.entries ?? [], next.entries)) return selections;
    changes.set(ownerKey(owner), next.entries.length === 0 ? undefined : { owner, entries: next.entries, diagnostics: [] });
    return selections;
  }

  #renderSelection({ name, chosen, elements }: Selection, changes: Changes): void {
    const sizes = this.#families.map(family => maxElementsFor(elements[family]));
    const former = this.#sizes.get(name);
    if (former !== undefined && sameList(former, sizes)) return;
    this.#sizes.set(name, sizes);
    const type = chosen.by === 'members' ? 'hash:ip' : 'hash:ip,port';
    const entries = this.#families.map((family, index) =>
      entry('ipset', { kind: 'set', name: ofFamily(name, family), type, family, maxElements: sizes[index] ?? maxElementsFor(0) }),
    );
    const owner = selectionRef(name);
    changes.set(ownerKey(owner), { owner, entries, diagnostics: [] });
  }

  /** Groups that came or went, and those of policies whose chains did. */
  #renderGroups(swept: ReadonlyMap<string, GroupRecord>, revisited: ReadonlySet<ObjectKey>, changes: Changes): void {
    const dispatches = new Set<Direction>();
    for (const [name, { group }] of swept) {
      this.#groups.delete(name);
      dispatches.add(group.direction);
      changes.set(ownerKey(groupRef(name)), undefined);
    }
    for (const [name, { group }] of this.#subjects.groups) {
      const isNew = !this.#groups.has(name);
      if (!isNew && !group.policies.some(policy => revisited.has(policy))) continue;
      if (isNew) dispatches.add(group.direction);
      this.#groups.add(name);
      const owner = groupRef(name);
      const entries = groupEntries(group, {
        families: this.#families,
        hasLog: this.#frame.hasLog,
        hasChain: (policy, family) => this.#active.get(policy)?.chains.has(`${family} ${group.direction}`) === true,
      });
      changes.set(ownerKey(owner), { owner, entries, diagnostics: [] });
    }
    for (const direction of DIRECTIONS) {
      if (dispatches.has(direction) || this.#fragments.size === 0) this.#renderDispatch(direction, changes);
    }
  }

  /** All pods of this node are in other sets where groups become many or few. */
  #countGroups(stale: Stale): void {
    for (const direction of DIRECTIONS) {
      let count = 0;
      for (const { group } of this.#subjects.groups.values()) if (group.direction === direction) count++;
      const isMany = count > MOST_GROUPS_IN_A_ROW;
      if (isMany === this.#bucketed.has(direction)) continue;
      if (isMany) this.#bucketed.add(direction);
      else this.#bucketed.delete(direction);
      for (const key of this.#subjects.keys()) stale.pods.add(key);
    }
  }

  #renderDispatch(direction: Direction, changes: Changes): void {
    const groups = [...this.#subjects.groups]
      .filter(([, { group }]) => group.direction === direction)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { group }]) => group);
    const owner = moduleRef(direction);
    changes.set(ownerKey(owner), {
      owner,
      entries: dispatchEntries(direction, groups, this.#frame),
      diagnostics: [],
    });
  }

  /** What is known of Services: the ports that no range of the flags holds, and the endpoints of this node. */
  #renderServices({ services, endpointSlicesOf }: Snapshot, stale: Stale, changes: Changes): void {
    for (const key of stale.services) {
      const service = services.get(key);
      const owner: ObjectRef = { kind: 'Service', key, since: service?.meta.creationTimestamp ?? 0 };
      const entries = service === undefined ? [] : servicePortEntries(service, this.#families, this.#options);
      this.#renderElements(SETS.servicePorts, owner, entries, changes);
    }
    for (const key of differingKeys(this.#last.endpointSlicesOf, endpointSlicesOf)) {
      const entries = selfEntries(endpointSlicesOf.get(key) ?? [], this.#context.nodeName, this.#families);
      this.#renderElements(SETS.self, { kind: 'EndpointSlice', key, since: 0 }, entries, changes);
    }
    for (const [set, type] of SERVICE_SETS) this.#renderServiceSet(set, type, changes);
  }

  #renderElements(set: string, owner: ObjectRef, entries: readonly Entry[], changes: Changes): void {
    const former = this.#fragments.get(ownerKey(owner))?.entries ?? [];
    if (this.#isAsBefore(owner, former, entries)) return;
    for (const family of FAMILIES) {
      const name = ofFamily(set, family);
      const count = this.#serviceElements.get(name) ?? 0;
      this.#serviceElements.set(name, count + countOf(entries, family) - countOf(former, family));
    }
    changes.set(ownerKey(owner), entries.length === 0 ? undefined : { owner, entries, diagnostics: [] });
  }

  #renderServiceSet(set: string, type: IpSetType, changes: Changes): void {
    const sizes = this.#families.map(family => maxElementsFor(this.#serviceElements.get(ofFamily(set, family)) ?? 0));
    const former = this.#sizes.get(set);
    if (former !== undefined && sameList(former, sizes)) return;
    this.#sizes.set(set, sizes);
    const owner = moduleRef(set);
    const entries = this.#families.map((family, index) =>
      entry('ipset', {
        kind: 'set',
        name: ofFamily(set, family),
        type,
        family,
        maxElements: sizes[index] ?? maxElementsFor(0),
      }),
    );
    changes.set(ownerKey(owner), { owner, entries, diagnostics: [] });
  }

  /** Whether the owner has a fragment of these entries, or none where there are none. An object made anew is another owner. */
  #isAsBefore(owner: ObjectRef, former: readonly Entry[], next: readonly Entry[]): boolean {
    if (!hasSameKeys(former, next)) return false;
    return next.length === 0 || this.#fragments.get(ownerKey(owner))?.owner.since === owner.since;
  }

  /** What depends on the node alone, so once. */
  #renderFrame(changes: Changes): void {
    const owner = moduleRef('');
    const entries =
      this.#families.length === 0 ? [] : [...sysctlEntries(this.#families), ...frameEntries(this.#frame, this.#options)];
    const diagnostics = nodeDiagnostics(owner, this.#context, this.#families, this.#options);
    const fragment = { owner, entries, diagnostics };
    const former = this.#fragments.get(ownerKey(owner));
    if (former === undefined || !sameText(former, fragment)) changes.set(ownerKey(owner), fragment);
  }
}

const NO_ELEMENTS: PodElements = { shares: [], entries: [] };

function countOf(entries: readonly Entry[], family: Family): number {
  return entries.filter(({ key }) => key.startsWith('inet6:') === (family === 'ipv6')).length;
}

function hasSameKeys(former: readonly Entry[], next: readonly Entry[]): boolean {
  return former.length === next.length && former.every(({ key }, index) => key === next[index]?.key);
}

function moduleRef(part: string): ObjectRef {
  return { kind: 'Module', key: part === '' ? 'policy' : `policy/${part}`, since: 0 };
}

function groupRef(name: string): ObjectRef {
  return { kind: 'PolicyGroup', key: name, since: 0 };
}

function selectionRef(name: string): ObjectRef {
  return { kind: 'Selection', key: name, since: 0 };
}
