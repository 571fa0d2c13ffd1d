/** The pools in force: which Services each serves, which addresses are whose, which are free. Built anew when one of them changes. */

import { DEFAULT_POOL } from '../../daemon/cluster/address-pools.ts';
import type { AddressPool, Namespace, Service } from '../../daemon/cluster/kinds.ts';
import { isOurClass, isServedWithoutPool } from '../../daemon/cluster/load-balancer-class.ts';
import { isWrittenByUs } from '../../daemon/cluster/our-writing.ts';
import { matchesLabels, matchesNamespace } from '../../daemon/cluster/selectors.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { type AddressRange, numberOf, rangeFamily } from '../../daemon/net/address-range.ts';
import type { PoolUsage } from '../../daemon/reconcile/allocator-summary.ts';
import { FreeAddresses } from './free-addresses.ts';
import { byFirst, holds, type Interval, positionOf, without } from './intervals.ts';

export interface Pool {
  readonly definition: AddressPool;
  /** Its place in the order of choice, unique among the pools. */
  readonly rank: number;
  /** Families of which it has addresses to hand out unasked. */
  readonly free: ReadonlyMap<Family, FreeAddresses>;
}

/** Two pools hold some of the same addresses; they belong to the first. */
export interface Overlap {
  readonly first: AddressPool;
  readonly second: AddressPool;
  readonly family: Family;
  readonly addresses: Interval;
}

interface Owned extends Interval {
  readonly pool: Pool;
}

export const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

export class Pools {
  /** In the order of choice. */
  readonly all: readonly Pool[];
  readonly overlaps: readonly Overlap[];
  /** False where some pools cannot be read and are not known from before: an address outside may be in one of those. */
  readonly areAllKnown: boolean;
  readonly #servesDefaultClass: boolean;
  readonly #owned: Readonly<Record<Family, readonly Owned[]>>;

  /** `definitions`: see `poolsInForce`. */
  constructor(definitions: readonly AddressPool[], servesDefaultClass: boolean, areAllKnown: boolean) {
    const plots = plotsOf(definitions.toSorted((a, b) => Number(a.name === DEFAULT_POOL) - Number(b.name === DEFAULT_POOL)));
    this.all = plots
      .toSorted((a, b) => Number(servesAll(a.definition)) - Number(servesAll(b.definition)))
      .map(({ definition, unasked }, rank) => ({ definition, rank, free: freeOf(unasked) }));
    this.overlaps = plots.flatMap(({ overlaps }) => overlaps);
    this.areAllKnown = areAllKnown;
    this.#servesDefaultClass = servesDefaultClass;
    const owned = (family: Family): readonly Owned[] =>
      this.all
        .flatMap(pool => {
          const plot = plots.find(({ definition }) => definition === pool.definition);
          return (plot?.own[family] ?? []).map(interval => ({ ...interval, pool }));
        })
        .sort(byFirst);
    this.#owned = { ipv4: owned('ipv4'), ipv6: owned('ipv6') };
  }

  /** The pool that the address belongs to. */
  poolOf(address: IpAddress): Pool | undefined {
    return this.#ownerOf(familyOf(address), numberOf(address));
  }

  named(name: string): Pool | undefined {
    return this.all.find(({ definition }) => definition.name === name);
  }

  /** A Service that asks the allocation for addresses at all. */
  isOurs({ type, loadBalancer }: Service): boolean {
    if (type !== 'LoadBalancer' || loadBalancer === undefined) return false;
    const pools = this.all.map(({ definition }) => definition);
    const served = { servesDefaultClass: this.#servesDefaultClass, pools };
    // A pool that is not known may name its class.
    return isOurClass(loadBalancer.loadBalancerClass, served) || (!this.areAllKnown && isWrittenByUs(loadBalancer));
  }

  /** Those that may serve the Service, in the order of choice. */
  serving(service: Service, namespace: Namespace | undefined): readonly Pool[] {
    return this.all.filter(({ definition }) => this.#serves(definition, service, namespace));
  }

  #serves(
    { loadBalancerClasses, namespaces, namespaceSelector, serviceSelector }: AddressPool,
    { meta, loadBalancer }: Service,
    namespace: Namespace | undefined,
  ): boolean {
    if (loadBalancer === undefined) return false;
    const { loadBalancerClass, labels } = loadBalancer;
    const isOfClass =
      loadBalancerClasses.length === 0
        ? isServedWithoutPool(loadBalancerClass, this.#servesDefaultClass)
        : loadBalancerClasses.includes(loadBalancerClass);
    if (!isOfClass || (serviceSelector !== undefined && !matchesLabels(serviceSelector, labels))) return false;
    if (namespaces.length === 0 && namespaceSelector === undefined) return true;
    return (
      namespaces.includes(meta.namespace) ||
      (namespaceSelector !== undefined && matchesNamespace(namespaceSelector, meta.namespace, namespace))
    );
  }

  /** The first who has the address came. */
  take(address: IpAddress): void {
    const number = numberOf(address);
    this.#freeAround(familyOf(address), number)?.take(number);
  }

  /** The last who had it left. */
  giveBack(address: IpAddress): void {
    const number = numberOf(address);
    this.#freeAround(familyOf(address), number)?.giveBack(number);
  }

  #freeAround(family: Family, number: bigint): FreeAddresses | undefined {
    return this.#ownerOf(family, number)?.free.get(family);
  }

  #ownerOf(family: Family, number: bigint): Pool | undefined {
    const owned = this.#owned[family];
    const nearest = owned[positionOf(owned, number)];
    return holds(nearest, number) ? nearest?.pool : undefined;
  }
}

