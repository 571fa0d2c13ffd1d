/** The entries of a plan as a kernel has them, after a look at each: whatever the kernel would refuse, or the tracer does not know, throws. */
import { chainsIn, type Hook, type KernelEntries } from '../../daemon/explain/kernel-entries.ts';
import { parseRule } from '../../daemon/explain/rule-match.ts';
import type { SetHead } from '../../daemon/explain/set-lookup.ts';
import { type Family, familyOf, type IpAddress, parseAddress } from '../../daemon/net/address.ts';
import { parsePrefix } from '../../daemon/net/prefix.ts';
import type { Entry } from '../../daemon/reconcile/fragment.ts';
import { type IptablesTable, STAGES, type TableName, type TableTypes } from '../../daemon/reconcile/tables.ts';

/** The built-in chains of each table. */
const BUILT_IN: Readonly<Record<IptablesTable, readonly string[]>> = {
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
};

/** The longest chain name iptables takes. */
const LONGEST_CHAIN = 28;
/** The longest set name the kernel takes, without the terminating zero (IPSET_MAXNAMELEN). */
const LONGEST_SET = 31;

/** @param entries Each key once. */
export function strictKernel(entries: readonly Entry[], local: ReadonlySet<IpAddress>): KernelEntries {
  const tables = new Map<TableName, Map<string, Entry['value']>>(STAGES.map(table => [table, new Map()]));
  for (const { table, key, value } of entries) tables.get(table)?.set(key, value);
  const hooks: Hook[] = [];
  for (const { table, value } of entries) if (table === 'iptables' && value.kind === 'hook') hooks.push(value);
  const lengths = lengthsOf(entries);
  const kernel: KernelEntries = {
    get: <K extends TableName>(table: K, key: string) => tables.get(table)?.get(key) as TableTypes[K] | undefined,
    hooks: () => hooks,
    lengthsIn: set => lengths.get(set) ?? [],
    isLocal: address => local.has(address),
  };
  checkSets(entries);
  checkChains(entries, kernel);
  return kernel;
}

function checkChains(entries: readonly Entry[], kernel: KernelEntries): void {
  for (const { table, value } of entries) {
    if (table !== 'iptables') continue;
    const chains = chainsIn(kernel, value.family, value.table, parseRule);
    if (value.kind === 'chain') {
      if (value.name.length > LONGEST_CHAIN) throw new Error(`chain name too long: ${value.name}`);
      chains(value.name);
    } else {
      if (!BUILT_IN[value.table].includes(value.from)) throw new Error(`no chain ${value.from} in table ${value.table}`);
      chains(value.from);
    }
  }
}

/** Lengths of prefixes as they stand in the last place of each set's elements. */
function lengthsOf(entries: readonly Entry[]): ReadonlyMap<string, readonly number[]> {
  const lengths = new Map<string, Set<number>>();
  for (const { table, value } of entries) {
    if (table !== 'ipset' || value.kind !== 'element') continue;
    const last = value.value.split(' ')[0]?.split(',').at(-1) ?? '';
    const own = last.includes('/') ? Number(last.slice(last.indexOf('/') + 1)) : last.includes(':') ? 128 : 32;
    lengths.set(value.set, (lengths.get(value.set) ?? new Set()).add(own));
  }
  return new Map([...lengths].map(([set, found]) => [set, [...found].sort((a, b) => b - a)]));
}

function checkSets(entries: readonly Entry[]): void {
  const sets = new Map<string, { readonly head: SetHead; count: number }>();
  for (const { table, value } of entries) {
    if (table !== 'ipset' || value.kind !== 'set') continue;
    if (value.name.length > LONGEST_SET) throw new Error(`set name too long: ${value.name}`);
    sets.set(value.name, { head: value, count: 0 });
  }
  for (const { table, value } of entries) {
    if (table !== 'ipset' || value.kind !== 'element') continue;
    const set = sets.get(value.set);
    if (set === undefined) throw new Error(`an element of no set: ${value.set} ${value.value}`);
    if (++set.count > set.head.maxElements) throw new Error(`set ${value.set} is full: ${set.head.maxElements}`);
    checkElement(set.head, value.value);
  }
}

/** As `ipset save` prints them, and of the set's type. */
function checkElement(head: SetHead, value: string): void {
  switch (head.type) {
    case 'hash:ip':
      checkAddress(head, value);
      return;
    case 'hash:ip,port': {
      const [, element = '', , mark] = /^(\S+)( skbmark (0x[0-9a-f]+)\/(0x[0-9a-f]+))?$/.exec(value) ?? [];
      if (mark !== undefined && head.carriesMarks !== true) throw new Error(`${head.name}: no place for marks: ${value}`);
      checkListener(head, element, value);
      return;
    }
    case 'hash:net':
      checkPrefix(head, /^(\S+?)( nomatch)?$/.exec(value)?.[1] ?? '');
      return;
    case 'hash:ip,port,ip':
      checkAddress(head, afterListener(head, value));
      return;
    case 'hash:ip,port,net':
      checkPrefix(head, afterListener(head, value));
      return;
  }
}

function afterListener(head: SetHead, value: string): string {
  const [, listener = '', rest = ''] = /^([^,]+,[^,]+),([^, ]+)$/.exec(value) ?? [];
  checkListener(head, listener, value);
  return rest;
}

function checkListener(head: SetHead, text: string, value: string): void {
  const [, address = '', protocol, port] = /^([^,]+),(tcp|udp|sctp):([0-9]+)$/.exec(text) ?? [];
  if (protocol === undefined || Number(port) > 65535 || String(Number(port)) !== port) {
    throw new Error(`${head.name}: not an address with a port: ${value}`);
  }
  checkAddress(head, address);
}

function checkAddress(head: SetHead, text: string): void {
  const address = parseAddress(text);
  if (address === undefined || address !== text) throw new Error(`${head.name}: not a canonical address: ${text}`);
  if (familyOf(address) !== head.family) throw new Error(`${head.name}: an address of another family: ${text}`);
}

/** A single address stands without a length. A length of zero the kernel refuses. */
function checkPrefix(head: SetHead, text: string): void {
  const host: Readonly<Record<Family, string>> = { ipv4: '/32', ipv6: '/128' };
  if (!text.includes('/')) {
    checkAddress(head, text);
    return;
  }
  const prefix = parsePrefix(text);
  if (prefix === undefined || prefix !== text || text.endsWith(host[head.family]) || prefix.endsWith('/0')) {
    throw new Error(`${head.name}: not an element of ${head.type}: ${text}`);
  }
  checkAddress(head, prefix.slice(0, prefix.indexOf('/')));
}
