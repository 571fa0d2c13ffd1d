/** The operator's rules for virtual addresses, with the named pools as they are now. */
import { prefixesOfRange } from '../net/address-range.ts';
import { areAllKnown } from './address-pools.ts';
import type { AddressPools } from './kinds.ts';
import { sameObject } from './same-object.ts';
import type { NamedPool, VirtualAddressRules } from './virtual-addresses.ts';

/** Rules, or options that hold them: the same object as long as the pools allow the same addresses. */
export class RulesInForce<R extends VirtualAddressRules> {
  #rules: R;
  #pools: AddressPools | undefined;

  constructor(rules: R) {
    this.#rules = rules;
  }

  with(pools: AddressPools | undefined): R {
    // Without strict validation no range is asked.
    if (pools === this.#pools || !this.#rules.strictExternalIpValidation) return this.#rules;
    this.#pools = pools;
    const namedPools = namedPoolsOf(pools);
    const arePoolsKnown = areAllKnown(pools);
    if (arePoolsKnown !== this.#rules.arePoolsKnown || !sameObject(namedPools, this.#rules.namedPools))
      this.#rules = { ...this.#rules, namedPools, arePoolsKnown };
    return this.#rules;
  }
}

function namedPoolsOf(configured: AddressPools | undefined): readonly NamedPool[] {
  return (configured?.pools ?? []).map(({ name, ranges }) => ({ name, prefixes: ranges.flatMap(prefixesOfRange) }));
}