export function poolUsage(pools: readonly Pool[]): readonly PoolUsage[] {
  return pools.map(({ definition, free }) => {
    const parts = [...free.values()];
    return {
      name: definition.name,
      addresses: Number(parts.reduce((sum, { size }) => sum + size, 0n)),
      inUse: parts.reduce((sum, { inUse }) => sum + inUse, 0),
    };
  });
}

/** A pool that names whom it serves comes before those for everybody. */
function servesAll({ namespaces, namespaceSelector, serviceSelector, loadBalancerClasses }: AddressPool): boolean {
  return (
    namespaces.length === 0 &&
    namespaceSelector === undefined &&
    serviceSelector === undefined &&
    loadBalancerClasses.length === 0
  );
}

/** What belongs to a pool. */
interface Plot {
  readonly definition: AddressPool;
  readonly own: Readonly<Record<Family, readonly Interval[]>>;
  readonly unasked: Readonly<Record<Family, readonly Interval[]>>;
  readonly overlaps: readonly Overlap[];
}

function plotsOf(definitions: readonly AddressPool[]): readonly Plot[] {
  const plots: Plot[] = [];
  for (const definition of definitions) {
    const own = { ipv4: intervalsOf(definition, 'ipv4', wholeOf), ipv6: intervalsOf(definition, 'ipv6', wholeOf) };
    const unasked = { ipv4: intervalsOf(definition, 'ipv4', innerOf), ipv6: intervalsOf(definition, 'ipv6', innerOf) };
    const earlier = (family: Family): readonly Interval[] => plots.flatMap(plot => plot.own[family]);
    const remaining = (intervals: typeof own) => ({
      ipv4: intervals.ipv4.flatMap(interval => without(interval, earlier('ipv4'))),
      ipv6: intervals.ipv6.flatMap(interval => without(interval, earlier('ipv6'))),
    });
    const overlaps = plots.flatMap(plot => FAMILIES.flatMap(family => overlapsOf(plot, { definition, own }, family)));
    plots.push({ definition, own: remaining(own), unasked: remaining(unasked), overlaps });
  }
  return plots;
}

function overlapsOf(
  { definition: first, own: firstOwn }: Pick<Plot, 'definition' | 'own'>,
  { definition: second, own }: Pick<Plot, 'definition' | 'own'>,
  family: Family,
): readonly Overlap[] {
  return own[family].flatMap(one =>
    firstOwn[family]
      .filter(other => one.first <= other.last && other.first <= one.last)
      .map(other => ({
        first,
        second,
        family,
        addresses: {
          first: holds(other, one.first) ? one.first : other.first,
          last: holds(other, one.last) ? one.last : other.last,
        },
      })),
  );
}

/** Ascending and without overlaps, so that the ranges of one pool may overlap. */
function intervalsOf(
  { ranges }: AddressPool,
  family: Family,
  part: (range: AddressRange) => Interval | undefined,
): readonly Interval[] {
  const intervals: Interval[] = [];
  for (const range of ranges) {
    const interval = rangeFamily(range) === family ? part(range) : undefined;
    if (interval !== undefined) intervals.push(...without(interval, intervals));
  }
  return intervals.sort(byFirst);
}

function wholeOf({ first, last }: AddressRange): Interval {
  return { first: numberOf(first), last: numberOf(last) };
}

/**
 * Without the first and the last address of a subnet that has more than two (RFC 3021, RFC 6164): the network's own (of IPv6: the routers' anycast address,
 * RFC 4291) and the broadcast address are refused by some hosts and routers.
 */
function innerOf(range: AddressRange): Interval {
  const { first, last } = wholeOf(range);
  return range.prefix === undefined || last - first < 2n ? { first, last } : { first: first + 1n, last: last - 1n };
}

function freeOf(unasked: Plot['unasked']): ReadonlyMap<Family, FreeAddresses> {
  return new Map(
    FAMILIES.filter(family => unasked[family].length > 0).map(family => [family, new FreeAddresses(family, unasked[family])]),
  );
}
