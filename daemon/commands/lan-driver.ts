/** The driver of addresses that this node answers for on the local network, with its record and with what follows an announcement. */
import { join } from 'node:path';
import type { CommandRunner } from '../kernel/command.ts';
import { lanAddressDriver } from '../kernel/lan-address.ts';
import { LanAddressRecord } from '../kernel/lan-address-record.ts';
import { type Duplicate, LanSecondLook } from '../kernel/lan-second-look.ts';
import { stateFile } from '../kernel/state-file.ts';
import type { Clock } from '../net/clock.ts';
import type { Log } from '../observe/log.ts';
import type { Drivers } from '../reconcile/reconciler.ts';

export interface LanDriverOptions {
  readonly runner: CommandRunner;
  readonly clock: Clock;
  /** For root alone, by node. */
  readonly runFolder: string;
  /** Undefined for a command that only looks, or clears away: nothing follows then. */
  readonly log: Log | undefined;
  /** Addresses were left to another host, or are to be had again. */
  readonly onMoved: () => void;
}

export interface LanDriver {
  readonly lanAddress: Drivers['lanAddress'];
  readonly standingOf: LanAddressRecord['standingOf'];
  /** Soon: a link came back, and who is behind it may have learned otherwise meanwhile. */
  readonly announceAgain: () => void;
  /** Whether this node learns no more which node is to answer. */
  readonly blind: (isBlind: boolean) => void;
  readonly close: () => Promise<void>;
}

export async function lanDriver({ runner, clock, runFolder, log, onMoved }: LanDriverOptions): Promise<LanDriver> {
  const record = new LanAddressRecord(stateFile(join(runFolder, 'lan-addresses')));
  // The table says what is wrong with it; who may not read it (`check` without root) sees all addresses as the host's.
  await record.load().catch(() => undefined);
  const rivals = { left: new Map<string, string>(), duplicates: new Set<string>() };
  const secondLook =
    log === undefined ? undefined : new LanSecondLook({ runner, record, ...rivals, clock, onMoved, ...toldBy(log) });
  return {
    lanAddress: lanAddressDriver({ runner, record, ...rivals, onAdded: entries => secondLook?.add(entries) }),
    standingOf: entry => record.standingOf(entry),
    announceAgain: () => secondLook?.add(record.entries.values()),
    blind: isBlind => secondLook?.blind(isBlind),
    close: async () => secondLook?.stop(),
  };
}

/** Where nothing is to be announced any more, and no module has the table. Gives how many addresses went; throws a FairwayError. */
export async function giveBack(driver: Drivers['lanAddress'], signal: AbortSignal): Promise<number> {
  const found = await driver.read(new Map(), signal);
  const { failed } = await driver.apply(
    [...found].map(([key, from]) => ({ op: 'delete', key, from })),
    signal,
  );
  const [first] = failed.values();
  if (first !== undefined) throw first;
  return found.size;
}

function toldBy(log: Log): Pick<ConstructorParameters<typeof LanSecondLook>[0], 'onDuplicate' | 'onAlone' | 'onTrouble'> {
  return {
    onDuplicate: duplicate => {
      log.warn(duplicateText(duplicate), { code: 'FW_LAN_DUPLICATE' });
    },
    onAlone: ({ address, link }) => {
      log.info(`well again: nobody else on '${link}' answers for ${address}`);
    },
    onTrouble: error => {
      log.warn(`whether another host answers for announced addresses is not known: ${error.message}`, { code: error.code });
    },
  };
}

function duplicateText({ address, link, mac }: Duplicate): string {
  const who = mac === undefined ? 'another host' : `another host (${mac})`;
  const remedy = 'find it, or take the address out of the pool; it is looked for again';
  return `${who} on '${link}' answers for ${address}, which this node announces: clients reach the one or the other: ${remedy}`;
}
