/**
 * The measuring end inside the lab, a process in a node's namespace: it holds the API server, scrapes the daemon, reads its processor
 * time from the kernel, changes endpoints and connects. Its own clock is the only one used, so that the way to the lab costs nothing.
 *
 * It carries out {@link Operation}s, as `obey.ts` says.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { FakeApiServer } from '../test/fakes/api-server.ts';
import {
  clusterIp,
  clusterObjects,
  endpointAddress,
  nodeObject,
  PROBE_ADDRESS,
  PROBE_PORT,
  restoreLines,
  serviceObject,
  sliceObject,
  sliceOf,
  TARGET_PORT,
} from './cluster.ts';
import { obeyInput } from './obey.ts';
import { scrape } from './scrape.ts';

export type Operation =
  /** Starts the API server with so many Services and Service `probe` on the first of these endpoints; answers with the kubeconfig's path. */
  | { readonly op: 'serve'; readonly services: number; readonly nodes: readonly string[]; readonly endpoints: readonly string[] }
  /** The daemon's metrics page. */
  | { readonly op: 'scrape'; readonly port: number }
  /** Milliseconds from an event at the API server to the first connection on the new endpoint, for so many changes. */
  | { readonly op: 'change'; readonly endpoints: readonly string[]; readonly count: number }
  /**
   * So many Services change one endpoint each second, in turn, for so many seconds; meanwhile {@link Operation} `change` of Service `probe` goes on. Answers
   * with {@link Churned}.
   */
  | {
      readonly op: 'churn';
      readonly services: number;
      readonly perSecond: number;
      readonly seconds: number;
      readonly endpoints: readonly string[];
    }
  /** Processor time of the process with this word in its command line, {@link CpuSample}, every 250 ms. */
  | { readonly op: 'watch'; readonly word: string; readonly seconds: number }
  /** {@link Memory} of that process. */
  | { readonly op: 'memory'; readonly word: string }
  /** Milliseconds of one `ipvsadm -R` of so many Services. */
  | { readonly op: 'restore'; readonly services: number }
  /** Milliseconds of each of so many `ipvsadm -R` of one line that changes nothing. */
  | { readonly op: 'spawn'; readonly services: number; readonly count: number }
  /** Milliseconds for which starting a process holds up the loop, so many times. */
  | { readonly op: 'spawnPause'; readonly count: number }
  /** Milliseconds of one run of a command and its lines of output. */
  | { readonly op: 'run'; readonly argv: readonly [string, ...string[]] };

export interface Churned {
  /** Milliseconds from an event of Service `probe` to the first connection on its new endpoint, in order. */
  readonly took: readonly number[];
  /** Changes that were made, and the seconds it took: the station shares its processor with the daemon. */
  readonly changes: number;
  readonly seconds: number;
}

/** Seconds since the watch began, and seconds of processor time of the process and of its children that ended, since then. */
export interface CpuSample {
  readonly at: number;
  readonly own: number;
  readonly children: number;
}

/** Bytes, from /proc/PID/status. */
export interface Memory {
  readonly resident: number;
  readonly peak: number;
  /** Of the resident ones those of files, such as the program itself: shared with whoever else runs it. */
  readonly files: number;
}

const SAMPLE_MS = 250;
/** USER_HZ, the unit of /proc/PID/stat, is 100 on every architecture that is in use. */
const TICKS_PER_SECOND = 100;
/** Milliseconds between two changes: the daemon's rounds do not touch each other. */
const CHANGE_GAP_MS = 300;
/** An attempt that meets the old endpoint while it is taken away gets no answer; the next one is what is waited for. */
const ATTEMPT_LIMIT_MS = 200;
const CHANGE_LIMIT_MS = 20_000;
const CHURN_GAP_MS = 20;

class Station {
  #server: FakeApiServer | undefined;

  async obey(operation: Operation): Promise<unknown> {
    switch (operation.op) {
      case 'serve':
        return await this.#serve(operation);
      case 'scrape':
        return await scrape('127.0.0.1', operation.port);
      case 'change':
        return await this.#change(operation.endpoints, operation.count);
      case 'churn':
        return await this.#churn(operation);
      case 'watch':
        return await watch(pidOf(operation.word), operation.seconds);
      case 'memory':
        return memoryOf(pidOf(operation.word));
      case 'restore':
        return (await run(['ipvsadm', '-R'], [...restoreLines(operation.services)].join(''))).ms;
      case 'spawn':
        return await this.#spawn(operation.services, operation.count);
      case 'spawnPause':
        return await spawnPauses(operation.count);
      case 'run':
        return await run(operation.argv, '');
    }
  }

