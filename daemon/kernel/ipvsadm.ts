/** The virtual services of the kernel (IPVS) through ipvsadm(8). */
import { FairwayError, messageOf } from '../errors.ts';
import type { IpPrefix } from '../net/prefix.ts';
import type { ApplyResult, Change, TableDriver } from '../reconcile/driver.ts';
import type { VirtualServer } from '../reconcile/tables.ts';
import { destinationKey, sameDestination, sameVirtualService, TABLES } from '../reconcile/tables.ts';
import type { CommandResult, CommandRunner } from './command.ts';
import { type ProcReading, procParser, saveParser } from './ipvsadm-read.ts';
import { refusalOf, virtualServerLines } from './ipvsadm-script.ts';
import type { ReadLines } from './text-lines.ts';
import { VirtualServerAssembly } from './virtual-server-assembly.ts';

const PROC_FILE = '/proc/net/ip_vs';

/** Lines handed to one `ipvsadm -R`: few spawns for the largest table, and no long pause while their text is made. */
const LINES_A_SPAWN = 10_000;

/** Milliseconds `ipvsadm -R` may take for one line, on top of a minute: a slow guest needs a fifth of it. */
const TIMEOUT_A_LINE_MS = 5;

/** How often one batch goes on after a line that ended the run of the tool; each such line is left out. */
const MAX_STOPS = 32;

export interface IpvsOptions {
  readonly runner: CommandRunner;
  readonly readLines: ReadLines;
  /** Services on addresses in here are foreign: never read, so never changed (`--excluded-cidrs`). All others are ours. */
  readonly excludedCidrs: readonly IpPrefix[];
}

type Servers = ReadonlyMap<string, VirtualServer>;

export function ipvsDriver(options: IpvsOptions): TableDriver<VirtualServer> {
  return new IpvsDriver(options);
}

class IpvsDriver implements TableDriver<VirtualServer> {
  readonly #options: IpvsOptions;
  /** CONFIG_HZ of the running kernel, once known: a constant that the kernel tells nobody. */
  #ticksPerSecond: number | undefined;

  constructor(options: IpvsOptions) {
    this.#options = options;
  }

  /**
   * Two sources. `/proc/net/ip_vs` costs no process, but cannot say everything ({@link procParser}); `ipvsadm -Sn` does, with about
   * seventeen system calls a service. So the file is read where something is expected, and the tool is asked where nothing is (a
   * cleanup), where flags are, or where the file leaves a doubt: also where something expected is not in it, since a kernel that serves several
   * network namespaces leaves out services of ours (`ip_vs_info_seq_next` counts those of others, `ip_vs_info_array` does not, so that each page but
   * the first begins too late). Measured in a User Mode Linux guest, services of 10 destinations,
   * seconds of processor time: 1,000 services 0.1 (file) and 0.4 + 0.2 (tool and we), 5,000 services 0.4 and 2.0 + 0.7,
   * 10,000 services 1.8 and 4.2 + 1.0; of ours 0.15 is parsing, the rest is the kernel, which searches its list anew for every page.
   */
  async read(expected: Servers, signal: AbortSignal): Promise<Servers> {
    const reading = expected.size === 0 || anyFlags(expected) ? undefined : await this.#readProc(expected, signal);
    if (reading?.isComplete && isAllIn(expected, reading.servers)) return reading.servers;
    const saved = await this.#readSave(expected, signal);
    if (reading !== undefined) this.#ticksPerSecond ??= ticksPerSecond(reading.ticks, saved);
    return saved;
  }

  render(changes: readonly Change<VirtualServer>[]): string {
    return changes
      .flatMap(virtualServerLines)
      .map(line => `${line}\n`)
      .join('');
  }

  /**
   * `ipvsadm -R` goes on after most of what the kernel refuses and ends with the status of its last line. So whenever it says anything, the
   * state is read back and each change judged by it. What the tool itself does not understand ends its run: the first change
   * not done is then left out and the rest goes in again.
   */
  async apply(changes: readonly Change<VirtualServer>[], signal: AbortSignal): Promise<ApplyResult> {
    const failed = new Map<string, FairwayError>();
    let rest = changes;
    for (let stops = 0; rest.length > 0; stops++) {
      const outcome = await this.#write(rest, failed, signal);
      if (outcome.kind === 'silent') break;
      const written = rest.filter(change => !failed.has(change.key));
      const undone = await this.#undone(written, outcome, signal);
      const blamed = outcome.kind === 'stopped' && stops < MAX_STOPS ? undone.slice(0, 1) : undone;
      for (const { change, error } of blamed) failed.set(change.key, error);
      rest = undone.slice(blamed.length).map(({ change }) => change);
    }
    return { failed };
  }

