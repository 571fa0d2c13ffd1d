/** Whether the clock is right enough for certificates and tokens. */
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

/** This software is not older: a clock before it was reset. */
const BUILT_AFTER = Date.UTC(2025, 0, 1);
/** Milliseconds. Tokens and certificates are made a little in the past for the sake of clocks. */
const TOLERATED_MS = 60_000;

export interface ClockOptions {
  readonly now: () => number;
  /** What the API server's clock shows, where one was asked. */
  readonly serverTime: () => number | undefined;
}

export function clockExaminer({ now, serverTime }: ClockOptions): Examiner {
  return { title: 'Clock', examine: () => Promise.resolve([finding(now(), serverTime())]) };
}

function finding(now: number, server: number | undefined): Finding {
  const shown = new Date(now).toISOString();
  const remedy =
    'certificates and tokens may count as not valid yet or as expired; start a time service (chrony, systemd-timesyncd)';
  if (now < BUILT_AFTER) return missing('clock', `${shown} is in the past: ${remedy}`);
  if (server === undefined) return ok('clock', `${shown}, compared with nobody's`);
  const offMs = now - server;
  if (Math.abs(offMs) <= TOLERATED_MS) return ok('clock', `${shown}, as the API server's`);
  const off = `${Math.round(Math.abs(offMs) / 1000)} s ${offMs > 0 ? 'ahead of' : 'behind'}`;
  return warning('clock', `${shown} is ${off} the API server's: ${remedy}`);
}
