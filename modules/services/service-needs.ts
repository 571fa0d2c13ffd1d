/** What the Services together ask of the node, kept up to date plan by plan: how many elements they put into each set, and settings. */
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { LEAST_ELEMENTS, maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import { Stable, sameText } from '../../daemon/reconcile/stable.ts';
import { setName } from './names.ts';
import type { Needs } from './node-plan.ts';
import type { ServicePlan } from './service-plan.ts';

export class ServiceNeeds {
  readonly #counts = new Map<string, number>();
  readonly #needs = new Stable<Needs>(sameText);
  #sloppy = 0;

  add(plan: ServicePlan): void {
    this.#count(plan, 1);
  }

  subtract(plan: ServicePlan): void {
    this.#count(plan, -1);
  }

  /** Limits above the smallest, by set name, and the rest; the same object while it is the same. What two Services put in counts twice. */
  needs(): Needs {
    const sizes = [...this.#counts]
      .map(([set, count]) => [set, maxElementsFor(count)] as const)
      .filter(([, limit]) => limit > LEAST_ELEMENTS);
    return this.#needs.of({
      sizes: Object.fromEntries(sizes.sort(([a], [b]) => (a < b ? -1 : 1))),
      direct: { ipv4: this.#has(setName('direct', 'ipv4')), ipv6: this.#has(setName('direct', 'ipv6')) },
      sloppyTcp: this.#sloppy > 0,
    });
  }

  #has(set: string): boolean {
    return (this.#counts.get(set) ?? 0) > 0;
  }

  #count(plan: ServicePlan, step: 1 | -1): void {
    for (const wanted of plan.entries) this.#countEntry(wanted, step);
    for (const { entry } of plan.contested) this.#countEntry(entry, step);
    if (plan.needsSloppyTcp) this.#sloppy += step;
  }

  #countEntry({ table, value }: Entry, step: 1 | -1): void {
    if (table !== 'ipset' || value.kind !== 'element') return;
    this.#counts.set(value.set, (this.#counts.get(value.set) ?? 0) + step);
  }
}