  /** Writes what ipvsadm takes; the rest has failed. */
  async #write(
    changes: readonly Change<VirtualServer>[],
    failed: Map<string, FairwayError>,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const said: string[] = [];
    let hasStopped = false;
    for (const lines of batches(changes, failed)) {
      try {
        const command = {
          argv: ['ipvsadm', '-R'] as const,
          stdin: lines.join(''),
          timeoutMs: 60_000 + TIMEOUT_A_LINE_MS * lines.length,
        };
        const result = await this.#options.runner.run(command, signal);
        if (result.status === 0 && result.stderr === '') continue;
        said.push(...distinctLines(result));
        hasStopped ||= result.status === 2 || /--help|^usage:/im.test(result.stderr);
        const missing = missingIpvs(result);
        if (missing !== undefined) return { kind: 'unable', error: missing };
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        return { kind: 'unable', error: thrown };
      }
    }
    if (said.length === 0) return { kind: 'silent' };
    return { kind: hasStopped ? 'stopped' : 'complained', said: [...new Set(said)].slice(0, 5).join('; ') };
  }

  /** The changes that are not as asked, each with what is wrong with it. */
  async #undone(changes: readonly Change<VirtualServer>[], outcome: Complaint, signal: AbortSignal): Promise<readonly Undone[]> {
    const all = (error: FairwayError): readonly Undone[] => changes.map(change => ({ change, error }));
    if (outcome.kind === 'unable' && outcome.error.code !== 'FW_COMMAND_TIMEOUT') return all(outcome.error);
    const wanted = new Map(changes.flatMap(change => (change.op === 'delete' ? [] : [[change.key, change.to] as const])));
    let actual: Servers;
    try {
      actual = await this.#readSave(wanted, signal);
    } catch (thrown) {
      if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
      return all(thrown);
    }
    return changes.flatMap(change => {
      const difference = differenceOf(change, actual.get(change.key));
      if (difference === undefined) return [];
      return [{ change, error: outcome.kind === 'unable' ? outcome.error : refused(change.key, difference, outcome.said) }];
    });
  }

  async #readProc(expected: Servers, signal: AbortSignal): Promise<ProcReading | undefined> {
    const parser = procParser(this.#assembly(expected), expected, this.#ticksPerSecond);
    try {
      await this.#options.readLines(PROC_FILE, line => parser.line(line), signal);
    } catch (thrown) {
      // Not there before the module is loaded, and ipvsadm loads it.
      if (thrown instanceof Error && 'code' in thrown && (thrown.code === 'ENOENT' || thrown.code === 'EACCES')) return undefined;
      throw thrown;
    }
    return parser.end();
  }

  async #readSave(expected: Servers, signal: AbortSignal): Promise<Servers> {
    const parser = saveParser(this.#assembly(expected));
    const result = await this.#options.runner.lines({ argv: ['ipvsadm', '-Sn'] }, line => parser.line(line), signal);
    if (result.status !== 0 || result.stderr !== '') throw missingIpvs(result) ?? failedCommand('ipvsadm -Sn', result);
    return parser.end();
  }

  #assembly(expected: Servers): VirtualServerAssembly {
    return new VirtualServerAssembly(expected, this.#options.excludedCidrs);
  }
}

function isAllIn(expected: Servers, found: Servers): boolean {
  for (const key of expected.keys()) if (!found.has(key)) return false;
  return true;
}

type Complaint =
  /** The tool refused lines and went on, or met one that ended its run. */
  | { readonly kind: 'complained' | 'stopped'; readonly said: string }
  /** It did not run, or not to its end. */
  | { readonly kind: 'unable'; readonly error: FairwayError };
type Outcome = { readonly kind: 'silent' } | Complaint;

interface Undone {
  readonly change: Change<VirtualServer>;
  readonly error: FairwayError;
}

/** Seconds of idleness after which the kernel forgets a connection; 0 leaves a value as it is. */
export interface IpvsTimeouts {
  readonly tcp: number;
  readonly tcpFin: number;
  readonly udp: number;
}

