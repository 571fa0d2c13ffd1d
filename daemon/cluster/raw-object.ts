/** Reading JSON or YAML of unknown shape field by field: what is wrong becomes a complaint, once per field, and never an exception. */
import { type IpAddress, parseAddress } from '../net/address.ts';
import { type IpPrefix, parsePrefix } from '../net/prefix.ts';
import type { StringPool } from './intern.ts';
import type { Complaint, Kind, ObjectKey } from './kinds.ts';

export type RawObject = { readonly [field: string]: unknown };

/** A JSON object, as opposed to an array, null or a scalar. */
export function isRawObject(value: unknown): value is RawObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** API convention: a field that is null is a field that is not there. */
export function isAbsent(value: unknown): value is null | undefined {
  return value === undefined || value === null;
}

/** The value as a reader of logs needs it: JSON, at most 80 characters. */
export function quoted(value: unknown): string {
  const text = printed(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** JSON of the outer shape only: the value may be huge or, from YAML anchors, contain itself. */
function printed(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? value.slice(0, 80) : value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isRawObject(value)) return `an object with ${Object.keys(value).slice(0, 5).join(', ') || 'no fields'}`;
  return String(value);
}

/** A complaint's text: what stands where, and what to write instead. `more` counts others like it. */
export function complaintText(field: string, value: unknown, remedy: string, more = 0): string {
  const others = more === 0 ? '' : ` (and ${more} more like it)`;
  return `${field}: ${value === undefined ? 'missing' : quoted(value)}${others}: ${remedy}`;
}

interface Finding {
  readonly value: unknown;
  readonly remedy: string;
  more: number;
}

/**
 * Reads the fields of one object. Fields are named by their path with `[]` for list items, so that 40,000 wrong items are one
 * complaint with a count.
 */
export class FieldReader {
  readonly #kind: Kind;
  readonly #pool: StringPool;
  readonly #findings = new Map<string, Finding>();

  constructor(kind: Kind, pool: StringPool) {
    this.#kind = kind;
    this.#pool = pool;
  }

  /** Notes that `value` at `field` is unusable. `remedy` says what is done instead and what to write. */
  complain(field: string, value: unknown, remedy: string): void {
    const known = this.#findings.get(field);
    if (known === undefined) this.#findings.set(field, { value, remedy, more: 0 });
    else known.more++;
  }

  /** All complaints so far, in the order of their discovery. */
  complaints(key: ObjectKey): readonly Complaint[] {
    if (this.#findings.size === 0) return NOTHING;
    return Array.from(this.#findings, ([field, { value, remedy, more }]) => {
      return { kind: this.#kind, key, message: complaintText(field, value, remedy, more) };
    });
  }

  object(value: unknown, field: string): RawObject {
    if (isRawObject(value)) return value;
    if (!isAbsent(value)) this.complain(field, value, 'not an object, ignored');
    return EMPTY;
  }

  list(value: unknown, field: string): readonly unknown[] {
    if (Array.isArray(value)) return value;
    if (!isAbsent(value)) this.complain(field, value, 'not a list, ignored');
    return NOTHING;
  }

  /** The members of a list that are objects. */
  objects(value: unknown, field: string): readonly RawObject[] {
    const items = this.list(value, field);
    if (items.every(isRawObject)) return items;
    return items.filter(item => {
      if (!isRawObject(item)) this.complain(`${field}[]`, item, 'not an object, left out');
      return isRawObject(item);
    });
  }

  /** An interned string, '' where absent or wrong. */
  string(value: unknown, field: string): string {
    if (typeof value === 'string') return this.#pool.intern(value);
    if (!isAbsent(value)) this.complain(field, value, 'not a string, ignored; put it in quotes');
    return '';
  }

  /** One of the words, `fallback` where absent or wrong. */
  word<T extends string>(value: unknown, words: readonly T[], fallback: T, field: string): T {
    if (isAbsent(value) || value === '') return fallback;
    const found = words.find(word => word === value);
    if (found !== undefined) return found;
    this.complain(field, value, `not one of ${words.join(', ')}; ${fallback} is used`);
    return fallback;
  }

  /** Like {@link word} where there is nothing to fall back to: undefined for a wrong word. */
  knownWord<T extends string>(value: unknown, words: readonly T[], absent: T, field: string): T | undefined {
    if (isAbsent(value) || value === '') return absent;
    const found = words.find(word => word === value);
    if (found === undefined) this.complain(field, value, `not one of ${words.join(', ')}; left out`);
    return found;
  }

  /** Undefined where the API left it open. */
  boolean(value: unknown, field: string): boolean | undefined {
    if (typeof value === 'boolean') return value;
    if (!isAbsent(value)) this.complain(field, value, 'neither true nor false, ignored');
    return undefined;
  }

  address(value: unknown, field: string): IpAddress | undefined {
    const address = typeof value === 'string' ? parseAddress(value) : undefined;
    if (address === undefined) this.complain(field, value, 'not an IP address, left out; write it as 10.0.0.1 or fd00::1');
    return address;
  }

  /** The valid ones of these addresses, each once. */
  addresses(values: readonly unknown[], field: string): readonly IpAddress[] {
    const found = new Set<IpAddress>();
    for (const item of values) {
      const address = this.address(item, field);
      if (address !== undefined) found.add(address);
    }
    return found.size === 0 ? NOTHING : [...found];
  }

  /** The valid ones of these prefixes, each once. */
  prefixes(values: readonly unknown[], field: string): readonly IpPrefix[] {
    const found = new Set<IpPrefix>();
    for (const item of values) {
      const prefix = typeof item === 'string' ? parsePrefix(item.trim()) : undefined;
      if (prefix === undefined) this.complain(field, item, 'not a CIDR prefix, left out; write it as 10.0.0.0/8 or fd00::/64');
      else found.add(prefix);
    }
    return found.size === 0 ? NOTHING : [...found];
  }

  /** Labels or annotations whose key the filter keeps, keys and values interned. */
  stringMap(value: unknown, field: string, keep: (key: string) => boolean): Readonly<Record<string, string>> {
    const kept: [string, string][] = [];
    for (const [key, text] of Object.entries(this.object(value, field))) {
      if (!keep(key)) continue;
      if (typeof text === 'string') kept.push([this.#pool.intern(key), this.#pool.intern(text)]);
      else this.complain(`${field}[${key}]`, text, 'not a string, ignored; put it in quotes');
    }
    return kept.length === 0 ? EMPTY_MAP : Object.fromEntries(kept);
  }
}

const EMPTY: RawObject = Object.freeze({});
const EMPTY_MAP: Readonly<Record<string, string>> = Object.freeze({});
/** Shared by all objects: most lists of most objects are empty. */
const NOTHING: readonly never[] = Object.freeze([]);
