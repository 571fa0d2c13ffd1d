// Runs as root in a kernel with every type of tunnel: in the lab's guest, or in a network namespace of a machine that has them.
// What the drivers of links, GUE ports and routes write on two nodes, and real packets between pods by it.
// Address plan: nodes 192.168.1.1, 192.168.1.2 and fd00:192::1, fd00:192::2 on eth0; pods 10.244.N.1 and fd00:244:N::1 of node N.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { fouDriver } from '../../daemon/kernel/fou.ts';
import { isPodRoutingLink, linkDriver } from '../../daemon/kernel/link.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { unicastRouteDriver } from '../../daemon/kernel/unicast-route.ts';
import { type Family, mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import type { Link } from '../../daemon/reconcile/link.ts';
import type { FouPort, UnicastRoute } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: () => undefined });
const links = linkDriver({ runner, owns: isPodRoutingLink });
const ports = fouDriver({ runner, configuredPort: 5555 });
const routes = unicastRouteDriver({ runner });
const PROBE = fileURLToPath(new URL('../fixtures/full-size-probe.pl', import.meta.url));
/** Where node 2 lives; node 1 is here. */
const PEER = 'fw-peer';
type NodeNumber = 1 | 2;

function run(argv: readonly [string, ...string[]], input?: string): void {
  const [program, ...args] = argv;
  const { stderr, status } = spawnSync(program, args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) });
  assert.equal(status, 0, `${argv.join(' ')}: ${stderr}${input ?? ''}`);
}

const node = (number: NodeNumber, family: Family): string => (family === 'ipv4' ? `192.168.1.${number}` : `fd00:192::${number}`);
const pod = (number: NodeNumber, family: Family): string => (family === 'ipv4' ? `10.244.${number}.1` : `fd00:244:${number}::1`);
const podRange = (number: NodeNumber, family: Family): string =>
  family === 'ipv4' ? `10.244.${number}.0/24` : `fd00:244:${number}::/64`;

/** How packets go from one node to the other. */
interface Overlay {
  readonly ports: readonly FouPort[];
  readonly link: Link;
  readonly route: UnicastRoute;
}

interface Kind {
  readonly name: string;
  readonly family: Family;
  /** Bytes that it takes of each packet. */
  readonly overhead: number;
  overlay(from: NodeNumber, to: NodeNumber, mtu: number): Overlay;
}

function routeTo(to: NodeNumber, family: Family, link: string, vxlanRemote: string | undefined): UnicastRoute {
  const remote = vxlanRemote === undefined ? undefined : mustParseAddress(vxlanRemote);
  return {
    table: 254,
    destination: mustParsePrefix(podRange(to, family)),
    nextHops: [{ link, gateway: undefined, vxlanRemote: remote }],
    source: mustParseAddress(pod(to === 1 ? 2 : 1, family)),
  };
}

function tunnel(family: Family, overhead: number, guePort?: number): Kind {
  const type = family === 'ipv4' ? 'ipip' : 'ip6tnl';
  const overlay: Kind['overlay'] = (from, to, mtu) => {
    const [local, remote] = [from, to].map(number => mustParseAddress(node(number, family)));
    assert.ok(local !== undefined && remote !== undefined);
    const name = 'tun-0123456789a';
    return {
      ports: guePort === undefined ? [] : [{ family, port: guePort }],
      link: { name, type, local, remote, guePort, mtu },
      route: routeTo(to, family, name, undefined),
    };
  };
  return { name: guePort === undefined ? type : `${type} in GUE`, family, overhead, overlay };
}

function vxlan(family: Family, overhead: number): Kind {
  const overlay: Kind['overlay'] = (_from, to, mtu) => ({
    ports: [],
    link: { name: 'fairway-vxlan', type: 'vxlan', port: 4790, mtu },
    route: routeTo(to, family, 'fairway-vxlan', node(to, family)),
  });
  return { name: `VXLAN over ${family}`, family, overhead, overlay };
}

const KINDS: readonly Kind[] = [
  tunnel('ipv4', 20),
  tunnel('ipv6', 40),
  tunnel('ipv4', 32, 5555),
  tunnel('ipv6', 52, 5555),
  vxlan('ipv4', 36),
  vxlan('ipv6', 56),
];

/** What the outer packets may have. */
const FABRIC_MTU = 1500;
const UDP_AND_IP = { ipv4: 28, ipv6: 48 } as const;