  async #serve({ services, nodes, endpoints }: Extract<Operation, { op: 'serve' }>): Promise<string> {
    const server = await FakeApiServer.start({ directory: '/run/fairway-bench' });
    this.#server = server;
    for (const [index, address] of nodes.entries()) server.put(nodeObject(index + 1, address));
    for (const object of clusterObjects(services)) server.put(object);
    server.put(serviceObject('probe', PROBE_ADDRESS), probeSlice(endpoints[0]));
    // The log of changes would be replayed to nobody; a real server's is in etcd.
    server.store.compact();
    return server.writeKubeconfig();
  }

  /** The endpoint of Service `probe` moves on to the next one; the clock runs from before the event until the new one answers. */
  async #change(endpoints: readonly string[], count: number): Promise<readonly number[]> {
    const took: number[] = [];
    for (let index = 1; index <= count; index++) {
      const next = endpoints[index % endpoints.length] ?? '';
      const begin = performance.now();
      this.#server?.put(probeSlice(next));
      while (!(await greeting()).includes(` ${next} `)) {
        if (performance.now() - begin > CHANGE_LIMIT_MS) throw new Error(`no connection on ${next} within ${CHANGE_LIMIT_MS} ms`);
        // Leaves the one processor of a guest to the daemon.
        await pause(1);
      }
      took.push(performance.now() - begin);
      await pause(CHANGE_GAP_MS);
    }
    return took;
  }

  async #churn({ services, perSecond, seconds, endpoints }: Extract<Operation, { op: 'churn' }>): Promise<Churned> {
    const begin = performance.now();
    const elapsed = (): number => (performance.now() - begin) / 1000;
    let changes = 0;
    const write = async (): Promise<void> => {
      while (elapsed() < seconds) {
        for (; changes < elapsed() * perSecond; changes++) {
          // Every other time the Service has the endpoint back that it had at first.
          const isAway = Math.floor(changes / services) % 2 === 0;
          this.#server?.put(sliceOf(changes % services, isAway ? changes + 1 : 0));
        }
        await pause(CHURN_GAP_MS);
        this.#server?.store.compact();
      }
    };
    const writing = write();
    const took: number[] = [];
    while (elapsed() < seconds) took.push(...(await this.#change(took.length % 2 === 0 ? endpoints : endpoints.toReversed(), 1)));
    await writing;
    return { took, changes, seconds: elapsed() };
  }

  async #spawn(services: number, count: number): Promise<readonly number[]> {
    const took: number[] = [];
    for (let index = 0; index < count; index++) {
      const service = (index * 7919) % services;
      const line = `-e -t ${clusterIp(service)}:${PROBE_PORT} -r ${endpointAddress(service, 0)}:${TARGET_PORT} -m -w 1\n`;
      took.push((await run(['ipvsadm', '-R'], line)).ms);
      await pause(50);
    }
    return took;
  }
}

/** The slice of Service `probe`: one endpoint, a pod of the other node. */
function probeSlice(address = ''): ReturnType<typeof sliceObject> {
  return sliceObject('probe', [{ address, nodeName: 'node2' }]);
}

/** What the server behind Service `probe` says: its name, whom it sees and where it was reached. Empty where nobody answers. */
function greeting(): Promise<string> {
  return new Promise(resolve => {
    const socket = connect({ host: PROBE_ADDRESS, port: PROBE_PORT, noDelay: true });
    const end = (text: string): void => {
      socket.destroy();
      resolve(text);
    };
    socket.setEncoding('utf8').once('data', (text: string) => end(text));
    socket.once('error', () => end(''));
    socket.setTimeout(ATTEMPT_LIMIT_MS, () => end(''));
  });
}

function run(argv: readonly [string, ...string[]], input: string): Promise<{ ms: number; lines: readonly string[] }> {
  return new Promise((resolve, reject) => {
    const [program, ...args] = argv;
    const begin = performance.now();
    const child = spawn(program, args, { stdio: 'pipe' });
    const pieces: string[] = [];
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => pieces.push(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.once('error', reject);
    child.once('close', status => {
      const ms = performance.now() - begin;
      if (status === 0 && errors === '') resolve({ ms, lines: pieces.join('').split('\n') });
      else reject(new Error(`${argv.join(' ')} ended with ${status}: ${errors}`));
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

async function spawnPauses(count: number): Promise<readonly number[]> {
  const pauses: number[] = [];
  for (let index = 0; index < count; index++) {
    const begin = performance.now();
    const child = spawn('true', { stdio: 'pipe' });
    pauses.push(performance.now() - begin);
    await once(child, 'close');
  }
  return pauses;
}

/** The oldest process with this word in its command line, other than this one. */
function pidOf(word: string): number {
  const pids = readdirSync('/proc').filter(name => /^[0-9]+$/.test(name));
  const found = pids.map(Number).find(pid => pid !== process.pid && commandLine(pid).some(argument => argument === word));
  if (found === undefined) throw new Error(`no process has ${word} in its command line`);
  return found;
}

function commandLine(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    // It has ended meanwhile.
    return [];
  }
}

/** Seconds: utime + stime, cutime + cstime (proc_pid_stat(5)). */
function cpuOf(pid: number): { own: number; children: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number);
  return {
    own: ((utime ?? 0) + (stime ?? 0)) / TICKS_PER_SECOND,
    children: ((cutime ?? 0) + (cstime ?? 0)) / TICKS_PER_SECOND,
  };
}

async function watch(pid: number, seconds: number): Promise<readonly CpuSample[]> {
  const begin = performance.now();
  const first = cpuOf(pid);
  const samples: CpuSample[] = [];
  for (let at = 0; at < seconds; ) {
    await pause(SAMPLE_MS);
    const { own, children } = cpuOf(pid);
    at = (performance.now() - begin) / 1000;
    samples.push({ at, own: own - first.own, children: children - first.children });
  }
  return samples;
}

function memoryOf(pid: number): Memory {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+([0-9]+) kB`, 'm').exec(status)?.[1] ?? Number.NaN);
  return { resident: kibibytes('VmRSS') * 1024, peak: kibibytes('VmHWM') * 1024, files: kibibytes('RssFile') * 1024 };
}

if (import.meta.main) {
  const station = new Station();
  await obeyInput(operation => station.obey(operation as Operation));
}
