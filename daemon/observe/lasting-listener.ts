/** A page that is served as long as the daemon runs, also where another program has its port at first: that one may go. */
import { messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import { type HttpListener, listenHttp, type Page } from './http.ts';
import type { Log } from './log.ts';

export interface LastingListenerOptions {
  /** '' for all. */
  readonly address: string;
  readonly port: number;
  readonly pages: ReadonlyMap<string, Page>;
  /** As the operator knows it: `--health-port`. */
  readonly flag: string;
  readonly clock: Clock;
  readonly log: Pick<Log, 'error' | 'info'>;
}

/** Milliseconds between two tries. */
const RETRY_MS = 10_000;

/** Resolves after the first try, whatever came of it; never rejects. A port that cannot be had is told once and tried again. */
export async function listenForGood(options: LastingListenerOptions): Promise<HttpListener> {
  const { address, port, pages, flag, clock, log } = options;
  const stopping = new AbortController();
  let listener: HttpListener | undefined;
  const attempt = async (): Promise<string | undefined> => {
    try {
      listener = await listenHttp(address, port, pages);
      return undefined;
    } catch (thrown) {
      return messageOf(thrown);
    }
  };
  const persist = async (): Promise<void> => {
    const isStopped = (): boolean => stopping.signal.aborted;
    for (let failure: string | undefined = ''; failure !== undefined; failure = await attempt()) {
      await pause(clock, RETRY_MS, stopping.signal);
      if (isStopped()) return;
    }
    log.info(`${flag}=${port} is listened on now`);
  };
  const reason = await attempt();
  const remedy = 'free it (ss -ltnp shows who has it) or choose another; it is tried again, and everything else works';
  if (reason !== undefined) log.error(`${flag}=${port} cannot be listened on: ${reason}; ${remedy}`);
  const persisting = reason === undefined ? Promise.resolve() : persist();
  return {
    close: async () => {
      stopping.abort();
      await persisting;
      await listener?.close();
    },
  };
}
