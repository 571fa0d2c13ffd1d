/** The types a flag's value can have: how its text is read, printed, and what a wrong one is told. */
import { type IpAddress, parseAddress } from '../net/address.ts';
import { type AddressRange, formatAddressRange, parseAddressRange } from '../net/address-range.ts';
import { isPort } from '../net/port.ts';
import { type IpPrefix, parsePrefix } from '../net/prefix.ts';
import { Secret } from '../net/secret.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { parseUintDecimal, parseUintLiteral } from './integer.ts';

/** What reading a value gives: the value, or what is wrong with the text and what to write instead. */
export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: string; readonly remedy: string };

export interface ValueType<T> {
  /** The placeholder shown by `--help`: `uint16`, `duration`, `CIDRs`. */
  readonly label: string;
  parse(text: string): Parsed<T>;
  /** Text that {@link ValueType.parse} reads back as the same value. */
  format(value: T): string;
  /** What the bare flag means (`--flag` for `--flag=true`); without it the flag takes the next argument. */
  readonly bareMeans?: string;
  /** Joins the values of a repeated flag; without it the last one wins. */
  append?(before: T, more: T): T;
  /** True where the text must never be printed. */
  readonly secret?: true;
}

/** Inclusive limits. */
export interface Range {
  readonly min?: number;
  readonly max?: number;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;

/** Milliseconds the longest timer of the platform lasts: a longer one would fire at once. */
export const LONGEST_TIMER = 2 ** 31 - 1;

const ok = <T>(value: T): Parsed<T> => ({ ok: true, value });
const wrong = (problem: string, remedy: string): Parsed<never> => ({ ok: false, problem, remedy });

const TRUE: ReadonlySet<string> = new Set(['1', 't', 'T', 'TRUE', 'true', 'True']);
const FALSE: ReadonlySet<string> = new Set(['0', 'f', 'F', 'FALSE', 'false', 'False']);

/** Booleans as Go's `strconv.ParseBool` reads them. */
export const bool: ValueType<boolean> = {
  label: 'bool',
  parse: text => (TRUE.has(text) ? ok(true) : FALSE.has(text) ? ok(false) : wrong('is not a boolean', 'use true or false')),
  format: value => String(value),
  bareMeans: 'true',
};

/** Any text that `accepts` admits; `expected` says which that is. */
export function text(label = 'string', accepts: (value: string) => boolean = () => true, expected = ''): ValueType<string> {
  return {
    label,
    parse: value => (accepts(value) ? ok(value) : wrong('has the wrong form', `use ${expected}`)),
    format: value => value,
  };
}

/** An unsigned integer of so many bits, in Go's notations, within the limits. */
export function uint(bits: 8 | 16 | 32, { min = 0, max = 2 ** bits - 1 }: Range = {}): ValueType<number> {
  return {
    label: `uint${bits}`,
    parse(value) {
      const number = parseUintLiteral(value);
      if (number === undefined) return wrong('is not an unsigned integer', `use a number from ${min} to ${max}`);
      return number < min || number > max
        ? wrong(`is outside ${min} to ${max}`, `use a number from ${min} to ${max}`)
        : ok(Number(number));
    },
    format: String,
  };
}

/** A duration in milliseconds, within limits also in milliseconds. */
export function duration({ min = 0, max = Number.POSITIVE_INFINITY }: Range = {}): ValueType<number> {
  const limits =
    max === Number.POSITIVE_INFINITY
      ? `of at least ${formatDuration(min)}`
      : `from ${formatDuration(min)} to ${formatDuration(max)}`;
  return {
    label: 'duration',
    parse(value) {
      const milliseconds = parseDuration(value);
      if (milliseconds === undefined)
        return wrong('is not a duration', 'use a number with a unit, such as 300ms, 5s, 5m0s or 1h');
      if (milliseconds < 0 && min >= 0) return wrong('is negative', `use a duration ${limits}`);
      return milliseconds < min || milliseconds > max ? wrong('is out of range', `use a duration ${limits}`) : ok(milliseconds);
    },
    format: formatDuration,
  };
}

/** One of the given words. */
export function oneOf<const W extends string>(...words: readonly W[]): ValueType<W> {
  return {
    label: words.join('|'),
    parse(value) {
      const word = words.find(candidate => candidate === value);
      return word === undefined ? wrong('is not known', `use ${words.join(' or ')}`) : ok(word);
    },
    format: value => value,
  };
}

/** A comma list that may be repeated. Blanks around entries are ignored; the empty text is the empty list. */
function listOf<T>(
  label: string,
  readEntry: (entry: string) => Parsed<T>,
  formatEntry: (entry: T) => string,
): ValueType<readonly T[]> {
  return {
    label,
    parse(value) {
      const entries: T[] = [];
      if (value.trim() === '') return ok(entries);
      for (const part of value.split(',')) {
        const entry = readEntry(part.trim());
        if (!entry.ok) return entry;
        entries.push(entry.value);
      }
      return ok(entries);
    },
    format: value => value.map(formatEntry).join(','),
    append: (before, more) => [...before, ...more],
  };
}

/** Address prefixes. Host bits are cleared. */
export const cidrList: ValueType<readonly IpPrefix[]> = listOf(
  'CIDRs',
  entry => {
    const prefix = parsePrefix(entry);
    if (prefix !== undefined) return ok(prefix);
    return wrong(`has ${JSON.stringify(entry)}, which is not a CIDR`, 'use a comma list such as 10.0.0.0/8,fd00::/8');
  },
  prefix => prefix,
);

/** Ranges of addresses: CIDRs, `first-last`, single addresses. */
export const rangeList: ValueType<readonly AddressRange[]> = listOf(
  'ranges',
  entry => {
    const range = parseAddressRange(entry);
    if (range !== undefined) return ok(range);
    return wrong(
      `has ${JSON.stringify(entry)}, which is neither a CIDR nor an ascending range of addresses`,
      'use a comma list such as 192.0.2.0/28,192.0.2.32-192.0.2.47,fd00::/120',
    );
  },
  formatAddressRange,
);

/** IP addresses. */
export const ipList: ValueType<readonly IpAddress[]> = listOf(
  'IPs',
  entry => {
    const address = parseAddress(entry);
    if (address !== undefined) return ok(address);
    return wrong(`has ${JSON.stringify(entry)}, which is not an IP address`, 'use a comma list such as 10.0.0.1,fd00::1');
  },
  address => address,
);

/** Names of network links, 1 to 15 characters (IFNAMSIZ). */
export const linkNames: ValueType<readonly string[]> = listOf(
  'links',
  entry =>
    /^[^\s/]{1,15}$/.test(entry)
      ? ok(entry)
      : wrong(`has ${JSON.stringify(entry)}, which cannot name a link`, 'use a comma list of link names such as eth0,bond0'),
  name => name,
);

/** Some of the given words. */
export function wordList<const W extends string>(...words: readonly W[]): ValueType<readonly W[]> {
  const one = oneOf(...words);
  return listOf(
    `${words.join('|')},...`,
    entry => {
      const word = one.parse(entry);
      return word.ok
        ? word
        : wrong(`has ${JSON.stringify(entry)}, which is not known`, `use a comma list of ${words.join(', ')}`);
    },
    word => word,
  );
}

/** Decimal numbers that satisfy `accepts`; `expected` says which these are. */
export function uintList(accepts: (value: number) => boolean, expected: string): ValueType<readonly number[]> {
  return listOf(
    'uints',
    entry => {
      const number = parseUintDecimal(entry);
      if (number === undefined)
        return wrong(`has ${JSON.stringify(entry)}, which is not a number`, `use a comma list of ${expected}`);
      return accepts(Number(number))
        ? ok(Number(number))
        : wrong(`has ${entry}, which is out of range`, `use a comma list of ${expected}`);
    },
    String,
  );
}

function readPassword(entry: string): Parsed<Secret> {
  const remedy = 'encode each password: printf %s PASSWORD | base64';
  if (!Secret.isBase64(entry)) return wrong('has an entry that is not base64', remedy);
  const secret = Secret.ofBase64(entry);
  return secret === undefined ? wrong('has an entry that is not text in UTF-8 once decoded', remedy) : ok(secret);
}

/** Passwords in base64, one per peer; a blank entry means none. Neither the text nor an entry of it is ever quoted. */
export const passwordList: ValueType<readonly Secret[]> = {
  ...listOf('base64s', readPassword, (entry: Secret) => Buffer.from(entry.reveal()).toString('base64')),
  secret: true,
};

/** An inclusive range of ports, `first-last` or `first:last`. */
export const portRange: ValueType<PortRange> = {
  label: 'first-last',
  parse(value) {
    const match = /^([0-9]+)[-:]([0-9]+)$/.exec(value);
    const first = Number(match?.[1]);
    const last = Number(match?.[2]);
    if (!isPort(first) || !isPort(last)) return wrong('is not a range of ports', 'use first-last with ports from 1 to 65535');
    return first < last ? ok({ first, last }) : wrong('does not ascend', 'put the lower port first');
  },
  format: ({ first, last }) => `${first}-${last}`,
};

/** Log levels of klog's `-v`: 0 is quiet, higher says more. */
export const verbosity: ValueType<number> = {
  label: 'level',
  parse: value =>
    /^[0-9]{1,9}$/.test(value) ? ok(Number(value)) : wrong('is not a log level', 'use a whole number: 0 is quiet, 2 says more'),
  format: String,
};
