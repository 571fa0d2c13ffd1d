/**
 * What the rules of this node choose pods by: selections of peers and named ports, each with the pods that are in it now. One that many
 * policies use is here once; it goes with the last of them.
 */
import type { Namespace, ObjectKey, Pod } from '../../daemon/cluster/kinds.ts';
import { matchesLabels } from '../../daemon/cluster/selectors.ts';
import type { Family } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { scopeOf } from './emit-iptables.ts';
import { membersSet, namedPortSet } from './names.ts';
import type { Members, PolicyProgram } from './program.ts';
import { includesNamespace } from './select.ts';

/** What a set stands for. */
export type Chosen =
  | { readonly by: 'members'; readonly members: Members }
  | { readonly by: 'port'; readonly scope: 'node' | 'cluster'; readonly protocol: Protocol; readonly name: string };

export interface Selection {
  /** Of its set, without the prefix of the family. */
  readonly name: string;
  readonly chosen: Chosen;
  readonly pods: Set<ObjectKey>;
  /** Elements of its sets, by family. */
  readonly elements: Record<Family, number>;
  /** Policies' directions that use it. */
  users: number;
}

export class Selections {
  readonly #selections = new Map<string, Selection>();
  /** Selections that pods of a namespace can be in, by name; made when asked for, and kept up to date from then on. */
  readonly #ofNamespace = new Map<string, { readonly namespace: Namespace | undefined; selections: readonly Selection[] }>();

  values(): Iterable<Selection> {
    return this.#selections.values();
  }

  /** Returns the selections that are new by this. */
  use(program: PolicyProgram): readonly Selection[] {
    return selectionsOf(program).flatMap(([name, chosen]) => {
      const known = this.#selections.get(name);
      if (known !== undefined) {
        known.users++;
        return [];
      }
      const selection: Selection = { name, chosen, pods: new Set(), elements: { ipv4: 0, ipv6: 0 }, users: 1 };
      this.#selections.set(name, selection);
      for (const [of, known] of this.#ofNamespace) {
        if (this.includesNamespace(selection, of, known.namespace))
          known.selections = [...known.selections, selection].sort(byName);
      }
      return [selection];
    });
  }

  /** Takes back a {@link use}. What nobody uses any more stays until {@link sweep}: another policy may use it in the same breath. */
  release(program: PolicyProgram): void {
    for (const [name] of selectionsOf(program)) {
      const known = this.#selections.get(name);
      if (known !== undefined) known.users--;
    }
  }

  /** Removes and returns the selections that nobody uses any more. */
  sweep(): readonly Selection[] {
    const unused = [...this.#selections.values()].filter(({ users }) => users === 0);
    for (const { name } of unused) this.#selections.delete(name);
    if (unused.length === 0) return unused;
    const gone = new Set(unused);
    for (const known of this.#ofNamespace.values()) known.selections = known.selections.filter(selection => !gone.has(selection));
    return unused;
  }

  /** The labels of a namespace are others now. */
  forgetNamespace(name: string): void {
    this.#ofNamespace.delete(name);
  }

  /** All that a pod is in. `isLocal`: a pod of this node. */
  of(pod: Pod, namespace: Namespace | undefined, isLocal: boolean): readonly Selection[] {
    return this.#candidates(pod.meta.namespace, namespace).filter(({ chosen }) => isIn(chosen, pod, isLocal));
  }

  /** Whether pods of this namespace can be in the selection at all. */
  includesNamespace({ chosen }: Selection, name: string, namespace: Namespace | undefined): boolean {
    return chosen.by === 'port' || includesNamespace(chosen.members, name, namespace);
  }

  /** Whether a pod of such a namespace is. */
  includes({ chosen }: Selection, pod: Pod, isLocal: boolean): boolean {
    return isIn(chosen, pod, isLocal);
  }

  #candidates(name: string, namespace: Namespace | undefined): readonly Selection[] {
    const known = this.#ofNamespace.get(name);
    if (known !== undefined) return known.selections;
    const selections = [...this.#selections.values()]
      .filter(selection => this.includesNamespace(selection, name, namespace))
      .sort(byName);
    this.#ofNamespace.set(name, { namespace, selections });
    return selections;
  }
}

/** So that a pod's elements stand in one order, whatever came first. */
function byName(a: Selection, b: Selection): number {
  return a.name < b.name ? -1 : 1;
}

/** Whether a pod of a namespace that {@link includesNamespace} is in the selection. */
function isIn(chosen: Chosen, pod: Pod, isLocal: boolean): boolean {
  if (chosen.by === 'members') return matchesLabels(chosen.members.podSelector, pod.labels);
  if (chosen.scope === 'node' && !isLocal) return false;
  return pod.namedPorts.some(({ name, protocol }) => name === chosen.name && protocol === chosen.protocol);
}

/** By name of the set, each once. */
function selectionsOf({ allows, direction }: PolicyProgram): readonly (readonly [string, Chosen])[] {
  const found = new Map<string, Chosen>();
  for (const { peer, ports } of allows) {
    if (peer.who === 'members') found.set(membersSet(peer.members), { by: 'members', members: peer.members });
    if (ports.which === 'named') {
      const { protocol, name } = ports;
      const scope = scopeOf(direction);
      found.set(namedPortSet(scope, protocol, name), { by: 'port', scope, protocol, name });
    }
  }
  return [...found];
}
