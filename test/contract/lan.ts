/** A local network: two nodes and an outside host, each a network namespace, on one switch, and all frames of ARP and NDP that the outside host gets. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Command, CommandRunner } from '../../daemon/kernel/command.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';

export type Place = 'node1' | 'node2' | 'ext';
export const MACS: Readonly<Record<Place, string>> = {
  node1: '02:00:00:00:00:01',
  node2: '02:00:00:00:00:02',
  ext: '02:00:00:00:00:03',
};

export function run(text: string, input = ''): string {
  const [program = '', ...args] = text.split(' ');
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8', input, maxBuffer: 1 << 28 });
  assert.equal(status, 0, `${text}: ${stderr}`);
  return stdout;
}

export const inside = (place: Place, text: string, input = ''): string => run(`ip netns exec ${place} ${text}`, input);

/** The driver's tools, in a node's namespace. */
export function runnerIn(place: Place, spawned: string[] = []): CommandRunner {
  const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: () => undefined });
  const moved = (command: Command): Command => {
    spawned.push(command.argv.join(' '));
    return { ...command, argv: ['ip', 'netns', 'exec', place, ...command.argv] };
  };
  return {
    run: (command, signal) => runner.run(moved(command), signal),
    lines: (command, onLine, signal) => runner.lines(moved(command), onLine, signal),
  };
}

/** As the services module sets them; `ndisc_notify` is what the announcer adds. */
const SETTINGS = [
  'net.ipv4.conf.all.arp_ignore=1',
  'net.ipv4.conf.all.arp_announce=2',
  'net.ipv4.ip_forward=1',
  'net.ipv6.conf.all.forwarding=1',
  'net.ipv6.conf.eth0.ndisc_notify=1',
];

export function makeLan(): void {
  run('ip link add switch7 type bridge forward_delay 0');
  run('ip link set switch7 up');
  for (const [index, place] of (['node1', 'node2', 'ext'] as const).entries()) {
    run(`ip netns add ${place}`);
    run(`ip link add eth0 netns ${place} type veth peer name v-${place}`);
    run(`ip link set v-${place} master switch7 up`);
    const n = index + 1;
    const lines = [
      `link set eth0 address ${MACS[place]}`,
      'link set lo up',
      `addr add 192.0.2.${n}/24 dev eth0`,
      `addr add 2001:db8::${n}/64 dev eth0 nodad`,
      'link set eth0 up',
    ];
    run(`ip -n ${place} -batch -`, lines.map(line => `${line}\n`).join(''));
    if (place === 'ext') {
      run('ip -n ext route add 198.51.100.0/24 dev eth0');
      continue;
    }
    run(`ip -n ${place} link add kube-dummy-if type dummy`);
    run(`ip -n ${place} link set kube-dummy-if up`);
    run(`ip -n ${place} route add default via 192.0.2.3`);
    inside(place, `sysctl -qw ${SETTINGS.join(' ')}`);
  }
}

export function unmakeLan(): void {
  for (const place of ['node1', 'node2', 'ext']) spawnSync('ip', ['netns', 'delete', place]);
  spawnSync('ip', ['link', 'delete', 'switch7']);
}

/** A virtual address as every node has it, with the local route that names the node as the source. */
export function addVip(place: Place, address: string): void {
  if (address.includes(':')) run(`ip -n ${place} addr add ${address}/128 dev kube-dummy-if preferred_lft 0 nodad noprefixroute`);
  else {
    run(`ip -n ${place} addr add ${address}/32 dev kube-dummy-if scope link`);
    const source = place === 'node1' ? '192.0.2.1' : '192.0.2.2';
    run(`ip -n ${place} route replace local ${address} dev kube-dummy-if table local proto kernel scope host src ${source}`);
  }
}

/** The hardware address by which the outside host would send to the address now; undefined where it knows none. */
export function knownBy(place: Place, address: string): string | undefined {
  return /lladdr (\S+)/.exec(run(`ip -n ${place} neigh show ${address} dev eth0`))?.[1];
}

