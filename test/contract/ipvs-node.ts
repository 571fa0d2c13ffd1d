/** A node with IPVS: this kernel's own network namespace. Two pods and a client of it, each a network namespace with a program in it. */
import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { lineSplitter } from '../../daemon/kernel/process-runner.ts';
import { type IpAddress, mustParseAddress } from '../../daemon/net/address.ts';

export const VIP = mustParseAddress('10.96.0.10');
/** By name of their namespace. */
export const PODS: Readonly<Record<'pod-a' | 'pod-b', IpAddress>> = {
  'pod-a': mustParseAddress('10.244.1.5'),
  'pod-b': mustParseAddress('10.244.1.6'),
};

export function run(text: string): string {
  const [program = '', ...args] = text.split(' ');
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${text}: ${stderr}`);
  return stdout;
}

/** The daemon's own settings are among these. */
const SETTINGS = [
  'net.ipv4.ip_forward=1',
  'net.ipv4.vs.conntrack=1',
  'net.ipv4.vs.expire_nodest_conn=1',
  'net.ipv4.vs.expire_quiescent_template=1',
  'net.ipv4.vs.conn_reuse_mode=0',
];

const MASQUERADE = '-m ipvs --ipvs --vdir ORIGINAL --vmethod MASQ -j MASQUERADE';

export function makeNode(): void {
  // The first command loads IPVS where it is a module.
  run('ipvsadm -Ln');
  run(`sysctl -qw ${SETTINGS.join(' ')}`);
  run('ip link add pods type bridge');
  run('ip addr add 10.244.1.1/24 dev pods');
  run('ip link set pods up');
  run(`ip addr add ${VIP}/32 dev lo`);
  // As the daemon has it; without a rule that needs it, the kernel tracks no connection.
  run(`iptables -t nat -A POSTROUTING ${MASQUERADE}`);
  for (const [name, address] of Object.entries(PODS)) addNamespace(name, `${address}/24`, `v-${name} master pods`);
  addNamespace('client', '10.0.0.2/24', 'v-client');
  // Pods have no way back to the client, as little as those of another node by way of this one: the node must stand in for it.
  run('ip -n client route add default via 10.0.0.1');
  run('ip addr add 10.0.0.1/24 dev v-client');
}

function addNamespace(name: string, address: string, end: string): void {
  run(`ip netns add ${name}`);
  run(`ip link add eth0 netns ${name} type veth peer name v-${name}`);
  run(`ip -n ${name} addr add ${address} dev eth0`);
  run(`ip -n ${name} link set eth0 up`);
  run(`ip link set ${end} up`);
}

export function removeNode(): void {
  spawnSync('ipvsadm', ['-C']);
  spawnSync('iptables', ['-t', 'nat', '-D', 'POSTROUTING', ...MASQUERADE.split(' ')]);
  for (const name of [...Object.keys(PODS), 'client']) {
    spawnSync('ip', ['netns', 'delete', name]);
    spawnSync('ip', ['link', 'delete', `v-${name}`]);
  }
  spawnSync('ip', ['link', 'delete', 'pods']);
  spawnSync('ip', ['addr', 'del', `${VIP}/32`, 'dev', 'lo']);
}

/** A program within a namespace: JavaScript for CommonJS, whose first line of output tells that it is ready. */
export class Program {
  readonly lines: string[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #heard: () => void = () => undefined;

  private constructor(namespace: string, script: string) {
    const argv = [`--net=/run/netns/${namespace}`, process.execPath, '-e', script];
    this.#child = spawn('nsenter', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
    const splitter = lineSplitter(line => {
      this.lines.push(line);
      this.#heard();
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => splitter.push(text));
  }

  static async start(namespace: string, script: string): Promise<Program> {
    const program = new Program(namespace, script);
    await program.until(lines => lines.length > 0, 'it is ready');
    return program;
  }

  say(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  /** Resolves when what was printed is enough. */
  async until(isEnough: (lines: readonly string[]) => boolean, what: string, limitMs = 10_000): Promise<void> {
    const limit = AbortSignal.timeout(limitMs);
    while (!isEnough(this.lines)) {
      const heard = new Promise<void>(resolve => {
        this.#heard = resolve;
      });
      await Promise.race([heard, limit.aborted ? undefined : once(limit, 'abort')]);
      if (limit.aborted) assert.fail(`not within ${limitMs} ms: ${what}; printed: ${this.lines.slice(-5).join(' | ')}`);
    }
  }

  async end(): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }
}
