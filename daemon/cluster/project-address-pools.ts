/**
 * Named pools of load-balancer addresses, from a ConfigMap or a file of the same content. Whatever is wrong is complained of by pool and
 * field. Where leaving the wrong part out would give addresses to Services that are not meant, the pool is unreadable as a whole.
 */
import { messageOf } from '../errors.ts';
import { type AddressRange, parseAddressRange } from '../net/address-range.ts';
import { DEFAULT_POOL } from './address-pools.ts';
import type { AddressPool, AddressPools, LabelSelector, ObjectMeta } from './kinds.ts';
import { type FieldReader, isAbsent, isRawObject, type RawObject } from './raw-object.ts';
import { selectorOf, unknownField } from './selectors.ts';
import { DocumentError, readYaml } from './yaml.ts';

/** The key of the ConfigMap's data. */
const KEY = 'pools.yaml';
const FIELDS = [
  'name',
  'addresses',
  'autoAssign',
  'namespaces',
  'namespaceSelector',
  'serviceSelector',
  'loadBalancerClasses',
  'nodeSelector',
];
/** As objects are named (RFC 1123): annotations, metrics and messages bear it. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$/;
const STAYS = 'nothing of the text is used until it is corrected';

/** Never undefined. */
export function projectAddressPools(meta: ObjectMeta, raw: RawObject, read: FieldReader): AddressPools {
  const text = read.object(raw['data'], 'data')[KEY];
  if (typeof text === 'string') return addressPoolsOfText(meta, text, `data[${KEY}]`, read);
  read.complain(`data[${KEY}]`, text, `write the pools under this key, as text: "${KEY}: |" and below it "pools:"`);
  return { kind: 'ConfigMap', meta, ...NOTHING_KNOWN };
}

/** `place` is what the text is called in complaints. */
export function addressPoolsOfText(meta: ObjectMeta, text: string, place: string, read: FieldReader): AddressPools {
  return { kind: 'ConfigMap', meta, ...poolsOf(text, place, read) };
}

type Pools = Pick<AddressPools, 'pools' | 'unreadable' | 'incomplete'>;
const NOTHING_KNOWN: Pools = { pools: [], unreadable: undefined, incomplete: [] };

function poolsOf(text: string, place: string, read: FieldReader): Pools {
  const list = listOf(text, place, read);
  if (list === undefined) return NOTHING_KNOWN;
  const pools: AddressPool[] = [];
  const unreadable: string[] = [];
  const incomplete: string[] = [];
  const names = new Set<string>();
  for (const raw of list) {
    const name = isRawObject(raw) ? nameOf(raw['name'], read) : undefined;
    if (!isRawObject(raw))
      read.complain('pools[]', raw, `not a pool, so ${STAYS}; write "- name: web" and below it "addresses:"`);
    // Which of the pools there were this one is, is not known.
    if (!isRawObject(raw) || name === undefined) return NOTHING_KNOWN;
    if (name === DEFAULT_POOL) {
      read.complain(
        `pools[${name}].name`,
        name,
        'the pool is ignored: so is called that of --loadbalancer-ip-range; name it otherwise',
      );
    } else if (names.has(name)) {
      read.complain(`pools[${name}].name`, name, 'there twice, only the first counts; name the other one otherwise');
    } else {
      names.add(name);
      const { pool, isComplete } = poolOf(name, raw, read);
      if (pool === undefined) unreadable.push(name);
      else pools.push(pool);
      if (pool !== undefined && !isComplete) incomplete.push(name);
    }
  }
  return { pools, unreadable, incomplete };
}

/** Undefined where the text is not one with a list of pools. */
function listOf(text: string, place: string, read: FieldReader): readonly unknown[] | undefined {
  let documents: readonly unknown[];
  try {
    documents = readYaml(text, 1).filter(document => !isAbsent(document));
  } catch (error) {
    const line = error instanceof DocumentError ? `, line ${error.line}` : '';
    read.complain(`${place}${line}`, messageOf(error), `not YAML, so ${STAYS}`);
    return undefined;
  }
  const [content, ...more] = documents;
  if (!isRawObject(content) || more.length > 0) {
    read.complain(place, more.length > 0 ? documents : content, `not one map, so ${STAYS}; begin it with "pools:"`);
    return undefined;
  }
  const stray = unknownField(content, ['pools']);
  if (stray !== undefined) read.complain(place, stray, 'not a field that is known here, ignored; the pools stand under "pools:"');
  const pools = content['pools'];
  if (Array.isArray(pools)) return pools as readonly unknown[];
  read.complain(`${place}: pools`, pools, `not a list, so ${STAYS}; where there are to be no pools, write "pools: []"`);
  return undefined;
}

