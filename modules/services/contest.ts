/**
 * Two Services may claim one address and port; the older keeps it. For virtual servers the reconciler sees to that, key by key. What
 * drops, refuses, marks or closes a listener is no virtual server but an element of a set, so that a younger Service would do it to the older
 * one: here it is found out who claims what.
 */
import { ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { ListenerEntry } from './service-draft.ts';
import type { ServicePlan } from './service-plan.ts';

export class Contest {
  /** By listener. Almost every listener has one claimant, which stands without an array. */
  readonly #claimants = new Map<string, ServicePlan | readonly ServicePlan[]>();
  /** Listeners with several. */
  readonly #disputed = new Set<string>();

  enter(plan: ServicePlan): void {
    for (const listener of plan.listeners) {
      const others = this.#of(listener);
      this.#claimants.set(listener, others.length === 0 ? plan : [...others, plan]);
      if (others.length > 0) this.#disputed.add(listener);
    }
  }

  leave(plan: ServicePlan): void {
    for (const listener of plan.listeners) {
      const [first, ...others] = this.#of(listener).filter(claimant => claimant !== plan);
      if (first === undefined) this.#claimants.delete(listener);
      else this.#claimants.set(listener, others.length === 0 ? first : [first, ...others]);
      if (others.length === 0) this.#disputed.delete(listener);
    }
  }

  /** The entries that are the plan's to make: no older Service claims their listener. */
  granted(plan: ServicePlan): readonly ListenerEntry[] {
    return plan.contested.filter(({ listener }) => this.#of(listener).every(other => other === plan || isOlder(plan, other)));
  }

  /**
   * Listeners that a plan must not serve, since an older Service drops what comes there: it has no virtual server itself, and what the node sends
   * would meet the younger one's before any filter.
   */
  forbidden(): ReadonlyMap<ServicePlan, ReadonlySet<string>> {
    const forbidden = new Map<ServicePlan, Set<string>>();
    for (const listener of this.#disputed) {
      const claimants = this.#of(listener);
      const oldest = claimants.find(one => claimants.every(other => other === one || isOlder(one, other)));
      if (oldest?.dropped.includes(listener) !== true) continue;
      for (const other of claimants) {
        if (other !== oldest) forbidden.set(other, (forbidden.get(other) ?? new Set()).add(listener));
      }
    }
    return forbidden;
  }

  #of(listener: string): readonly ServicePlan[] {
    const claimants = this.#claimants.get(listener);
    if (claimants === undefined) return [];
    return 'owner' in claimants ? [claimants] : claimants;
  }
}

/** As the reconciler decides: by age, and by name where that is equal. */
function isOlder(plan: ServicePlan, other: ServicePlan): boolean {
  if (plan.owner.since !== other.owner.since) return plan.owner.since < other.owner.since;
  return ownerKey(plan.owner) < ownerKey(other.owner);
}
