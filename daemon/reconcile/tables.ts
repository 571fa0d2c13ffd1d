/**
 * The tables: everything outside the process that we change, as keyed entries. What an entry is, what identifies it, when two are
 * equal and what it needs first stand here, pure; how it is read and written stands in one driver a table (`daemon/kernel`).
 */
import type { Family, IpAddress } from '../net/address.ts';
import { familyOf, withPort } from '../net/address.ts';
import type { Protocol } from '../net/port.ts';
import { type IpPrefix, prefixAddress } from '../net/prefix.ts';
import { type Link, sameLink } from './link.ts';
import { ROUTING_TABLES, type RoutingTableTypes } from './routing-tables.ts';
import { SERVICE_TABLES, type ServiceTableTypes } from './service-tables.ts';

/** One file below /proc/sys. */
export interface Sysctl {
  /** Below /proc/sys, with slashes: `net/ipv4/vs/conntrack`. */
  readonly path: string;
  readonly value: string;
  /** Other values that are as good: an `rp_filter` of 0 is left alone where 2 is asked for. */
  readonly alsoGood: readonly string[];
  /** Whether a kernel without the file is an error or simply has nothing to set. */
  readonly whenMissing: 'fail' | 'skip';
}

/** An address on one of our links, always a host prefix (/32, /128). */
export interface LinkAddress {
  readonly link: string;
  readonly address: IpAddress;
}

/** Number of the routing table in which the kernel keeps what is its own to receive (`local` in rt_tables). */
export const LOCAL_TABLE = 255;

/**
 * A route (ip-route(8)) of type local, which hands packets to this host, in place of the one that the kernel makes for each address of a
 * link: it says with which source the host itself connects to that address. Routes that lead elsewhere would be a union with this one:
 * type unicast, with next hops and their protocol, in the same table of ours.
 */
export interface Route {
  readonly type: 'local';
  readonly table: typeof LOCAL_TABLE;
  /** A host prefix. */
  readonly destination: IpPrefix;
  /** The link that has the address. */
  readonly link: string;
  /** Of connections from the host whose program chose none; undefined where the route says nothing. */
  readonly source: IpAddress | undefined;
  /**
   * `address`: an address on the link whose packets nothing else would receive, so that deleting the route brings the kernel's own back.
   * `nothing`: the address is gone, or the kernel's own route is there as well.
   */
  readonly standsFor: 'address' | 'nothing';
}

export type IpSetType = 'hash:ip' | 'hash:ip,port' | 'hash:ip,port,ip' | 'hash:ip,port,net' | 'hash:net';

/** A set (ipset(8)) and, as entries of their own, its elements: an event that adds one element writes one. */
export type IpSetEntry =
  | {
      readonly kind: 'set';
      readonly name: string;
      readonly type: IpSetType;
      readonly family: Family;
      readonly maxElements: number;
      /** Whether elements carry firewall marks (ipset's `skbinfo`), for `-j SET --map-set NAME dst,dst --map-mark`. False unless told. */
      readonly carriesMarks?: boolean;
    }
  /**
   * `value` as `ipset save` prints it: `10.0.0.1`, `10.0.0.1,tcp:80`, `10.0.0.1,tcp:80,10.0.0.1`, `10.0.0.1,tcp:80,10.0.0.0/8`, `10.0.0.0/8`, then
   * maybe what is said of it: `10.1.0.0/16 nomatch` for what is taken out of a larger one, `10.0.0.1,tcp:80 skbmark 0x5/0xfff` for its mark.
   */
  | {
      readonly kind: 'element';
      readonly set: string;
      readonly value: string;
      /**
       * A set that holds the same value, where this element only says what becomes of it: while the other set is in use and has it already, this
       * one comes as late as elements of sets in use do, although nothing may use its set yet.
       */
      readonly refines?: string;
    };

export type IptablesTable = 'filter' | 'nat' | 'mangle';

