/** The load-balancer addresses of Services as a text that outlives the daemon, where no API server keeps them. Pure. */
import type { ObjectKey } from '../cluster/kinds.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';

/** What one Service was given. */
export interface BookEntry {
  /** In the order of its status; at least one. */
  readonly addresses: readonly IpAddress[];
  /** Milliseconds since the epoch. */
  readonly writtenAt: number;
}

export type Book = ReadonlyMap<ObjectKey, BookEntry>;

/** What could be read, and what could not: each names its place and what is expected there. */
export interface ParsedBook {
  readonly book: Book;
  readonly faults: readonly string[];
}

/** JSON, in the order of the Services' names: made to be looked at, and to be corrected by hand while the daemon is stopped. */
export function renderBook(book: Book): string {
  const services = [...book].sort(([one], [other]) => (one < other ? -1 : 1)).map(lineOf);
  return `{\n"services": {\n${services.join(',\n')}\n}\n}\n`;
}

export function parseBook(text: string): ParsedBook {
  const services = fieldsOf(fieldsOf(parsed(text))?.['services']);
  if (services === undefined) return { book: new Map(), faults: ['it is not a JSON object that holds an object "services"'] };
  const book = new Map<ObjectKey, BookEntry>();
  const faults: string[] = [];
  for (const [key, value] of Object.entries(services)) {
    const entry = entryOf(value);
    if (entry === undefined) faults.push(`services["${key}"] is not of the form ${EXAMPLE}`);
    else book.set(key, entry);
  }
  return { book, faults };
}

const EXAMPLE = '{"addresses":["192.0.2.1"],"writtenAt":"2026-01-01T00:00:00.000Z"}';

function lineOf([key, { addresses, writtenAt }]: readonly [ObjectKey, BookEntry]): string {
  return `${JSON.stringify(key)}: ${JSON.stringify({ addresses, writtenAt: new Date(writtenAt).toISOString() })}`;
}

function entryOf(value: unknown): BookEntry | undefined {
  const { addresses: texts, writtenAt: time } = fieldsOf(value) ?? {};
  if (!Array.isArray(texts) || typeof time !== 'string') return undefined;
  const addresses = [...new Set(texts.flatMap(text => parseAddress(String(text)) ?? []))];
  const writtenAt = Date.parse(time);
  if (addresses.length === 0 || addresses.length < texts.length || Number.isNaN(writtenAt)) return undefined;
  return { addresses, writtenAt };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}