function nameOf(value: unknown, read: FieldReader): string | undefined {
  if (typeof value === 'string' && NAME.test(value)) return read.string(value, 'pools[].name');
  read.complain('pools[].name', value, `which pool that is cannot be told, so ${STAYS}; name it with a-z, 0-9, "-" and "."`);
  return undefined;
}

/** Without one where the pool cannot be used. All that is wrong in it is complained of at once. */
function poolOf(
  name: string,
  raw: RawObject,
  read: FieldReader,
): { readonly pool: AddressPool | undefined; readonly isComplete: boolean } {
  const reader = new PoolReader(name, raw, read);
  const pool: AddressPool = {
    name,
    ranges: reader.ranges('addresses'),
    autoAssign: reader.boolean('autoAssign', true),
    namespaces: reader.words('namespaces'),
    namespaceSelector: reader.selector('namespaceSelector'),
    serviceSelector: reader.selector('serviceSelector'),
    loadBalancerClasses: reader.words('loadBalancerClasses'),
    nodeSelector: reader.selector('nodeSelector'),
  };
  reader.refuseOthers(FIELDS);
  return { pool: reader.isUsable ? pool : undefined, isComplete: reader.isComplete };
}

const POOL_STAYS = 'the pool stays as it was before, or out of use, until that is corrected';

/** Fields of one pool. */
class PoolReader {
  /** False where the pool would serve others than is meant. */
  isUsable = true;
  /** False where it has fewer addresses than is meant. */
  isComplete = true;
  readonly #name: string;
  readonly #raw: RawObject;
  readonly #read: FieldReader;

  constructor(name: string, raw: RawObject, read: FieldReader) {
    this.#name = name;
    this.#raw = raw;
    this.#read = read;
  }

  ranges(field: string): readonly AddressRange[] {
    const items = this.#list(field, '[192.0.2.0/28, 198.51.100.10-198.51.100.20]');
    const ranges = items.flatMap(item => {
      const range = typeof item === 'string' ? parseAddressRange(item) : undefined;
      if (range !== undefined) return [range];
      this.isComplete = false;
      this.#complain(
        `${field}[]`,
        item,
        'neither a CIDR nor an ascending range of addresses, left out unless the pool was read before and stays as it was; write it as 192.0.2.0/28 or 192.0.2.10-192.0.2.20',
      );
      return [];
    });
    if (ranges.length === 0 && this.isUsable)
      this.#refuse(field, this.#raw[field], 'no address in it can be used; add one, or remove the pool');
    return ranges;
  }

  boolean(field: string, absent: boolean): boolean {
    const value = this.#raw[field];
    if (typeof value === 'boolean') return value;
    if (!isAbsent(value)) this.#refuse(field, value, 'neither true nor false; write one of them, without quotes');
    return absent;
  }

  /** None of many readable would mean all. */
  words(field: string): readonly string[] {
    const items = this.#list(field, '[a, b]');
    const words = items.filter(item => typeof item === 'string' && item !== '').map(item => this.#read.string(item, field));
    for (const item of items)
      if (typeof item !== 'string' || item === '') this.#complain(`${field}[]`, item, 'not a name, left out; put it in quotes');
    if (words.length === 0 && items.length > 0) this.#refuse(field, items, 'none of them is a name');
    return [...new Set(words)];
  }

  selector(field: string): LabelSelector | undefined {
    const value = this.#raw[field];
    if (isAbsent(value)) return undefined;
    const complain = (at: string, what: unknown, remedy: string): void => {
      this.#refuse(at, what, remedy);
    };
    return selectorOf(value, field, { complain });
  }

  /** A slip of the pen may be meant to restrict the pool. */
  refuseOthers(known: readonly string[]): void {
    const stray = unknownField(this.#raw, known);
    if (stray !== undefined) this.#refuse(stray, this.#raw[stray], `not a field of a pool, which are ${known.join(', ')}`);
  }

  #list(field: string, example: string): readonly unknown[] {
    const value = this.#raw[field];
    if (Array.isArray(value)) return value;
    if (!isAbsent(value)) this.#refuse(field, value, `not a list; write it as ${example}`);
    return [];
  }

  #complain(field: string, value: unknown, remedy: string): void {
    this.#read.complain(`pools[${this.#name}].${field}`, value, remedy);
  }

  #refuse(field: string, value: unknown, remedy: string): void {
    this.isUsable = false;
    this.#complain(field, value, `${remedy}; ${POOL_STAYS}`);
  }
}