/** One of our chains with all its rules, or one jump from a built-in chain. Both change in one `iptables-restore`. */
export type IptablesEntry =
  | {
      readonly kind: 'chain';
      readonly family: Family;
      readonly table: IptablesTable;
      /** Begins with `FAIRWAY-`; at most 28 characters (iptables' limit). */
      readonly name: string;
      /** Each as `iptables-save` prints it after `-A CHAIN `, so that text equality is rule equality. */
      readonly rules: readonly string[];
      /**
       * `rule by rule`: a rule that needs a set or chain that is not there is left out until it is; each rule stands for itself, and without it
       * less passes. Otherwise the whole chain waits.
       */
      readonly lacking?: 'rule by rule';
      /**
       * `late`: a rule that leads on to another chain of ours by a set, and is not wanted any more, goes only after the sets are as wanted: until
       * then it finds what is still in its set. Otherwise it goes at once.
       */
      readonly dropping?: 'late';
    }
  | {
      readonly kind: 'hook';
      readonly family: Family;
      readonly table: IptablesTable;
      /** The built-in chain: INPUT, POSTROUTING ... */
      readonly from: string;
      /** One of our chains. */
      readonly to: string;
      /** Our hooks stand at the head of the built-in chain in this order, lowest first. */
      readonly order: number;
      /** Match part of the jump as `iptables-save` prints it, '' for every packet. */
      readonly match: string;
    };

export type Forwarding = 'masquerade' | 'tunnel' | 'route';

export interface Destination {
  readonly address: IpAddress;
  readonly port: number;
  readonly weight: number;
  readonly forwarding: Forwarding;
}

export interface AddressListener {
  readonly by: 'address';
  readonly protocol: Protocol;
  readonly address: IpAddress;
  readonly port: number;
}

/** What an IPVS virtual service listens on: address, port and protocol, or a firewall mark of one family. */
export type Listener = AddressListener | { readonly by: 'mark'; readonly mark: number; readonly family: Family };

/** One IPVS virtual service with all its destinations (ipvsadm(8)). */
export interface VirtualServer {
  readonly listener: Listener;
  readonly scheduler: string;
  /** Of `flag-1`, `flag-2`, `flag-3`, sorted. */
  readonly schedulerFlags: readonly string[];
  /** Session persistence per client address in seconds; 0 for none. */
  readonly persistenceSeconds: number;
  /** Keyed by {@link destinationKey}; order has no meaning, keys are unique. */
  readonly destinations: readonly Destination[];
  /** Where packets that bear the listener's mark are addressed to. Only ever told, never read back nor compared. */
  readonly addressedTo?: readonly AddressListener[];
}

export interface TableTypes extends RoutingTableTypes, ServiceTableTypes {
  readonly sysctl: Sysctl;
  readonly link: Link;
  readonly address: LinkAddress;
  readonly route: Route;
  readonly ipset: IpSetEntry;
  readonly iptables: IptablesEntry;
  readonly virtualServer: VirtualServer;
}
export type TableName = keyof TableTypes;

/**
 * Upserts go through the tables in this order, deletes in the opposite one: sets exist before chains that match on them, a route
 * that stands for an address gives way before the address goes, policies are in force before the CNI file lets pods start, IPVS answers before BGP
 * or the local network attract traffic, and our paths are complete before a neighbour hears the first of them (RFC 4724: the End-of-RIB marker).
 */
export const STAGES: readonly TableName[] = [
  'sysctl',
  'fouPort',
  'link',
  'bridgePort',
  'address',
  'route',
  'markDelivery',
  'ipset',
  'iptables',
  'podTunnel',
  'virtualServer',
  'healthPort',
  'lanAddress',
  'unicastRoute',
  'rule',
  'cniConfig',
  'bgpServer',
  'bgpPolicy',
  'bgpPath',
  'bgpPeer',
  'serviceStatus',
];

/** Another entry that must be there first. */
export interface Requirement {
  readonly table: TableName;
  readonly key: string;
}

export interface TableDefinition<T> {
  /** Identity, including all that cannot be updated in place. */
  key(entry: T): string;
  /** Whether what is there (`actual`) needs no change to become `desired`. */
  same(actual: T, desired: T): boolean;
  /** Entries this one cannot exist without, of tables in the same or an earlier stage. */
  requires(entry: T): readonly Requirement[];
  /** The entry without what it needs and `isThere` does not find; undefined where it can only wait. */
  reduced?(entry: T, isThere: (need: Requirement) => boolean): T | undefined;
  /** `desired` with what of `actual` may only go when the other tables are as wanted. */
  widened?(actual: T, desired: T): T;
  /** Whether deleting or narrowing the entry makes no difference, once what used it is as wanted. */
  isInert?(entry: T): boolean;
  /** How an entry takes effect, where that is by being used from another table. */
  readonly use?: TableUse<T>;
}

