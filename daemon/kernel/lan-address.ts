/** The driver of addresses that this node answers for on the local network: host prefixes on the host's own links. */
import { FairwayError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type LanAddress, lanAddressKey } from '../reconcile/service-tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, textOf, withUsableLinks } from './ip-batch.ts';
import {
  type AddressOnLink,
  additionLines,
  announcementLines,
  removalLines,
  standingAddressOf,
  twinRemovalLines,
} from './lan-address-lines.ts';
import type { LanAddressRecord } from './lan-address-record.ts';

export interface LanAddressOptions {
  readonly runner: CommandRunner;
  /** Of those that are ours. */
  readonly record: LanAddressRecord;
  /** Keys of those that are left to another host for now, with his hardware address. */
  readonly left: ReadonlyMap<string, string>;
  /** Keys of those that another host answers for, and that are put on their link again by who found out: to do it here as well would be a race. */
  readonly duplicates: ReadonlySet<string>;
  /** Called with those that are on their links from now on; the network was told once. */
  readonly onAdded: (entries: readonly LanAddress[]) => void;
}

type StatesOfAddress = ReadonlySet<AddressOnLink['state']>;
/** By key. */
export type Standing = ReadonlyMap<string, StatesOfAddress>;

const NOWHERE: StatesOfAddress = new Set();

/**
 * With `arp_ignore=1` the kernel answers on a link for what is on that very link, and in IPv6 it always does so: the address on `kube-dummy-if`, where
 * every node has it, is silent, and the one on the link of one node speaks. What is on such a link and not in our record is never touched.
 */
export function lanAddressDriver({ runner, record, left, duplicates, onAdded }: LanAddressOptions): TableDriver<LanAddress> {
  const foundOf = (standing: Standing): ReadonlyMap<string, LanAddress> =>
    new Map([...record.entries].filter(([key]) => isThere(key, standing.get(key) ?? NOWHERE)));
  const isThere = (key: string, there: StatesOfAddress): boolean =>
    isSound(there) || (there.has('duplicate') && duplicates.has(key));

  const apply = async (
    changes: readonly Change<LanAddress>[],
    failed: Map<string, FairwayError>,
    signal: AbortSignal,
  ): Promise<void> => {
    const additions = changes.flatMap(change => (change.op === 'delete' ? [] : [change.to]));
    const standing = await standingOn(runner, linksOf(additions), signal);
    const due = changes.filter(change => {
      const isForeign = change.op !== 'delete' && !record.entries.has(change.key) && standing.has(change.key);
      const mac = change.op === 'delete' ? undefined : left.get(change.key);
      if (isForeign) failed.set(change.key, foreign(change.to));
      else if (mac !== undefined && change.op !== 'delete') failed.set(change.key, leftTo(mac, change.to));
      return !failed.has(change.key);
    });
    const deletedKeys = due.flatMap(({ op, key }) => (op === 'delete' ? [key] : []));
    const added = due.flatMap(change => (change.op === 'delete' ? [] : [change.to]));
    record.startLeaving(deletedKeys);
    await record.add(added);
    const readAnew = async (again: AbortSignal): Promise<ReadonlyMap<string, LanAddress>> =>
      foundOf(await standingOn(runner, linksOf([...record.entries.values()]), again));
    const linesOf = (change: Change<LanAddress>): readonly string[] => linesFrom(standing.get(change.key) ?? NOWHERE, change);
    const batch = { runner, linesOf, nameOf, isDone, read: readAnew, remedyOf };
    const result = await applyBatch(batch, due, signal);
    for (const [key, error] of result.failed) failed.set(key, error);
    const isLeft = (key: string): boolean => !failed.has(key);
    record.keep(deletedKeys.filter(key => failed.has(key)));
    // One that was refused may be there all the same, half made: it stays recorded until it is seen not to be.
    await record.remove(deletedKeys.filter(isLeft));
    const there = added.filter(entry => isLeft(lanAddressKey(entry)));
    if (there.length > 0) onAdded(there);
  };

  return {
    async read(expected, signal) {
      await record.load();
      const standing = await standingOn(runner, linksOf([...record.entries.values()]), signal);
      // Somebody else may put it there one day.
      record.forget([...record.entries.keys()].filter(key => !standing.has(key) && !expected.has(key)));
      return new Map([...foundOf(standing)].map(([key, entry]) => [key, expected.get(key) ?? entry]));
    },
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, ({ link }) => link);
      if (usable.length === 0) return { failed };
      try {
        await record.load();
        await record.exclusively(() => apply(usable, failed, signal));
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        for (const { key } of usable) if (!failed.has(key)) failed.set(key, thrown);
      }
      return { failed };
    },
    render: changes => textOf(changes.flatMap(change => linesFrom(NOWHERE, change))),
  };
}

/** What stands on these links, by key; a link that is not there has nothing. Throws a FairwayError. */
export async function standingOn(runner: CommandRunner, links: readonly string[], signal: AbortSignal): Promise<Standing> {
  const standing = new Map<string, Set<AddressOnLink['state']>>();
  for (const link of links) {
    const argv = ['ip', '-o', 'addr', 'show', 'dev', link] as const;
    const onLine = (line: string): void => {
      const there = standingAddressOf(line);
      if (there === undefined) return;
      const key = lanAddressKey({ link, address: there.address });
      standing.set(key, (standing.get(key) ?? new Set()).add(there.state));
    };
    const result = await runner.lines({ argv }, onLine, signal);
    if (result.status !== 0 && !/does not exist|Cannot find device/.test(result.stderr)) {
      throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    }
  }
  return standing;
}

export function linksOf(entries: readonly LanAddress[]): readonly string[] {
  return [...new Set(entries.map(({ link }) => link))].sort();
}

function linesFrom(there: StatesOfAddress, change: Change<LanAddress>): readonly string[] {
  const entry = change.op === 'delete' ? change.from : change.to;
  const twin = there.has('twin') ? twinRemovalLines(entry) : [];
  if (change.op === 'delete') return [...twin, ...removalLines(entry)];
  const duplicate = there.has('duplicate') ? removalLines(entry) : [];
  const isThere = there.has('held') || there.has('tentative');
  return [...twin, ...duplicate, ...(isThere ? [] : additionLines(entry)), ...announcementLines(entry)];
}

function isSound(there: StatesOfAddress): boolean {
  return (there.has('held') || there.has('tentative')) && !there.has('twin');
}

function isDone(change: Change<LanAddress>, found: ReadonlyMap<string, LanAddress>): boolean {
  return found.has(change.key) === (change.op !== 'delete');
}

function nameOf({ address, link }: { readonly address: IpAddress; readonly link: string }): string {
  return `announced address ${address} on '${link}'`;
}

function foreign(entry: LanAddress): FairwayError {
  const text = `${entry.address} is on '${entry.link}' already and not by us (keepalived, the administrator): it is left alone`;
  return new FairwayError('FW_COMMAND_REFUSED', `${text}; take it away there, or out of the pool`);
}

function leftTo(mac: string, { address, link }: LanAddress): FairwayError {
  const text = `${address} is left to another host (${mac}) that answers for it on '${link}'`;
  const reason = 'this node does not hear from the API server, and may have been replaced';
  return new FairwayError('FW_COMMAND_REFUSED', `${text}: ${reason}; it is taken back when either ends; see to the connection`);
}

function remedyOf(_: LanAddress, reason: string): string | undefined {
  return reason.includes('Cannot find device') ? 'name links of this node with --announce-interfaces' : undefined;
}
