/** The folder of our gobgpd: its socket, its log, and the process id by which a later run of ours knows it again. */
import { chmod, mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { ownerText } from './widow.ts';

export class RunFolder {
  readonly #path: string;
  readonly socket: string;
  readonly log: string;
  readonly #pidFile: string;
  /** Names the daemon that looks after gobgpd now. */
  readonly ownerFile: string;

  /** @param path such as `/run/fairway/node1` */
  constructor(path: string) {
    this.#path = path;
    this.socket = join(path, 'gobgp.sock');
    this.log = join(path, 'gobgp.log');
    this.#pidFile = join(path, 'gobgp.pid');
    this.ownerFile = join(path, 'owner');
  }

  /** The socket as gobgpd's `--api-hosts` and a gRPC client name it. */
  get endpoint(): string {
    return `unix://${this.socket}`;
  }

  /** For root alone: whoever may write to the socket rules the routes of the node, and reads the passwords of its neighbours. */
  async make(): Promise<void> {
    await mkdir(this.#path, { recursive: true, mode: 0o700 });
    await chmod(this.#path, 0o700);
  }

  async writePid(pid: number): Promise<void> {
    await writeFile(this.#pidFile, `${pid}\n`, { mode: 0o600 });
  }

  /** We look after gobgpd from now on. */
  async own(): Promise<void> {
    await writeFile(this.ownerFile, ownerText(await readFile('/proc/self/stat', 'utf8')), { mode: 0o600 });
  }

  /** What a gobgpd leaves that did not end by itself; its successor refuses to start where the socket is. */
  async clear(): Promise<void> {
    await rm(this.socket, { force: true });
    await rm(this.#pidFile, { force: true });
  }

  /** The gobgpd that serves our socket, whoever started it; undefined where there is none. */
  async findGobgpd(): Promise<number | undefined> {
    const noted = Number(await readFile(this.#pidFile, 'utf8').catch(() => ''));
    if (noted > 0 && (await this.isOurGobgpd(noted))) return noted;
    // A daemon that was killed between the start and the note.
    for (const name of await readdir('/proc')) {
      const pid = Number(name);
      if (Number.isInteger(pid) && (await this.isOurGobgpd(pid))) return pid;
    }
    return undefined;
  }

  /** A process id may be another program's by now: its command line names gobgpd and our socket, or it is not touched. */
  async isOurGobgpd(pid: number): Promise<boolean> {
    // Empty for one that has ended and that nobody has waited for.
    const [program = '', ...args] = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0');
    const isServing = args.some(
      arg => arg.startsWith(API_HOSTS) && arg.slice(API_HOSTS.length).split(',').includes(this.endpoint),
    );
    return basename(program) === 'gobgpd' && isServing && (await this.#isFolderAlsoOf(pid)) && (await isInOurNetwork(pid));
  }

  /** Another container may have a folder of the same name, and its processes may stand in our /proc. */
  async #isFolderAlsoOf(pid: number): Promise<boolean> {
    try {
      const [ours, theirs] = await Promise.all([stat(this.#path), stat(join(`/proc/${pid}/root`, this.#path))]);
      return ours.dev === theirs.dev && ours.ino === theirs.ino;
    } catch {
      return false;
    }
  }

  /** Whether somebody takes calls on the socket. */
  isServed(): Promise<boolean> {
    return new Promise(resolve => {
      const call = connect(this.socket);
      call.once('connect', () => {
        call.destroy();
        resolve(true);
      });
      call.once('error', () => {
        resolve(false);
      });
    });
  }
}

/** One that was left in another network namespace speaks for another node, or for one that is no more. */
async function isInOurNetwork(pid: number): Promise<boolean> {
  const namespaceOf = (of: string): Promise<string> => readlink(`/proc/${of}/ns/net`).catch(() => '');
  const [ours, theirs] = await Promise.all([namespaceOf('self'), namespaceOf(String(pid))]);
  return ours === theirs;
}

const API_HOSTS = '--api-hosts=';

/** Without pprof: it would listen on a port that every process of the node may call. */
export function gobgpdCommand(hosts: readonly string[]): readonly [string, ...string[]] {
  return ['gobgpd', `${API_HOSTS}${hosts.join(',')}`, '--pprof-disable'];
}
