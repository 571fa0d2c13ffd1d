/** Who has which address, and who of several may keep it. */
import type { IpAddress } from '../../daemon/net/address.ts';
import type { Pools } from './pools.ts';
import { mayShare, type Sharing } from './sharing.ts';

/**
 * Why somebody has an address: `kept` Services contest; from the others it is not taken. `host`: this very machine where it has no Node object; what
 * Services have may be on its links by our own hand.
 */
type Ground = 'kept' | 'granted' | 'leaving' | 'foreign' | 'external' | 'node' | 'host';

export interface Holder {
  /** `Service default/web`, `Node node-1`: what it is about is one holder, whatever the grounds. */
  readonly name: string;
  readonly ground: Ground;
  /** Undefined for what never shares. */
  readonly sharing: Sharing | undefined;
  readonly seniority: Seniority | undefined;
}

/** Of two Services with one address that they may not share, the one stays that we wrote, then the earlier written, the older, the lesser name. */
export interface Seniority {
  readonly isWrittenByUs: boolean;
  /** Infinity while it is being written. */
  readonly writtenAt: number;
  readonly createdAt: number;
}

/** For people: who has the address, and by which field where that is not plain. */
export function titleOf({ name, ground }: Holder): string {
  switch (ground) {
    case 'external':
      return `${name} (spec.externalIPs)`;
    case 'foreign':
      return `${name} (written by another controller)`;
    case 'leaving':
      return `${name} (about to leave it)`;
    case 'kept':
    case 'granted':
    case 'node':
    case 'host':
      return name;
  }
}

const NOBODY: readonly Holder[] = [];

export class Occupancy {
  readonly #pools: Pools;
  /** Almost every address has one holder. */
  readonly #holders = new Map<IpAddress, readonly Holder[]>();
  /** By sharing key, the addresses of Services with it. */
  readonly #byKey = new Map<string, Set<IpAddress>>();

  constructor(pools: Pools) {
    this.#pools = pools;
  }

  add(address: IpAddress, holder: Holder): void {
    const others = this.#holders.get(address) ?? NOBODY;
    if (others.length === 0) this.#pools.take(address);
    this.#holders.set(address, [...others, holder]);
    const key = holder.sharing?.key ?? '';
    if (key === '') return;
    const addresses = this.#byKey.get(key);
    if (addresses === undefined) this.#byKey.set(key, new Set([address]));
    else addresses.add(address);
  }

  /** True where it was the last. */
  remove(address: IpAddress, holder: Holder): boolean {
    const others = (this.#holders.get(address) ?? NOBODY).filter(each => each !== holder);
    const key = holder.sharing?.key ?? '';
    if (key !== '' && !others.some(({ sharing }) => sharing?.key === key)) this.#forget(key, address);
    if (others.length > 0) {
      this.#holders.set(address, others);
      return false;
    }
    this.#holders.delete(address);
    this.#pools.giveBack(address);
    return true;
  }

  /** A Service is granted one address of a family at most. */
  removeGrant(address: IpAddress, name: string): void {
    const grant = this.#holders.get(address)?.find(holder => holder.ground === 'granted' && holder.name === name);
    if (grant !== undefined) this.remove(address, grant);
  }

  readonly isTaken = (address: IpAddress): boolean => this.#holders.has(address);

  /** Who has the address so that this one may not have it as well; of several the one with the least name. */
  obstacle(address: IpAddress, name: string, sharing: Sharing): Holder | undefined {
    let least: Holder | undefined;
    for (const holder of this.#holders.get(address) ?? NOBODY) {
      if (holder.name === name || (holder.sharing !== undefined && mayShare(holder.sharing, sharing))) continue;
      if (least === undefined || compareHolders(holder, least) < 0) least = holder;
    }
    return least;
  }

  /** Addresses that somebody has who shares by this key. */
  sharedBy(key: string): ReadonlySet<IpAddress> {
    return this.#byKey.get(key) ?? new Set();
  }

  /** Of those who keep the address, the ones who must leave it, with the one they must leave it to; undefined for none. */
  losers(address: IpAddress): ReadonlyMap<string, string> | undefined {
    const holders = this.#holders.get(address) ?? NOBODY;
    if (holders.length < 2) return undefined;
    const keeping = holders.filter(({ ground }) => ground === 'kept').sort(bySeniority);
    const losers = new Map<string, string>();
    const stay: Holder[] = [];
    for (const holder of keeping) {
      const stronger = stay.find(({ sharing }) => !sharesWith(sharing, holder.sharing));
      if (stronger === undefined) stay.push(holder);
      else losers.set(holder.name, stronger.name);
    }
    return losers.size === 0 ? undefined : losers;
  }

  /** The Node that has the address as well, where Services keep it. */
  node(address: IpAddress): string | undefined {
    const holders = this.#holders.get(address) ?? NOBODY;
    if (holders.length < 2 || !holders.some(({ ground }) => ground === 'kept')) return undefined;
    return holders.find(({ ground }) => ground === 'node')?.name;
  }

  /** Those who keep it. */
  keepers(address: IpAddress): readonly string[] {
    return (this.#holders.get(address) ?? NOBODY).filter(({ ground }) => ground === 'kept').map(({ name }) => name);
  }

  /** The sharing keys of those who have it. */
  keysAt(address: IpAddress): readonly string[] {
    return (this.#holders.get(address) ?? NOBODY).map(({ sharing }) => sharing?.key ?? '').filter(key => key !== '');
  }

  #forget(key: string, address: IpAddress): void {
    const addresses = this.#byKey.get(key);
    addresses?.delete(address);
    if (addresses?.size === 0) this.#byKey.delete(key);
  }
}

function sharesWith(one: Sharing | undefined, other: Sharing | undefined): boolean {
  return one !== undefined && other !== undefined && mayShare(one, other);
}

function compareHolders(one: Holder, other: Holder): number {
  return compareText(one.name, other.name) || compareText(one.ground, other.ground);
}

function bySeniority(one: Holder, other: Holder): number {
  const [a, b] = [one.seniority, other.seniority];
  if (a === undefined || b === undefined) return 0;
  return (
    Number(b.isWrittenByUs) - Number(a.isWrittenByUs) ||
    compareNumbers(a.writtenAt, b.writtenAt) ||
    compareNumbers(a.createdAt, b.createdAt) ||
    compareText(one.name, other.name)
  );
}

/** Not by a difference: Infinity less Infinity is no number. */
function compareNumbers(one: number, other: number): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}

function compareText(one: string, other: string): number {
  if (one === other) return 0;
  return one < other ? -1 : 1;
}
