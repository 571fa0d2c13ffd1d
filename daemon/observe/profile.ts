/**
 * What pprof is to kube-router: profiles of the running daemon, as V8 makes them (Chrome DevTools and VS Code open them). On the daemon's private socket
 * alone, never on TCP: a heap snapshot holds whatever the daemon does.
 */
import type { ServerResponse } from 'node:http';
import { Session } from 'node:inspector/promises';
import { pipeline } from 'node:stream/promises';
import { getHeapSnapshot } from 'node:v8';
import type { Clock } from '../net/clock.ts';
import type { Page } from './http.ts';

const SECONDS = { least: 1, most: 60, unlessTold: 10 };

/**
 * `/profile/cpu?seconds=N` (.cpuprofile), `/profile/heap-sampling?seconds=N` (.heapprofile: who allocates what stays) and `/profile/heap` (.heapsnapshot,
 * which holds up the daemon for a second for every 50 MB or so). One at a time: 409 otherwise.
 */
export function profilePages(clock: Pick<Clock, 'after'>): ReadonlyMap<string, Page> {
  let isBusy = false;
  const alone =
    (page: Page): Page =>
    async (query, response) => {
      if (isBusy) {
        refuse(response, 409, 'a profile is being taken: one at a time');
        return;
      }
      isBusy = true;
      try {
        await page(query, response);
      } finally {
        isBusy = false;
      }
    };
  return new Map([
    ['/profile/cpu', alone(sampled(clock, 'cpuprofile', cpuProfile))],
    ['/profile/heap-sampling', alone(sampled(clock, 'heapprofile', heapProfile))],
    ['/profile/heap', alone(heapSnapshot)],
  ]);
}

/** Records while `wait` lasts; gives the profile. */
type Recording = (session: Session, wait: () => Promise<void>) => Promise<unknown>;

const cpuProfile: Recording = async (session, wait) => {
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  await wait();
  return (await session.post('Profiler.stop')).profile;
};

const heapProfile: Recording = async (session, wait) => {
  await session.post('HeapProfiler.startSampling');
  await wait();
  return (await session.post('HeapProfiler.stopSampling')).profile;
};

function sampled(clock: Pick<Clock, 'after'>, extension: string, record: Recording): Page {
  return async (query, response) => {
    const seconds = secondsOf(query);
    if (seconds === undefined) {
      refuse(response, 400, `seconds is to be a number from ${SECONDS.least} to ${SECONDS.most}`);
      return;
    }
    const session = new Session();
    session.connect();
    try {
      const profile = await record(session, () => lasting(clock, seconds * 1000, response));
      name(response, extension);
      response.end(JSON.stringify(profile));
    } finally {
      session.disconnect();
    }
  };
}

const heapSnapshot: Page = async (_query, response) => {
  name(response, 'heapsnapshot');
  // Who asked may go away half way.
  await pipeline(getHeapSnapshot(), response).catch(() => undefined);
};

function secondsOf(query: URLSearchParams): number | undefined {
  const seconds = Number(query.get('seconds') ?? SECONDS.unlessTold);
  return seconds >= SECONDS.least && seconds <= SECONDS.most ? seconds : undefined;
}

/** Until the time is over, or who asked is gone. */
function lasting(clock: Pick<Clock, 'after'>, milliseconds: number, response: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const cancel = clock.after(milliseconds, resolve);
    response.once('close', () => {
      cancel();
      resolve();
    });
  });
}

function name(response: ServerResponse, extension: string): void {
  response.setHeader('Content-Type', 'application/json');
  response.setHeader('Content-Disposition', `attachment; filename="fairway.${extension}"`);
}

function refuse(response: ServerResponse, status: number, reason: string): void {
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`${reason}\n`);
}