/** Sets the connection timeouts (`ipvsadm --set`) where any is asked for. Throws FW_COMMAND_FAILED, FW_CAPABILITY_KERNEL. */
export async function setTimeouts(runner: CommandRunner, timeouts: IpvsTimeouts, signal: AbortSignal): Promise<void> {
  const { tcp, tcpFin, udp } = timeouts;
  if (tcp === 0 && tcpFin === 0 && udp === 0) return;
  const result = await runner.run({ argv: ['ipvsadm', '--set', `${tcp}`, `${tcpFin}`, `${udp}`] }, signal);
  if (result.status !== 0 || result.stderr !== '') throw missingIpvs(result) ?? failedCommand('ipvsadm --set', result);
}

/** The lines of the changes, a spawn's worth at a time. One change is never torn apart. */
function* batches(changes: readonly Change<VirtualServer>[], failed: Map<string, FairwayError>): Iterable<readonly string[]> {
  let lines: string[] = [];
  for (const change of changes) {
    const refusal = change.op === 'delete' ? undefined : refusalOf(change.to);
    if (refusal === undefined) for (const line of virtualServerLines(change)) lines.push(`${line}\n`);
    else failed.set(change.key, refused(change.key, refusal));
    if (lines.length < LINES_A_SPAWN) continue;
    yield lines;
    lines = [];
  }
  if (lines.length > 0) yield lines;
}

/** What keeps the change from being as asked, or undefined where nothing does. */
function differenceOf(change: Change<VirtualServer>, actual: VirtualServer | undefined): string | undefined {
  if (change.op === 'delete') return actual === undefined ? undefined : 'it is still there';
  if (actual === undefined) return 'it is not there';
  if (TABLES.virtualServer.same(actual, change.to)) return undefined;
  if (!sameVirtualService(actual, change.to))
    return `it is there with scheduler ${shownService(actual)}, not ${shownService(change.to)}`;
  const there = new Map(actual.destinations.map(destination => [destinationKey(destination), destination]));
  for (const destination of change.to.destinations) {
    const key = destinationKey(destination);
    const found = there.get(key);
    there.delete(key);
    if (found === undefined) return `destination ${key} is not there`;
    if (!sameDestination(found, destination))
      return `destination ${key} has weight ${found.weight} and forwarding ${found.forwarding}`;
  }
  return `destination ${[...there.keys()].join(', ')} is still there`;
}

function shownService(server: VirtualServer): string {
  const flags = server.schedulerFlags.length > 0 ? `, flags ${server.schedulerFlags.join(',')}` : '';
  return `${server.scheduler}, persistence ${server.persistenceSeconds} s${flags}`;
}

function refused(key: string, difference: string, said?: string): FairwayError {
  const remedy = said?.includes('Scheduler or persistence engine not found') ? " (load its module: 'modprobe ip_vs_NAME')" : '';
  return new FairwayError(
    'FW_COMMAND_REFUSED',
    `virtual service ${key}: ${difference}${said === undefined ? '' : `; ipvsadm said: ${said}${remedy}`}`,
  );
}

function distinctLines(result: CommandResult): readonly string[] {
  const lines = result.stderr.split('\n').filter(line => line.trim() !== '');
  return lines.length === 0 ? [`exit status ${result.status}`] : [...new Set(lines)];
}

/** The error for a kernel without IPVS, where that is what the tool complains about. */
function missingIpvs(result: CommandResult): FairwayError | undefined {
  if (!result.stderr.includes("Can't initialize ipvs") || /permi(ssion|tted)/i.test(result.stderr)) return undefined;
  return new FairwayError(
    'FW_CAPABILITY_KERNEL',
    "the kernel has no IPVS: load it with 'modprobe ip_vs', or use a kernel built with CONFIG_IP_VS and its schedulers",
  );
}

function failedCommand(command: string, result: CommandResult): FairwayError {
  return new FairwayError('FW_COMMAND_FAILED', `'${command}' ended with status ${result.status}: ${messageOf(result.stderr)}`);
}

function anyFlags(servers: Servers): boolean {
  for (const server of servers.values()) if (server.schedulerFlags.length > 0) return true;
  return false;
}

/** The kernel's ticks in a second, where all services that both readings know as persistent agree on one whole number. */
function ticksPerSecond(ticks: ReadonlyMap<string, number>, saved: Servers): number | undefined {
  const ratios = new Set<number>();
  for (const [key, count] of ticks) ratios.add(count / (saved.get(key)?.persistenceSeconds ?? 0));
  const [ratio] = ratios;
  return ratios.size === 1 && Number.isInteger(ratio) ? ratio : undefined;
}
