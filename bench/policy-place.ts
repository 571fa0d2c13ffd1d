/**
 * A node between its pods and the rest of the world, in network namespaces of this machine. One namespace has the addresses of all
 * pods of the node; to the node it makes no difference.
 */
import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { machineNow, whyNotThisMachine } from '../test/lab/place.ts';
import { GATEWAY, NODE_ADDRESS, NODE_POD_CIDR, OUTSIDE_ADDRESS, OUTSIDE_RANGE } from './policy-cluster.ts';

/** `spare` is connected to nothing: for what bare tools take. */
const SIDES = ['pods', 'node', 'outside', 'spare'] as const;
export type Side = (typeof SIDES)[number];

/** Why there can be no such place on this machine; empty if there can. */
export async function whyNoPolicyPlace(): Promise<string> {
  return await whyNotThisMachine(machineNow(), 'policy');
}

/** Prefix lengths of the pods' links: the node's pod CIDR, the wire to the outside host. */
const [POD_BITS, WIRE_BITS] = [22, 24];

export interface PlaceAddresses {
  readonly pods: readonly string[];
  /** Of pods of other nodes, which the outside host stands for. */
  readonly remotePods: readonly string[];
}

export class PolicyPlace {
  readonly #prefix = `fairway-bench-${process.pid}`;
  readonly #programs = new Set<Program>();

  private constructor() {}

  static async open(addresses: PlaceAddresses): Promise<PolicyPlace> {
    const place = new PolicyPlace();
    try {
      await place.#build(addresses);
    } catch (error) {
      await place.close();
      throw error;
    }
    return place;
  }

  /** The command with which a program runs on a side. */
  argv(side: Side, argv: readonly string[]): readonly string[] {
    return ['ip', 'netns', 'exec', this.#name(side), ...argv];
  }

  /** Rejects where it fails. */
  async run(side: Side, argv: readonly string[], input = ''): Promise<string> {
    return await run(this.argv(side, argv), input);
  }

  /** A program that is ended with the place, at the latest. */
  start(side: Side, argv: readonly string[], environment: NodeJS.ProcessEnv = process.env): Program {
    const program = new Program(this.argv(side, argv), environment);
    this.#programs.add(program);
    return program;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#programs].map(program => program.kill()));
    for (const side of SIDES) await run(['ip', 'netns', 'del', this.#name(side)], '').catch(() => undefined);
  }

  #name(side: Side): string {
    return `${this.#prefix}-${side}`;
  }

  async #build({ pods, remotePods }: PlaceAddresses): Promise<void> {
    for (const side of SIDES) await run(['ip', 'netns', 'add', this.#name(side)], '');
    const batch = (side: Side, lines: readonly string[]): Promise<string> =>
      this.run(side, ['ip', '-batch', '-'], lines.join('\n'));
    await batch('node', [
      'link set lo up',
      'link add kube-bridge type bridge',
      `link add veth0 type veth peer name eth0 netns ${this.#name('pods')}`,
      `link add eth0 type veth peer name eth0 netns ${this.#name('outside')}`,
      'link set veth0 master kube-bridge',
      `addr add ${GATEWAY}/${POD_BITS} dev kube-bridge`,
      `addr add ${NODE_ADDRESS}/${WIRE_BITS} dev eth0`,
      ...['kube-bridge', 'veth0', 'eth0'].map(link => `link set ${link} up`),
      `route add ${OUTSIDE_RANGE} via ${OUTSIDE_ADDRESS}`,
      ...remotePods.map(address => `route add ${address} via ${OUTSIDE_ADDRESS}`),
    ]);
    await batch('pods', [
      'link set lo up',
      'link set eth0 up',
      ...pods.map(address => `addr add ${address}/${POD_BITS} dev eth0`),
      `route add default via ${GATEWAY}`,
    ]);
    await batch('outside', [
      'link set lo up',
      'link set eth0 up',
      `addr add ${OUTSIDE_ADDRESS}/${WIRE_BITS} dev eth0`,
      ...remotePods.map(address => `addr add ${address}/32 dev lo`),
      `route add ${NODE_POD_CIDR} via ${NODE_ADDRESS}`,
      `route add local ${OUTSIDE_RANGE} dev lo`,
    ]);
    // Refusals are not rationed: a probe that is not answered waits for one.
    const settings = ['net.ipv4.ip_forward=1', 'net.ipv4.icmp_ratelimit=0', 'net.ipv4.icmp_msgs_per_sec=1000000'];
    await this.run('node', ['sysctl', '-q', '-w', ...settings]);
  }
}

/** A program that is asked in lines and answers each with one. */
export class Program {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #interface: Interface;
  readonly #exited: Promise<void>;
  #errors = '';

  constructor(argv: readonly string[], environment: NodeJS.ProcessEnv) {
    const [program = '', ...args] = argv;
    this.#child = spawn(program, args, { stdio: 'pipe', env: environment });
    this.#exited = new Promise(resolve => this.#child.once('close', () => resolve()));
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#child.stdin.on('error', () => undefined);
    this.#interface = createInterface({ input: this.#child.stdout });
    this.#lines = this.#interface[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The next line it prints. Rejects with what it said on standard error where it ends instead. */
  async line(): Promise<string> {
    const next = await this.#lines.next();
    if (next.done) throw new Error(`${this.#child.spawnargs.slice(4).join(' ')} ended: ${this.#errors.trim()}`);
    return next.value;
  }

  async ask(line: string): Promise<string> {
    this.#child.stdin.write(`${line}\n`);
    return await this.line();
  }

  /** The time (milliseconds since the epoch) at which standard error has a text like this; it must not have come before. */
  logged(text: RegExp): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#child.stderr.on('data', () => {
        if (text.test(this.#errors)) resolve(performance.timeOrigin + performance.now());
      });
      this.#child.once('close', () => reject(new Error(`it ended: ${this.#errors.trim()}`)));
    });
  }

  /** SIGTERM; resolves when it has ended. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#exited;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}

export function run(argv: readonly string[], input: string): Promise<string> {
  const [program = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${argv.join(' ')} failed: ${stderr.trim() || error.message}`));
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}
