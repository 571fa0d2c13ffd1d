/** Sets and their elements as lines for `ipset restore` (ipset(8)), and what `ipset save` prints of them: pure text. */
import { FairwayError } from '../errors.ts';
import { type Family, parseAddress } from '../net/address.ts';
import type { Change } from '../reconcile/driver.ts';
import { elementName, type IpSetEntry, type IpSetType } from '../reconcile/tables.ts';

export type IpSet = Extract<IpSetEntry, { kind: 'set' }>;

const FAMILY_NAME: Readonly<Record<Family, string>> = { ipv4: 'inet', ipv6: 'inet6' };
const TYPES: readonly IpSetType[] = ['hash:ip', 'hash:ip,port', 'hash:ip,port,ip', 'hash:ip,port,net', 'hash:net'];

/** Where the elements of a set are while it is made anew with other options. */
export const SWAP_SET = 'fairway-swap';

/** A line and the change it belongs to. */
export interface ScriptLine {
  readonly key: string;
  readonly text: string;
}

/** Lines that add all elements of a set as it is now to another one, or what to show where those are not at hand. */
export type CopyElements = (from: string, to: string) => readonly string[];

/** What a dry run shows for the elements that only the kernel knows. */
export const describeCopy: CopyElements = (from, to) => [`# the elements of ${from} go to ${to} here`];

/**
 * Sets that come, sets that change, elements that come, elements that go, sets that go: meant for `ipset restore -exist`, with which a
 * line that finds its work done is no error. Running all lines again, or all but some change's, leads to the same state.
 */
export function ipSetLines(changes: readonly Change<IpSetEntry>[], copy: CopyElements): readonly ScriptLine[] {
  const dying = new Set(
    changes.flatMap(change => (change.op === 'delete' && change.from.kind === 'set' ? [change.from.name] : [])),
  );
  const stages: ScriptLine[][] = [[], [], [], [], []];
  for (const change of changes) {
    for (const [stage, text] of linesOf(change, copy, dying)) stages[stage]?.push({ key: change.key, text });
  }
  stages[2] = groupedBySet(stages[2] ?? [], changes);
  // What came last goes first, so that what is true between two elements is true on the way down as well.
  stages[3]?.reverse();
  return stages.flat();
}

/**
 * Elements of sets that are made in this script first, set by set, which the tool hands to the kernel many at a time; nothing looks at those
 * sets yet. The others keep their order.
 */
function groupedBySet(adds: readonly ScriptLine[], changes: readonly Change<IpSetEntry>[]): ScriptLine[] {
  const made = new Set(changes.flatMap(change => (change.op === 'create' && change.to.kind === 'set' ? [change.to.name] : [])));
  const setOf = ({ text }: ScriptLine): string => text.split(' ', 2)[1] ?? '';
  const bySet = Map.groupBy(adds, line => (made.has(setOf(line)) ? setOf(line) : ''));
  const others = bySet.get('') ?? [];
  bySet.delete('');
  return [...[...bySet.values()].flat(), ...others];
}

function linesOf(
  change: Change<IpSetEntry>,
  copy: CopyElements,
  dying: ReadonlySet<string>,
): readonly (readonly [number, string])[] {
  if (change.op === 'delete') {
    const { from } = change;
    // Elements of a set that goes as a whole need no line each; emptied first, it is as asked even where the kernel holds on to it.
    if (from.kind === 'element') return dying.has(from.set) ? [] : [[3, `del ${from.set} ${elementName(from.value)}`]];
    return [
      [4, `flush ${from.name}`],
      [4, `destroy ${from.name}`],
    ];
  }
  const { to } = change;
  // Of an element that is there, `-exist` makes this change whether it matches.
  if (to.kind === 'element') return [[2, `add ${to.set} ${to.value}`]];
  return change.op === 'create' ? [[0, createLine(to.name, to)]] : replaceLines(to, copy).map(text => [1, text]);
}

/** Options of a set cannot be changed, but two sets of one type can change places without a packet missing either. */
function replaceLines(to: IpSet, copy: CopyElements): readonly string[] {
  return [
    `destroy ${SWAP_SET}`,
    createLine(SWAP_SET, to),
    ...copy(to.name, SWAP_SET),
    `swap ${to.name} ${SWAP_SET}`,
    `destroy ${SWAP_SET}`,
  ];
}

