/** The daemon's own socket: where it listens for its commands, and how these ask it. HTTP over a unix socket, for root alone. */
import { chmod, mkdir, readlink, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { OptionValues } from '../config/options.ts';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import { type HttpListener, listenSocket, type Page, respond } from '../observe/http.ts';
import type { Log } from '../observe/log.ts';
import { runFolderOf } from './run-folder.ts';

export function controlSocketOf({ socket }: Pick<OptionValues, 'socket'>, nodeName: string): string {
  return socket === '' ? join(runFolderOf(nodeName), 'fairway.sock') : socket;
}

/** Milliseconds that another daemon which is about to end is waited for, and between two looks. */
const PATIENCE_MS = 15_000;
const LOOK_MS = 250;
/** Milliseconds that one has to say who it is. */
const WHO_MS = 2_000;

/** Who answers on a socket. */
interface Listener {
  readonly pid: number;
  /** The network namespace it lives in, as /proc/PID/ns/net names it. */
  readonly namespace: string;
}

export interface ControlOptions {
  readonly path: string;
  readonly pages: ReadonlyMap<string, Page>;
  readonly clock: Clock;
  readonly log: Pick<Log, 'error'>;
}

/**
 * Listens there, and answers at once who does. A file that an earlier run left is replaced. Behind one where another daemon answers for this network
 * namespace is our own work: where that one does not end soon, rejects with FW_HOST_SECOND_DAEMON, since two would undo each other's changes forever.
 * Undefined where nothing can listen: the daemon works without, and only its commands do not.
 */
export async function openControl(options: ControlOptions, signal: AbortSignal): Promise<HttpListener | undefined> {
  const { path, pages, clock, log } = options;
  try {
    const namespace = await readlink('/proc/self/ns/net');
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const other = await whoStays(path, namespace, clock, signal);
    if (other !== undefined && other.namespace !== namespace) {
      log.error(
        `${path} belongs to the daemon of another network namespace (pid ${other.pid}): commands do not reach this one; give it a --socket`,
      );
      return undefined;
    }
    await rm(path, { force: true });
    const self: Listener = { pid: process.pid, namespace };
    const who: Page = (_query, response) => {
      respond(response, 200, JSON.stringify(self));
    };
    const listener = await listenSocket(path, new Map([...pages, ['/who', who]]));
    await chmod(path, 0o600);
    return listener;
  } catch (thrown) {
    if (signal.aborted || (thrown instanceof FairwayError && thrown.code === 'FW_HOST_SECOND_DAEMON')) throw thrown;
    log.error(`status, plan, why and snapshot do not reach this daemon: ${path} cannot be listened on: ${messageOf(thrown)}`);
    return undefined;
  }
}

/** Who else answers there; of this namespace nobody, once there was time to end. */
async function whoStays(path: string, namespace: string, clock: Clock, signal: AbortSignal): Promise<Listener | undefined> {
  const deadline = clock.now() + PATIENCE_MS;
  for (;;) {
    const other = await whoAnswers(path);
    if (other === undefined || (other !== 'silent' && other.namespace !== namespace)) return other;
    if (clock.now() >= deadline) {
      const who = other === 'silent' ? 'it does not answer' : `pid ${other.pid}`;
      throw new FairwayError(
        'FW_HOST_SECOND_DAEMON',
        `another fairway runs on this node already (${who}, ${path}): stop it first. One that shares no module with it takes a --socket of its own.`,
      );
    }
    await pause(clock, LOOK_MS, signal);
    signal.throwIfAborted();
  }
}

/** `silent`: somebody took the call, and says nothing. */
async function whoAnswers(path: string): Promise<Listener | 'silent' | undefined> {
  try {
    return JSON.parse(await textOf(await ask(path, '/who', WHO_MS))) as Listener;
  } catch (thrown) {
    return thrown instanceof FairwayError && thrown.code === 'FW_DAEMON_ABSENT' ? undefined : 'silent';
  }
}

/** Milliseconds without a word after which a daemon is taken for wedged; a profile is silent for up to a minute. */
const ANSWER_MS = 90_000;

/** The answer to one request; rejects with FW_DAEMON_ABSENT where nobody listens, and with what the daemon says where it refuses. */
export function ask(path: string, target: string, answerMs = ANSWER_MS): Promise<Readable> {
  return new Promise((resolve, reject) => {
    const absent = (thrown: NodeJS.ErrnoException): void => {
      const reason = thrown.code === 'EACCES' ? 'may not be used by this user: ask as root' : 'nobody answers there';
      reject(
        new FairwayError(
          'FW_DAEMON_ABSENT',
          `no running daemon on ${path}: ${reason}. Is it running on this node, with the same node name (--hostname-override, $NODE_NAME) or --socket?`,
          { cause: thrown },
        ),
      );
    };
    const call = request({ socketPath: path, path: target }, response => {
      if (response.statusCode === 200) resolve(response);
      else
        textOf(response).then(
          text => reject(new FairwayError('FW_DAEMON_REFUSED', text.trim())),
          (thrown: unknown) => reject(thrown as Error),
        );
    });
    call.once('error', absent);
    call.setTimeout(answerMs, () => {
      reject(new FairwayError('FW_DAEMON_REFUSED', `the daemon on ${path} did not answer within ${answerMs / 1000} s`));
      call.destroy();
    });
    call.end();
  });
}

export async function textOf(stream: Readable): Promise<string> {
  return (await bytesOf(stream)).toString('utf8');
}

export async function bytesOf(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
