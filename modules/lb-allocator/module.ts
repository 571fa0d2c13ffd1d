/**
 * Addresses for Services of type LoadBalancer: Services, pools and what is being written in; the status of each Service out. Every node plans, only
 * the leader's plan has anything in it. One fragment a Service, one for the pools. One event costs what it changed; another set of pools is
 * planned from nothing.
 */
import { areAllKnown, poolsInForce } from '../../daemon/cluster/address-pools.ts';
import type { AddressPools, Kind, ObjectKey } from '../../daemon/cluster/kinds.ts';
import { patched } from '../../daemon/cluster/patched-map.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { AllocatorSummary } from '../../daemon/reconcile/allocator-summary.ts';
import { type Fragment, type OwnerKey, ownerKey } from '../../daemon/reconcile/fragment.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { sameList, sameText } from '../../daemon/reconcile/stable.ts';
import { Ledger } from './ledger.ts';
import type { LbAllocatorOptions } from './options.ts';
import { noPoolsFragment, poolsFragment } from './pool-diagnostics.ts';
import { Pools, poolUsage } from './pools.ts';
import { fragmentOf, isWaiting } from './verdict.ts';

export interface LbAllocatorModule extends Module {
  /** How far the pools are used up by the last plan; undefined while another node hands out the addresses. */
  summary(): AllocatorSummary | undefined;
}

export function lbAllocatorModule(options: LbAllocatorOptions): LbAllocatorModule {
  return new LbAllocator(options);
}

/** What a follower takes back: nothing. */
const FOLLOWS: Plan = { fragments: new Map(), undecided: ['serviceStatus'] };

class LbAllocator implements LbAllocatorModule {
  readonly name = 'lb-allocator';
  readonly reads: readonly Kind[];
  readonly writes = ['serviceStatus'] as const;
  readonly #options: LbAllocatorOptions;
  /** Undefined while another node leads, and after a plan that failed. */
  #book: { readonly configured: AddressPools | undefined; readonly ledger: Ledger } | undefined;
  #plan: Plan = FOLLOWS;
  readonly #waiting = new Set<ObjectKey>();

  constructor(options: LbAllocatorOptions) {
    this.#options = options;
    this.reads = ['Service', 'Node', ...(options.hasNamedPools ? (['Namespace', 'ConfigMap'] as const) : [])];
  }

  plan(snapshot: Snapshot): Plan {
    const book = this.#book;
    this.#book = undefined;
    if (!snapshot.allocation.leadership.isLeader) {
      this.#waiting.clear();
      this.#plan = FOLLOWS;
      return this.#plan;
    }
    const configured = snapshot.addressPools;
    const isKnown = book !== undefined && book.configured === configured;
    const ledger = isKnown ? book.ledger : new Ledger(this.#pools(configured));
    const changes = this.#changes(ledger, snapshot);
    if (!isKnown) this.#noteGone(ledger, configured, changes);
    if (changes.size > 0 || this.#plan === FOLLOWS) this.#plan = { fragments: patched(this.#plan.fragments, changes) };
    this.#book = { configured, ledger };
    return this.#plan;
  }

  summary(): AllocatorSummary | undefined {
    if (this.#book === undefined) return undefined;
    return { pools: poolUsage(this.#book.ledger.pools.all), waiting: this.#waiting.size };
  }

  #pools(configured: AddressPools | undefined): Pools {
    const { flagRanges, hasNamedPools, servesDefaultClass } = this.#options;
    // No flag at all is a slip, not the wish that everybody loses what an earlier run gave.
    const isKnown = hasNamedPools ? areAllKnown(configured) : flagRanges.length > 0;
    return new Pools(poolsInForce(flagRanges, configured), servesDefaultClass, isKnown);
  }

  #changes(ledger: Ledger, snapshot: Snapshot): Map<OwnerKey, Fragment | undefined> {
    const changes = new Map<OwnerKey, Fragment | undefined>();
    for (const key of ledger.update(snapshot)) {
      const judgement = ledger.judgement(key);
      if (judgement !== undefined && isWaiting(judgement)) this.#waiting.add(key);
      else this.#waiting.delete(key);
      this.#put(ownerKey({ kind: 'Service', key, since: 0 }), judgement && fragmentOf(judgement), changes);
    }
    return changes;
  }

  /** With other pools, all is planned anew: what was planned before and has no place in it. */
  #noteGone(ledger: Ledger, configured: AddressPools | undefined, changes: Map<OwnerKey, Fragment | undefined>): void {
    const { hasNamedPools, flagRanges } = this.#options;
    const fragment = hasNamedPools || flagRanges.length > 0 ? poolsFragment(ledger.pools, configured) : noPoolsFragment();
    if (fragment !== undefined) this.#put(ownerKey(fragment.owner), fragment, changes);
    for (const [
      owner,
      {
        owner: { kind, key },
      },
    ] of this.#plan.fragments) {
      const isThere = kind === 'Service' ? ledger.judgement(key) !== undefined : owner === (fragment && ownerKey(fragment.owner));
      if (isThere) continue;
      changes.set(owner, undefined);
      if (kind === 'Service') this.#waiting.delete(key);
    }
  }

  #put(owner: OwnerKey, fragment: Fragment | undefined, changes: Map<OwnerKey, Fragment | undefined>): void {
    const former = this.#plan.fragments.get(owner);
    if (former === undefined && fragment === undefined) return;
    if (former !== undefined && fragment !== undefined && sameText(former, fragment) && isDone(fragment)) return;
    changes.set(owner, fragment);
  }
}

/**
 * Nothing is to be written for it. Otherwise the same words are said anew: of a Service that was emptied before it was seen with what was written
 * nothing looks different, and only a new object makes the table write it again.
 */
function isDone({ entries }: Fragment): boolean {
  return entries.every(({ table, value }) => table !== 'serviceStatus' || sameList(value.addresses, value.found));
}
