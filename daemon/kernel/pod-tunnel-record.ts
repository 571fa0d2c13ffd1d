/**
 * The record of what was set up in which pod's namespace, kept in a file: a pod's namespace says nothing of itself, and a daemon that starts anew must find
 * what an earlier one left in pods that want nothing any more.
 */
import { FairwayError, messageOf } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { PodNamespace } from './pod-namespace.ts';
import type { StateFile } from './state-file.ts';

export interface PodTunnelRecord {
  readonly pod: IpAddress;
  readonly namespace: PodNamespace;
  /** Sorted. What was meant to be there; what is there the namespace tells. */
  readonly vips: readonly IpAddress[];
  /** rp_filter as it was before us, where that was not 0: `{ all: 1 }`. */
  readonly rpFilter: Readonly<Record<string, number>>;
}

/** Text that is no record of ours (a disk that was full) counts as none: pods that want a tunnel are looked into without it. Throws a FairwayError. */
export async function readRecords(file: StateFile): Promise<ReadonlyMap<IpAddress, PodTunnelRecord>> {
  let text: string | undefined;
  try {
    text = await file.read();
  } catch (cause) {
    throw new FairwayError('FW_COMMAND_FAILED', `the record of pods' tunnels cannot be read: ${messageOf(cause)}`, { cause });
  }
  return parseRecords(text ?? '');
}

/** Throws a FairwayError. */
export async function writeRecords(file: StateFile, records: ReadonlyMap<IpAddress, PodTunnelRecord>): Promise<void> {
  try {
    await file.write(renderRecords(records));
  } catch (cause) {
    throw new FairwayError('FW_COMMAND_FAILED', `the record of pods' tunnels cannot be written: ${messageOf(cause)}`, { cause });
  }
}

/** One record a line, in the order of addresses. */
export function renderRecords(records: ReadonlyMap<IpAddress, PodTunnelRecord>): string {
  const lines = [...records.values()].map(record => JSON.stringify(record)).sort();
  return lines.map(line => `${line}\n`).join('');
}

/** Lines that are no record are left out. */
export function parseRecords(text: string): ReadonlyMap<IpAddress, PodTunnelRecord> {
  const records = text.split('\n').flatMap(line => recordOf(line) ?? []);
  return new Map(records.map(record => [record.pod, record]));
}

function recordOf(line: string): PodTunnelRecord | undefined {
  const { pod: podText, namespace, vips, rpFilter } = fieldsOf(parsedOf(line));
  const pod = parseAddress(String(podText));
  const { sandbox, path, inode } = fieldsOf(namespace);
  if (pod === undefined || typeof sandbox !== 'string' || typeof path !== 'string' || typeof inode !== 'number') return undefined;
  const list: readonly unknown[] = Array.isArray(vips) ? vips : [];
  const filters = Object.entries(fieldsOf(rpFilter)).filter((entry): entry is [string, number] => Number.isInteger(entry[1]));
  return {
    pod,
    namespace: { sandbox, path, inode },
    vips: list.flatMap(vip => parseAddress(String(vip)) ?? []).sort(),
    rpFilter: Object.fromEntries(filters),
  };
}

function parsedOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}