const CONNECT = `
  use Socket; use Time::HiRes; my (undef, $to) = Socket::getaddrinfo($ARGV[0], 9, { flags => 4, socktype => 1 });
  socket(my $s, $to->{family}, 1, 6) or die; Time::HiRes::ualarm(600_000); connect($s, $to->{addr}); print "refused" if $!{ECONNREFUSED}`;

/** Whether a packet from there arrives at a host that has the address: its port is closed, and it says so. */
export function reaches(place: Place, address: string): boolean {
  const { stdout } = spawnSync('ip', ['netns', 'exec', place, 'perl', '-e', CONNECT, address], { encoding: 'utf8' });
  return stdout === 'refused';
}

/** `from` and `to` are hardware addresses. */
export interface Heard {
  readonly at: number;
  readonly from: string;
  readonly to: string;
  readonly what: string;
}

const LISTEN = `
  $| = 1; socket(my $s, 17, 3, 0x0300) or die "socket: $!"; print "listening\\n";
  while (defined recv($s, my $frame, 2048, 0)) { print unpack("H*", $frame), "\\n" }`;

/** All that the outside host gets of ARP and NDP. */
export class Listener {
  readonly heard: Heard[] = [];
  readonly #process: ChildProcess;
  #marks = 0;

  private constructor(process: ChildProcess) {
    this.#process = process;
  }

  static async start(): Promise<Listener> {
    const child = spawn('ip', ['netns', 'exec', 'ext', 'perl', '-e', LISTEN], { stdio: ['ignore', 'pipe', 'inherit'] });
    const listener = new Listener(child);
    const lines = createInterface({ input: child.stdout });
    lines.on('line', line => {
      if (line === 'listening') return;
      const heard = heardIn(Buffer.from(line, 'hex'));
      if (heard !== undefined) listener.heard.push(heard);
    });
    await once(lines, 'line');
    return listener;
  }

  /** Forgets what was heard until now. */
  async forget(): Promise<void> {
    await this.caughtUp();
    this.heard.length = 0;
  }

  /** All frames until now are in `heard`: the outside host asks for an address that nobody has, and hears itself. */
  async caughtUp(): Promise<void> {
    const marker = `192.0.2.${200 + (this.#marks++ % 50)}`;
    const before = this.heard.length;
    run(
      'ip -n ext -batch -',
      `neigh replace ${marker} dev eth0 nud failed\nneigh replace ${marker} dev eth0 use\nneigh del ${marker} dev eth0\n`,
    );
    await until(() => this.heard.slice(before).some(({ what }) => what.startsWith(`who-has ${marker} `)), 'the listener hears');
  }

  /** Those about an address from a node. */
  about(address: string): readonly Heard[] {
    return this.heard.filter(({ what, from }) => from !== MACS.ext && what.split(' ').includes(address));
  }

  stop(): void {
    this.#process.kill('SIGKILL');
  }
}

function heardIn(frame: Buffer): Heard | undefined {
  const mac = (at: number): string =>
    frame
      .subarray(at, at + 6)
      .toString('hex')
      .replace(/(..)(?!$)/g, '$1:');
  const head = { at: performance.now(), to: mac(0), from: mac(6) };
  const type = frame.readUInt16BE(12);
  if (type === 0x0806) {
    const v4 = (at: number): string => [...frame.subarray(at, at + 4)].join('.');
    const what = frame.readUInt16BE(20) === 1 ? 'who-has' : 'reply';
    return { ...head, what: `${what} ${v4(38)} tell ${v4(28)} (${mac(22)})` };
  }
  const icmp = frame[54];
  if (type !== 0x86dd || frame[20] !== 58 || (icmp !== 135 && icmp !== 136)) return undefined;
  const groups = Array.from({ length: 8 }, (_, index) => frame.readUInt16BE(62 + index * 2).toString(16)).join(':');
  const target = new URL(`http://[${groups}]`).hostname.slice(1, -1);
  const override = icmp === 136 && ((frame[58] ?? 0) & 0x20) !== 0 ? ' override' : '';
  return { ...head, what: `${icmp === 135 ? 'solicitation' : 'advertisement'} ${target}${override}` };
}

export async function until(condition: () => boolean, what: string, limitMs = 10_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!condition()) {
    assert.ok(performance.now() < end, `not within ${limitMs} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}