/** Entries that mean nothing until those of another, later table refer to them. */
export interface TableUse<T> {
  readonly by: TableName;
  /** What is referred to, as a key of this table: an element takes effect where its set is matched on. */
  handle(entry: T): string;
  /** The entry that this one says more about, if so: where that one is there and in use, this one counts as in use. */
  refined(entry: T): T | undefined;
}

const NOTHING: readonly Requirement[] = [];

export const TABLES: { readonly [K in TableName]: TableDefinition<TableTypes[K]> } = {
  sysctl: {
    key: entry => entry.path,
    same: (actual, desired) => actual.value === desired.value || desired.alsoGood.includes(actual.value),
    requires: () => NOTHING,
  },
  link: {
    key: entry => entry.name,
    // A link of our name but another type is not ours: the driver does not see it, and creating ours is refused with the reason.
    same: sameLink,
    requires: () => NOTHING,
  },
  address: {
    key: entry => `${entry.address} ${entry.link}`,
    same: () => true,
    requires: entry => [{ table: 'link', key: entry.link }],
  },
  route: {
    key: entry => `${entry.table} ${entry.destination}`,
    same: (actual, desired) =>
      actual.source === desired.source && actual.standsFor === desired.standsFor && actual.link === desired.link,
    requires: entry => [{ table: 'address', key: `${prefixAddress(entry.destination)} ${entry.link}` }],
  },
  ipset: {
    // `nomatch` and a mark are properties of an element that can be changed in place, and no part of what `del` names.
    key: entry => (entry.kind === 'set' ? entry.name : `${entry.set} ${elementName(entry.value)}`),
    same: sameIpSetEntry,
    use: {
      by: 'iptables',
      handle: entry => (entry.kind === 'set' ? entry.name : entry.set),
      refined: entry => (entry.kind === 'element' && entry.refines !== undefined ? { ...entry, set: entry.refines } : undefined),
    },
    requires: entry => (entry.kind === 'set' ? NOTHING : [{ table: 'ipset', key: entry.set }]),
    isInert: () => true,
  },
  iptables: {
    key: iptablesKey,
    same: sameIptablesEntry,
    requires: iptablesRequirements,
    reduced: (entry, isThere) =>
      entry.kind === 'chain' && entry.lacking === 'rule by rule'
        ? { ...entry, rules: entry.rules.filter(rule => requirementsOf(rule, entry).every(isThere)) }
        : undefined,
    widened: widenedChain,
    // No packet comes to a chain that is wanted no more, but by the hook that leads there.
    isInert: entry => entry.kind === 'chain',
  },
  virtualServer: {
    key: entry => listenerKey(entry.listener),
    same: sameVirtualServer,
    requires: () => NOTHING,
  },
  ...ROUTING_TABLES,
  ...SERVICE_TABLES,
};

/** {@link TableDefinition.same} of a table named at run time. */
export function sameEntry<K extends TableName>(table: K, actual: TableTypes[K], desired: TableTypes[K]): boolean {
  return TABLES[table].same(actual, desired);
}

/** `TCP 10.96.0.1:80`, `UDP [fd00::1]:53`, `FWM 4660 ipv4`. */
export function listenerKey(listener: Listener): string {
  return listener.by === 'address'
    ? `${listener.protocol} ${withPort(listener.address, listener.port)}`
    : `FWM ${listener.mark} ${listener.family}`;
}

export function listenerFamily(listener: Listener): Family {
  return listener.by === 'address' ? familyOf(listener.address) : listener.family;
}

/** `10.0.0.1:8080`: what identifies a destination within its virtual service. */
export function destinationKey(destination: Destination): string {
  return withPort(destination.address, destination.port);
}

/** Scheduler, flags and persistence are equal: `ipvsadm -E` has nothing to do. */
export function sameVirtualService(actual: VirtualServer, desired: VirtualServer): boolean {
  return (
    actual.scheduler === desired.scheduler &&
    actual.persistenceSeconds === desired.persistenceSeconds &&
    actual.schedulerFlags.join() === desired.schedulerFlags.join()
  );
}

