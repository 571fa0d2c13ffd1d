/** The pods of this node, and the policies that select each: what a change of either means for the groups. */
import type { NetworkPolicy, ObjectKey, Pod } from '../../daemon/cluster/kinds.ts';
import { selects } from '../../daemon/cluster/policy-subjects.ts';
import { type Family, familyOf } from '../../daemon/net/address.ts';
import { groupChain, groupOf } from './names.ts';
import { DIRECTIONS, type Direction, type Group } from './program.ts';

/** A group with the pods that are in it. */
export interface GroupRecord {
  readonly group: Group;
  readonly pods: Set<ObjectKey>;
}

interface Subject {
  readonly pod: Pod;
  readonly selectedBy: Set<ObjectKey>;
  /** Names of the groups' chains, by direction. */
  readonly groups: Record<Direction, string | undefined>;
}

export class Subjects {
  readonly #subjects = new Map<ObjectKey, Subject>();
  readonly #ofNamespace = new Map<string, Set<ObjectKey>>();
  readonly #policies = new Map<ObjectKey, NetworkPolicy>();
  readonly #policiesOf = new Map<string, Set<ObjectKey>>();
  /** How many pods of this node a policy selects. */
  readonly #selected = new Map<ObjectKey, number>();
  readonly #groups = new Map<string, GroupRecord>();

  isLocal(key: ObjectKey): boolean {
    return this.#subjects.has(key);
  }

  keys(): Iterable<ObjectKey> {
    return this.#subjects.keys();
  }

  /** By name of the chain. */
  get groups(): ReadonlyMap<string, GroupRecord> {
    return this.#groups;
  }

  /** The policy, where it selects a pod of this node. */
  activePolicy(key: ObjectKey): NetworkPolicy | undefined {
    return (this.#selected.get(key) ?? 0) > 0 ? this.#policies.get(key) : undefined;
  }

  groupOf(key: ObjectKey, direction: Direction): Group | undefined {
    const name = this.#subjects.get(key)?.groups[direction];
    return name === undefined ? undefined : this.#groups.get(name)?.group;
  }

  /** Families of which a pod of this node has an address. */
  families(): ReadonlySet<Family> {
    const found = new Set<Family>();
    for (const { pod } of this.#subjects.values()) for (const address of pod.addresses) found.add(familyOf(address));
    return found;
  }

  /** The pod is now so; undefined: none of this node's. Returns the policies that select it or did. */
  putPod(key: ObjectKey, pod: Pod | undefined): readonly ObjectKey[] {
    const former = this.#subjects.get(key);
    if (former !== undefined) this.#remove(key, former);
    const before = former === undefined ? [] : [...former.selectedBy];
    if (pod === undefined) return before;
    const { namespace } = pod.meta;
    const selectedBy = new Set<ObjectKey>();
    for (const name of this.#policiesOf.get(namespace) ?? []) {
      const policy = this.#policies.get(name);
      if (policy !== undefined && selects(policy, pod)) selectedBy.add(name);
    }
    const subject: Subject = { pod, selectedBy, groups: { ingress: undefined, egress: undefined } };
    this.#subjects.set(key, subject);
    addTo(this.#ofNamespace, namespace, key);
    for (const name of selectedBy) this.#count(name, 1);
    this.#regroup(key, subject);
    return [...before, ...selectedBy];
  }

  /** The policy is now so, or gone. Returns the pods that it selects or did. */
  putPolicy(key: ObjectKey, policy: NetworkPolicy | undefined): readonly ObjectKey[] {
    const former = this.#policies.get(key);
    const namespace = (policy ?? former)?.meta.namespace ?? '';
    if (policy === undefined) {
      this.#policies.delete(key);
      removeFrom(this.#policiesOf, namespace, key);
    } else {
      this.#policies.set(key, policy);
      addTo(this.#policiesOf, namespace, key);
    }
    const affected: ObjectKey[] = [];
    for (const pod of this.#ofNamespace.get(namespace) ?? []) {
      const subject = this.#subjects.get(pod);
      if (subject === undefined) continue;
      const was = subject.selectedBy.has(key);
      const is = policy !== undefined && selects(policy, subject.pod);
      if (!was && !is) continue;
      affected.push(pod);
      if (is && !was) subject.selectedBy.add(key);
      if (was && !is) subject.selectedBy.delete(key);
      this.#count(key, Number(is) - Number(was));
      // Also where it goes on being selected: the policy may cover other directions now.
      this.#regroup(pod, subject);
    }
    return affected;
  }

  /** Removes and returns the groups without pods, by name of the chain. */
  sweepGroups(): ReadonlyMap<string, GroupRecord> {
    const empty = new Map([...this.#groups].filter(([, { pods }]) => pods.size === 0));
    for (const name of empty.keys()) this.#groups.delete(name);
    return empty;
  }

  #remove(key: ObjectKey, { pod, selectedBy, groups }: Subject): void {
    this.#subjects.delete(key);
    removeFrom(this.#ofNamespace, pod.meta.namespace, key);
    for (const name of selectedBy) this.#count(name, -1);
    for (const direction of DIRECTIONS) this.#leave(groups[direction], key);
  }

  #regroup(key: ObjectKey, subject: Subject): void {
    for (const direction of DIRECTIONS) {
      const group = this.#groupFor(subject, direction);
      const name = group === undefined ? undefined : groupChain(group);
      if (name === subject.groups[direction]) continue;
      this.#leave(subject.groups[direction], key);
      subject.groups[direction] = name;
      if (group === undefined || name === undefined) continue;
      const record = this.#groups.get(name) ?? { group, pods: new Set<ObjectKey>() };
      record.pods.add(key);
      this.#groups.set(name, record);
    }
  }

  #groupFor({ selectedBy }: Subject, direction: Direction): Group | undefined {
    const policies = [...selectedBy].filter(name => this.#policies.get(name)?.[direction] !== undefined).sort();
    return policies.length === 0 ? undefined : groupOf(direction, policies);
  }

  #leave(name: string | undefined, key: ObjectKey): void {
    if (name !== undefined) this.#groups.get(name)?.pods.delete(key);
  }

  #count(policy: ObjectKey, step: number): void {
    const count = (this.#selected.get(policy) ?? 0) + step;
    if (count === 0) this.#selected.delete(policy);
    else this.#selected.set(policy, count);
  }
}

function addTo(map: Map<string, Set<ObjectKey>>, name: string, key: ObjectKey): void {
  const known = map.get(name);
  if (known === undefined) map.set(name, new Set([key]));
  else known.add(key);
}

function removeFrom(map: Map<string, Set<ObjectKey>>, name: string, key: ObjectKey): void {
  const known = map.get(name);
  known?.delete(key);
  if (known?.size === 0) map.delete(name);
}
