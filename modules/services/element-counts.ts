/** How many elements the Services put into each set, kept up to date plan by plan. */
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { LEAST_ELEMENTS, maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import { Stable, sameText } from '../../daemon/reconcile/stable.ts';
import type { SetSizes } from './node-plan.ts';
import type { ServicePlan } from './service-plan.ts';

export class ElementCounts {
  readonly #counts = new Map<string, number>();
  readonly #sizes = new Stable<SetSizes>(sameText);

  add(plan: ServicePlan): void {
    this.#count(plan, 1);
  }

  subtract(plan: ServicePlan): void {
    this.#count(plan, -1);
  }

  /** Limits above the smallest, by set name; the same object while they are the same. What two Services put in counts twice. */
  sizes(): SetSizes {
    const sizes = [...this.#counts]
      .map(([set, count]) => [set, maxElementsFor(count)] as const)
      .filter(([, limit]) => limit > LEAST_ELEMENTS);
    return this.#sizes.of(Object.fromEntries(sizes.sort(([a], [b]) => (a < b ? -1 : 1))));
  }

  #count(plan: ServicePlan, step: 1 | -1): void {
    for (const wanted of plan.entries) this.#countEntry(wanted, step);
    for (const { entry } of plan.drops) this.#countEntry(entry, step);
  }

  #countEntry({ table, value }: Entry, step: 1 | -1): void {
    if (table !== 'ipset' || value.kind !== 'element') return;
    this.#counts.set(value.set, (this.#counts.get(value.set) ?? 0) + step);
  }
}
