/**
 * Two Services may claim one address and port; the older keeps it. For virtual servers the reconciler sees to that, key by key. What
 * drops, refuses, marks or closes a listener is no virtual server but an element of a set, so that a younger Service would do it to the older
 * one: here it is found out who claims what.
 */
import { ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { ListenerEntry } from './service-draft.ts';
import type { ServicePlan } from './service-plan.ts';

/** What a plan may have of what it wants. */
export interface Verdict {
  /** Of its contested entries, those whose listener no older Service claims. */
  readonly granted: readonly ListenerEntry[];
  /**
   * Listeners that it must not serve, since an older Service drops what comes there: that has no virtual server itself, and what the node sends would
   * meet the younger one's before any filter.
   */
  readonly forbidden: readonly string[];
}

const UNCONTESTED: Verdict = { granted: [], forbidden: [] };

export class Contest {
  /** By listener. Almost every listener has one claimant, which stands without an array. */
  readonly #claimants = new Map<string, ServicePlan | readonly ServicePlan[]>();
  /** Plans whose verdict may be another since they were taken last. */
  #touched = new Set<ServicePlan>();

  enter(plan: ServicePlan): void {
    this.#touched.add(plan);
    for (const listener of plan.listeners) {
      const others = this.#of(listener);
      this.#claimants.set(listener, others.length === 0 ? plan : [...others, plan]);
      for (const other of others) this.#touched.add(other);
    }
  }

  leave(plan: ServicePlan): void {
    this.#touched.delete(plan);
    for (const listener of plan.listeners) {
      const [first, ...others] = this.#of(listener).filter(claimant => claimant !== plan);
      if (first === undefined) this.#claimants.delete(listener);
      else {
        this.#claimants.set(listener, others.length === 0 ? first : [first, ...others]);
        for (const other of [first, ...others]) this.#touched.add(other);
      }
    }
  }

  /** Those that entered, and those that others of one of their listeners entered or left. */
  takeTouched(): ReadonlySet<ServicePlan> {
    const touched = this.#touched;
    this.#touched = new Set();
    return touched;
  }

  verdictOn(plan: ServicePlan): Verdict {
    const granted = plan.contested.filter(({ listener }) => this.#oldest(listener) === plan);
    const forbidden = plan.listeners.filter(listener => {
      // What it drops itself it serves in no case.
      if (plan.dropped.includes(listener)) return false;
      const oldest = this.#oldest(listener);
      return oldest !== plan && oldest?.dropped.includes(listener) === true;
    });
    return granted.length === 0 && forbidden.length === 0 ? UNCONTESTED : { granted, forbidden };
  }

  #oldest(listener: string): ServicePlan | undefined {
    const claimants = this.#of(listener);
    return claimants.find(one => claimants.every(other => other === one || isOlder(one, other)));
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