export function sameDestination(actual: Destination, desired: Destination): boolean {
  return actual.weight === desired.weight && actual.forwarding === desired.forwarding;
}

function sameVirtualServer(actual: VirtualServer, desired: VirtualServer): boolean {
  if (actual === desired) return true;
  if (!sameVirtualService(actual, desired)) return false;
  if (actual.destinations === desired.destinations) return true;
  if (actual.destinations.length !== desired.destinations.length) return false;
  const wanted = new Map(desired.destinations.map(destination => [destinationKey(destination), destination]));
  return actual.destinations.every(destination => {
    const other = wanted.get(destinationKey(destination));
    return other !== undefined && sameDestination(destination, other);
  });
}

/** What `ipset del` takes for an element. */
export function elementName(value: string): string {
  const end = value.indexOf(' ');
  return end < 0 ? value : value.slice(0, end);
}

function sameIpSetEntry(actual: IpSetEntry, desired: IpSetEntry): boolean {
  if (actual.kind === 'element' && desired.kind === 'element') return actual.value === desired.value;
  if (actual.kind !== 'set' || desired.kind !== 'set') return false;
  if ((actual.carriesMarks ?? false) !== (desired.carriesMarks ?? false)) return false;
  return actual.type === desired.type && actual.family === desired.family && actual.maxElements >= desired.maxElements;
}

function iptablesKey(entry: IptablesEntry): string {
  return entry.kind === 'chain'
    ? chainKey(entry.family, entry.table, entry.name)
    : `${entry.family} ${entry.table} ${entry.from} -> ${entry.to}`;
}

export function chainKey(family: Family, table: IptablesTable, name: string): string {
  return `${family} ${table} ${name}`;
}

function sameIptablesEntry(actual: IptablesEntry, desired: IptablesEntry): boolean {
  if (actual.kind === 'chain' && desired.kind === 'chain') {
    return actual.rules.length === desired.rules.length && actual.rules.every((rule, index) => rule === desired.rules[index]);
  }
  return actual.kind === 'hook' && desired.kind === 'hook' && actual.match === desired.match && actual.order === desired.order;
}

/** Sets that rules match on, chains that rules and hooks jump to. */
function iptablesRequirements(entry: IptablesEntry): readonly Requirement[] {
  const texts = entry.kind === 'chain' ? entry.rules : [`${entry.match} -j ${entry.to}`];
  return texts.flatMap(text => requirementsOf(text, entry));
}

/** Rules that lead on stand before the last one, which decides about all that is left. */
function widenedChain(actual: IptablesEntry, desired: IptablesEntry): IptablesEntry {
  if (actual.kind !== 'chain' || desired.kind !== 'chain' || desired.dropping !== 'late') return desired;
  const wanted = new Set(desired.rules);
  const kept = actual.rules.filter(rule => !wanted.has(rule) && /--match-set .* -g FAIRWAY-/.test(rule));
  if (kept.length === 0) return desired;
  const rules = [...desired.rules.slice(0, -1), ...kept, ...desired.rules.slice(-1)];
  // Where nothing else is other, the chain is as it should be for now, in whatever order.
  const isAsIs = rules.length === actual.rules.length && sameOrder(actual.rules, desired.rules);
  return { ...desired, rules: isAsIs ? actual.rules : rules };
}

/** Whether these rules, all of which are wanted, stand among the actual ones in their order. */
function sameOrder(actual: readonly string[], wanted: readonly string[]): boolean {
  let next = 0;
  for (const rule of actual) if (rule === wanted[next]) next++;
  return next === wanted.length;
}

function requirementsOf(text: string, { family, table }: IptablesEntry): readonly Requirement[] {
  const found: Requirement[] = [];
  for (const [, set] of text.matchAll(/--(?:match|map)-set (\S+)/g)) found.push({ table: 'ipset', key: set ?? '' });
  for (const [, target] of text.matchAll(/ ?-[jg] (FAIRWAY-\S+)/g)) {
    found.push({ table: 'iptables', key: chainKey(family, table, target ?? '') });
  }
  return found;
}
