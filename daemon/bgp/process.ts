/** The gobgpd behind a speaker: a child of ours (`supervisor.ts`) or one that others run (`endpoint.ts`). */
import type { FairwayError } from '../errors.ts';
import type { Speaker } from './speaker.ts';

/** `keep routes`: neighbours with graceful restart go on using our routes. `withdraw`: all are told that we go. */
export type StopManner = 'keep routes' | 'withdraw';

export interface BgpProcess {
  start(): void;
  /** The speaker that answers now; throws FW_BGP_UNREACHABLE while there is none. */
  speaker(): Speaker;
  /** {@link AddPeerOptions.isRestarting}, for peers that are added now. */
  readonly isRestarting: boolean;
  /** Somebody saw a call or a watch break off: it is looked at now. */
  doubt(): void;
  /** Resolves when nothing of it runs any more; gobgpd that others run is left as it is. */
  stop(manner: StopManner): Promise<void>;
}

export interface BgpProcessEvents {
  /** A speaker answers that did not before: what it has is to be read. Called once for each. */
  readonly onSpeaker: (speaker: Speaker) => void;
  /** There is no speaker any more, or none to be had; once until there is one again. */
  readonly onTrouble: (error: FairwayError) => void;
}

/** Milliseconds, except where said. */
export interface BgpProcessTimings {
  readonly probeEveryMs: number;
  readonly probeLimitMs: number;
  /** Probes in a row without an answer after which gobgpd is taken for hung. */
  readonly misses: number;
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** After it ran this long, the next wait is the first again. */
  readonly settledMs: number;
  /** Between two tries to start what is not installed. */
  readonly missingRetryMs: number;
  /** That gobgpd may take to answer after its start, and to end after SIGTERM. */
  readonly startLimitMs: number;
  readonly endLimitMs: number;
}

export const BGP_PROCESS_TIMINGS: BgpProcessTimings = {
  probeEveryMs: 10_000,
  probeLimitMs: 2_000,
  misses: 3,
  firstRetryMs: 500,
  longestRetryMs: 30_000,
  settledMs: 60_000,
  missingRetryMs: 60_000,
  startLimitMs: 10_000,
  endLimitMs: 3_000,
};

/** What our log takes (`daemon/observe/log.ts`). */
export interface ProcessLog {
  error(message: string, fields?: Readonly<Record<string, string | number | boolean>>): void;
  warn(message: string, fields?: Readonly<Record<string, string | number | boolean>>): void;
  info(message: string, fields?: Readonly<Record<string, string | number | boolean>>): void;
}
