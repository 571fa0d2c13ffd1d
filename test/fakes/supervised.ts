/** A supervisor over the real gobgpd, in a folder of its own, and what it told. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { BGP_PROCESS_TIMINGS } from '../../daemon/bgp/process.ts';
import type { Speaker } from '../../daemon/bgp/speaker.ts';
import { GobgpdSupervisor, type SupervisorOptions } from '../../daemon/bgp/supervisor.ts';
import type { FairwayError } from '../../daemon/errors.ts';
import { serviceStarter } from '../../daemon/kernel/service-process.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { LogLines } from './daemon.ts';
import { GobgpCliSpeaker } from './gobgp-cli.ts';

/** As in the daemon, but for what would take a test half a minute. */
export const HASTY = { ...BGP_PROCESS_TIMINGS, probeEveryMs: 200, probeLimitMs: 500, firstRetryMs: 50, missingRetryMs: 300 };

export const startProcess = serviceStarter({ path: process.env['PATH'] ?? '' });

export class Supervised {
  readonly folder: string;
  readonly log = new LogLines();
  readonly speakers: Speaker[] = [];
  readonly troubles: FairwayError[] = [];
  hasRoutesInKernel = false;
  readonly supervisor: GobgpdSupervisor;

  constructor(folder: string, overrides: Partial<SupervisorOptions> = {}) {
    this.folder = folder;
    this.supervisor = new GobgpdSupervisor({
      folder,
      adminHosts: [],
      startProcess,
      startWatch: startProcess,
      graceSeconds: () => 60,
      connect: endpoint => new GobgpCliSpeaker(endpoint),
      hasRoutesInKernel: () => this.hasRoutesInKernel,
      restartMs: () => 90_000,
      clock: systemClock(),
      log: this.log,
      timings: HASTY,
      onSpeaker: speaker => this.speakers.push(speaker),
      onTrouble: error => this.troubles.push(error),
      ...overrides,
    });
  }

  get socket(): string {
    return join(this.folder, 'gobgp.sock');
  }

  get endpoint(): string {
    return `unix://${this.socket}`;
  }

  /** The process id beside the socket. */
  get pid(): number {
    return Number(readFileSync(join(this.folder, 'gobgp.pid'), 'utf8'));
  }

  /** Resolves when as many speakers were told. */
  async spoken(count: number): Promise<void> {
    await seen(`${count} speakers; troubles: ${this.troubles.map(String).join(', ')}`, () => this.speakers.length >= count);
  }
}

/** Resolves when it is so; rejects when the time (milliseconds) is over. */
export async function seen(what: string, isSo: () => boolean, limitMs = 8_000): Promise<void> {
  for (const begin = performance.now(); !isSo(); ) {
    if (performance.now() - begin > limitMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await pause(20);
  }
}

/** Whether a process runs; one that has ended and that nobody has waited for does not. */
export function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';
  } catch {
    return false;
  }
}

export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'fairway-bgp-'));
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