async function put<T>(driver: TableDriver<T>, change: Change<T>): Promise<void> {
  assert.deepEqual(await driver.apply([change], never), { failed: new Map() });
}

/** On this node by the drivers at work, on the other by the script that they would hand to ip. */
async function build(kind: Kind, mtu: number): Promise<void> {
  const here = kind.overlay(1, 2, mtu);
  const there = kind.overlay(2, 1, mtu);
  for (const to of here.ports) await put(ports, { op: 'create', key: TABLES.fouPort.key(to), to });
  await put(links, { op: 'create', key: here.link.name, to: here.link });
  await put(routes, { op: 'create', key: TABLES.unicastRoute.key(here.route), to: here.route });
  const script = [
    ports.render(there.ports.map(to => ({ op: 'create', key: '', to }))),
    links.render([{ op: 'create', key: '', to: there.link }]),
    routes.render([{ op: 'create', key: '', to: there.route }]),
  ];
  run(['ip', '-n', PEER, '-batch', '-'], script.join(''));
}

/** Whether so many bytes of IP, sent from pod to pod by this transport, arrive. */
function arrives(transport: 'udp' | 'tcp', family: Family, bytes: number): { readonly ok: boolean; readonly said: string } {
  const { status, stderr } = spawnSync('perl', [PROBE, transport, pod(2, family), pod(1, family), String(bytes)], {
    encoding: 'utf8',
  });
  return { ok: status === 0, said: stderr };
}

describe('packets from pod to pod on two nodes', () => {
  let server: ChildProcess | undefined;

  beforeEach(() => {
    run(['ip', 'netns', 'add', PEER]);
    run(['ip', 'link', 'add', 'dev', 'fw-eth1', 'type', 'veth', 'peer', 'name', 'fw-eth2', 'netns', PEER]);
    for (const number of [1, 2] as const) {
      const at = number === 1 ? [] : ['-n', PEER];
      const eth = `fw-eth${number}`;
      for (const text of [
        `addr add ${node(number, 'ipv4')}/24 dev ${eth}`,
        `addr add ${node(number, 'ipv6')}/64 dev ${eth} nodad`,
        `link set dev ${eth} mtu ${FABRIC_MTU} up`,
        'link add dev fw-pod type dummy',
        `addr add ${pod(number, 'ipv4')}/24 dev fw-pod`,
        `addr add ${pod(number, 'ipv6')}/64 dev fw-pod nodad`,
        'link set dev fw-pod up',
      ]) {
        run(['ip', ...at, ...text.split(' ')]);
      }
    }
  });

  afterEach(async () => {
    if (server !== undefined && server.exitCode === null) {
      server.kill();
      await once(server, 'exit');
    }
    for (const link of ['fw-eth1', 'fw-pod', 'fairway-vxlan', 'tun-0123456789a']) spawnSync('ip', ['link', 'delete', link]);
    for (const family of [[], ['-6']]) spawnSync('ip', ['fou', 'del', 'port', '5555', ...family]);
    spawnSync('ip', ['netns', 'delete', PEER]);
  });

  for (const kind of KINDS) {
    const { name, family, overhead } = kind;
    it(`by ${name}: ${FABRIC_MTU - overhead} bytes whole, one more never; a megabyte by TCP`, async function () {
      this.timeout(60_000);
      const mtu = FABRIC_MTU - overhead;
      assert.equal(arrives('udp', family, 100).ok, false, 'no way yet');
      await build(kind, mtu);
      server = spawn('ip', ['netns', 'exec', PEER, 'perl', PROBE, 'serve', pod(2, family)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      assert.ok(server.stdout !== null);
      await once(server.stdout, 'data');
      const full = arrives('udp', family, mtu - UDP_AND_IP[family]);
      assert.ok(full.ok, full.said);
      assert.match(arrives('udp', family, mtu + 1 - UDP_AND_IP[family]).said, /send: Message too long/);
      const transfer = arrives('tcp', family, 1 << 20);
      assert.ok(transfer.ok, transfer.said);
      // With a byte more inside, the outer packet is a byte too large for the fabric.
      const wide = { ...kind.overlay(1, 2, mtu + 1).link };
      run(['ip', 'link', 'set', 'dev', wide.name, 'mtu', String(mtu + 1)]);
      assert.equal(arrives('udp', family, mtu + 1 - UDP_AND_IP[family]).ok, false);
    });
  }
});