function createLine(name: string, set: IpSet): string {
  return `create ${name} ${set.type} family ${FAMILY_NAME[set.family]} maxelem ${set.maxElements}${set.carriesMarks === true ? ' skbinfo' : ''}`;
}

/** Why ipset itself would not take this entry or would take it for something else, or undefined. */
export function refusalOf(entry: IpSetEntry): string | undefined {
  const name = entry.kind === 'set' ? entry.name : entry.set;
  if (!/^[!-~]{1,31}$/.test(name) || name.startsWith('-'))
    return `'${name}' is no name of a set: 1 to 31 characters without blanks`;
  if (entry.kind === 'set') {
    const isSize = Number.isInteger(entry.maxElements) && entry.maxElements >= 1 && entry.maxElements <= 0xffff_ffff;
    return isSize ? undefined : `a set cannot hold ${entry.maxElements} elements`;
  }
  // ipset takes any other word for the name of a host and asks the DNS.
  if (!ELEMENT.test(entry.value)) {
    return `'${entry.value}' is no element: an address or prefix, then maybe ',tcp:80' and ',ADDRESS' or ',PREFIX', then maybe ' nomatch' or ' skbmark 0x5/0xfff'`;
  }
  const [first = '', , last = first] = elementName(entry.value).split(',');
  return lengthRefusal(last);
}

const ELEMENT =
  /^[0-9a-f.:]+((\/[0-9]{1,3})?( nomatch)?|,(tcp|udp|sctp):[0-9]{1,5}(,[0-9a-f.:]+(\/[0-9]{1,3})?)?( skbmark 0x[0-9a-f]{1,8}\/0x[0-9a-f]{1,8})?)$/;

function lengthRefusal(prefix: string): string | undefined {
  const [address = '', bits] = prefix.split('/');
  if (bits === '0') return `'${prefix}' is too large for one element: write its two halves`;
  const isHost = bits === (address.includes(':') ? '128' : '32');
  return isHost ? `'${prefix}' is printed as '${address}', so write that` : undefined;
}

/**
 * One line of `ipset save`: a set, or an element with its addresses in canonical form (ipset prints some of IPv6 with a dotted
 * decimal end). Timeouts and other options are left out: a set made with `timeout 0`, as kube-router does, serves as well.
 * Undefined for sets of types that we never make. Throws FW_READ_UNPARSABLE.
 */
export function parseSaveLine(line: string): IpSetEntry | undefined {
  const [command, name, what, ...options] = line.split(' ');
  if (name === undefined || what === undefined || (command !== 'create' && command !== 'add')) {
    throw new FairwayError('FW_READ_UNPARSABLE', `ipset save printed a line we cannot read: ${JSON.stringify(line)}`);
  }
  if (command === 'add') {
    const mark = optionOf(options, 'skbmark');
    const remark = options.includes('nomatch') ? ' nomatch' : mark === undefined ? '' : ` skbmark ${mark}`;
    return { kind: 'element', set: name, value: `${canonicalElement(what)}${remark}` };
  }
  const type = TYPES.find(known => known === what);
  if (type === undefined) return undefined;
  const family = optionOf(options, 'family') === 'inet6' ? 'ipv6' : 'ipv4';
  const maxElements = Number(optionOf(options, 'maxelem'));
  const set = { kind: 'set', name, type, family, maxElements } as const;
  return options.includes('skbinfo') ? { ...set, carriesMarks: true } : set;
}

function optionOf(options: readonly string[], name: string): string | undefined {
  const at = options.indexOf(name);
  return at < 0 ? undefined : options[at + 1];
}

/** An element with its addresses in canonical form. */
function canonicalElement(value: string): string {
  // Only a dotted end of an IPv6 address is not canonical already.
  if (!/(^|,)[0-9a-f]*:[0-9a-f:]*\./.test(value)) return value;
  return value
    .split(',')
    .map(part => {
      const [address = '', bits] = part.split('/');
      const canonical = parseAddress(address);
      if (canonical === undefined) return part;
      return bits === undefined ? canonical : `${canonical}/${bits}`;
    })
    .join(',');
}
