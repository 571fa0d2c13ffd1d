/**
 * Two Services may claim one address and port; the older keeps it. For virtual servers the reconciler sees to that, key by key. A dropped
 * listener is no virtual server but an element of a set, so that what a younger Service drops would be taken from the older one: here
 * it is found out who claims what.
 */
import { ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Drop, ServicePlan } from './service-plan.ts';

export class Contest {
  /** By listener. Almost every listener has one claimant, which stands without an array. */
  readonly #claimants = new Map<string, ServicePlan | readonly ServicePlan[]>();

  enter(plan: ServicePlan): void {
    for (const listener of plan.listeners) {
      const others = this.#of(listener);
      this.#claimants.set(listener, others.length === 0 ? plan : [...others, plan]);
    }
  }

  leave(plan: ServicePlan): void {
    for (const listener of plan.listeners) {
      const [first, ...others] = this.#of(listener).filter(claimant => claimant !== plan);
      if (first === undefined) this.#claimants.delete(listener);
      else this.#claimants.set(listener, others.length === 0 ? first : [first, ...others]);
    }
  }

  /** The drops that are the plan's to make: no older Service claims their listener. */
  granted(plan: ServicePlan): readonly Drop[] {
    return plan.drops.filter(drop => this.#of(drop.listener).every(other => other === plan || isOlder(plan, other)));
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
