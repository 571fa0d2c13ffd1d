/**
 * Where the lab runs: in namespaces of this machine if its kernel has what the tests need (trials.ts), found by doing it in a throw-away
 * namespace; else in a User Mode Linux guest, if there is a kernel for one.
 */
import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { Agent, type AgentProcess } from './agent.ts';
import { type Pinning, startGuest } from './guest.ts';
import { findLabKernel } from './kernel/find.ts';
import { runProgram } from './process.ts';
import { type LabNeeds, TRIALS } from './trials.ts';

/** What the choice of a place depends on; `machineNow` reads it from this process. */
export interface Machine {
  readonly platform: string;
  readonly architecture: string;
  /** Effective user id; 0 is root. */
  readonly userId: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

export interface PlaceOptions {
  readonly machine: Machine;
  /** What the kernel must do; `services` unless told. A guest's does all. */
  readonly needs?: LabNeeds;
  /** The CPU of this machine a guest is pinned to. */
  readonly pinning: Pinning;
  /** Milliseconds until a guest is ended, whatever it does. */
  readonly timeLimitMs: number;
  /** Guest memory in MiB. */
  readonly memoryMiB?: number;
  /** Further kernel arguments of a guest, such as `time-travel`. They make a guest necessary. */
  readonly kernelArguments?: readonly string[];
}

/** A place with an agent in it. */
export interface Place {
  readonly kind: 'machine' | 'guest';
  readonly agent: Agent;
  /** Why it is not the machine itself; empty if it is. */
  readonly because: string;
}

/** There is no place on this machine; the message says why and what would help. */
export class LabUnavailable extends Error {
  override readonly name = 'LabUnavailable';
}

export const AGENT = join(import.meta.dirname, 'agent.pl');

/** Nothing of the tester's own environment reaches the lab, so that a guest and the machine behave alike. */
const AGENT_ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  LANG: 'C.UTF-8',
  NO_COLOR: '1',
};

const TOOLS: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  ipvsadm: 'ipvsadm',
  ipset: 'ipset',
  iptables: 'iptables',
  ip6tables: 'iptables',
  perl: 'perl-base',
  taskset: 'util-linux',
  setpriv: 'util-linux',
};

/** Finds a place and starts the agent in it. Rejects with LabUnavailable. `FAIRWAY_LAB_PLACE=machine|guest` in the environment forces one. */
export async function openPlace(options: PlaceOptions): Promise<Place> {
  const missing = await missingPackages();
  if (missing.length > 0)
    throw new LabUnavailable(`the lab needs Debian packages that are not here: apt-get install ${missing.join(' ')}`);
  const forced = options.machine.environment['FAIRWAY_LAB_PLACE'] ?? '';
  const unfit = forced === 'guest' ? 'FAIRWAY_LAB_PLACE=guest' : await whyNot(options);
  if (unfit === '') return { kind: 'machine', agent: await readyAgent(startApart()), because: '' };
  if (forced === 'machine') throw new LabUnavailable(`FAIRWAY_LAB_PLACE=machine, but ${unfit}`);
  return { kind: 'guest', agent: await guestAgent(options, unfit), because: unfit };
}

/** The machine as this process finds it. */
export function machineNow(): Machine {
  return { platform: process.platform, architecture: process.arch, userId: process.geteuid?.() ?? -1, environment: process.env };
}

async function missingPackages(): Promise<readonly string[]> {
  const folders = AGENT_ENVIRONMENT.PATH.split(':');
  const present = async (tool: string): Promise<boolean> => {
    const found = await Promise.all(
      folders.map(folder =>
        access(join(folder, tool), constants.X_OK).then(
          () => true,
          () => false,
        ),
      ),
    );
    return found.includes(true);
  };
  const missing = new Set<string>();
  for (const [tool, debianPackage] of Object.entries(TOOLS)) if (!(await present(tool))) missing.add(debianPackage);
  return [...missing];
}

async function whyNot({ machine, needs, kernelArguments = [] }: PlaceOptions): Promise<string> {
  return kernelArguments.length > 0 ? 'kernel arguments were asked for' : await whyNotThisMachine(machine, needs);
}

/** Why labs with these needs cannot run in namespaces of this machine itself, found by trying; empty if they can. */
export async function whyNotThisMachine(machine: Machine, needs: LabNeeds = 'services'): Promise<string> {
  if (machine.platform !== 'linux') return `this is ${machine.platform}, not linux`;
  if (machine.userId !== 0) return 'network namespaces of the machine need root';
  const agent = new Agent(startApart());
  try {
    await agent.ready();
    for (const { shows, argv, ...input } of TRIALS[needs]) {
      const { status, stderr } = await runProgram(agent, '', argv, { directory: '/', ...input });
      if (status !== 0) return `its kernel lacks ${shows} (${stderr.trim().replaceAll('\n', '; ')})`;
    }
    return '';
  } catch (error) {
    return `it gave no namespace (${error instanceof Error ? error.message : String(error)})`;
  } finally {
    await agent.close();
  }
}

async function guestAgent(options: PlaceOptions, unfit: string): Promise<Agent> {
  const { machine } = options;
  if (machine.platform !== 'linux' || machine.architecture !== 'x64')
    throw new LabUnavailable(`the machine itself does not do (${unfit}), and a guest needs linux on x86_64`);
  const kernel = await findLabKernel(machine.environment);
  if (kernel.path === undefined)
    throw new LabUnavailable(`the machine itself does not do (${unfit}), and for a guest ${kernel.missing}`);
  const guest = await startGuest({
    kernel: kernel.path,
    argv: ['perl', AGENT, 'here'],
    environment: AGENT_ENVIRONMENT,
    directory: '/',
    timeLimitMs: options.timeLimitMs,
    pinning: options.pinning,
    input: 'pipe',
    ...(options.memoryMiB === undefined ? {} : { memoryMiB: options.memoryMiB }),
    ...(options.kernelArguments === undefined ? {} : { kernelArguments: options.kernelArguments }),
  });
  return await readyAgent(guest);
}

async function readyAgent(agentProcess: AgentProcess): Promise<Agent> {
  const agent = new Agent(agentProcess);
  await agent.ready();
  return agent;
}

/** The agent on this machine, with namespaces of its own. It ends when its standard input does, so it cannot outlive us. */
function startApart(): AgentProcess {
  const child = spawn('perl', [AGENT, 'apart'], { stdio: ['pipe', 'pipe', 'pipe'], env: AGENT_ENVIRONMENT });
  child.stdin.on('error', () => {});
  const exited = Promise.withResolvers<{ status: number; console: string }>();
  child.once('error', error => exited.resolve({ status: 127, console: error.message }));
  child.once('close', (code, signal) => exited.resolve({ status: code ?? 128, console: signal ?? '' }));
  const { stdin, stdout, stderr } = child;
  return {
    stdin,
    stdout,
    stderr,
    inputWindow: Number.POSITIVE_INFINITY,
    exited: exited.promise,
    kill: () => child.kill('SIGKILL'),
  };
}
