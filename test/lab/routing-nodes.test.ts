import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { IPV4_LENGTH, IPV6_LENGTH, type LabNode, type LabPod, routerOn } from './addresses.ts';
import { deadNode, flagsOf, sessionsOf } from './cases/routing-overlays.ts';
import { describeRouting, sourceSeen } from './describe-routing.ts';
import { answered, httpGet } from './http.ts';
import type { Lab } from './lab.ts';
import { FAMILIES, nodeObject } from './objects.ts';
import { annotated } from './peers/describe-interop.ts';
import { signalOnly } from './peers/node-processes.ts';
import { bgpNeighbours, routesTo } from './routing-state.ts';
import { Flows, type FlowTarget, lossesOf } from './traffic/traffic.ts';
import { until } from './until.ts';

/** Without an overlay the fabric has to know where pods are: here by routes of its router. */
const NO_OVERLAY: readonly string[] = ['--enable-overlay=false'];

const METRICS_PORT = 9187;
const METRICS: readonly string[] = [`--metrics-port=${METRICS_PORT}`, '--metrics-addr=127.0.0.1'];

const OTHER_CIDRS = { ipv4: '10.244.22.0/24', ipv6: 'fd00:10:244:22::/64' };
const OTHER_BRIDGE = { ipv4: '10.244.22.1', ipv6: 'fd00:10:244:22::1' };
const OTHER_POD = { ipv4: '10.244.22.12', ipv6: 'fd00:10:244:22::12' };

/** gobgpd tries a neighbour again some 5 to 10 seconds after it was not there. */
const SESSION_LIMIT_MS = 15_000;
const PROMPT_MS = 2000;

interface Mode {
  readonly source: 'mesh' | 'api';
  readonly title: string;
  /** Until a node that has come is reached. */
  readonly comesWithinMs: number;
  /** Longest silence when a link goes down and comes back. */
  readonly flapMs: number;
}

const MODES: readonly Mode[] = [
  { source: 'mesh', title: 'by BGP between nodes', comesWithinMs: SESSION_LIMIT_MS, flapMs: 2000 },
  { source: 'api', title: 'from Node objects', comesWithinMs: PROMPT_MS, flapMs: 1000 },
];

async function metricsOf(lab: Lab, node: LabNode): Promise<string> {
  return answered(await httpGet(lab, node, '127.0.0.1', METRICS_PORT, '/metrics')).body;
}

async function teachFabric(lab: Lab): Promise<void> {
  // It sends nothing back to where it came from: nodes of one subnet must know the way to each other themselves.
  for (const tool of ['iptables', 'ip6tables']) {
    await lab.expectRun(lab.router, [
      tool,
      '-w',
      '-A',
      'FORWARD',
      '-i',
      'lan1',
      '-o',
      'lan1',
      '-m',
      'physdev',
      '!',
      '--physdev-is-bridged',
      '-j',
      'DROP',
    ]);
  }
  const lines = lab.nodes.flatMap(({ podCidrs, addresses }) =>
    FAMILIES.map(family => `route add ${podCidrs[family]} via ${addresses[family]}`),
  );
  const { addresses } = lab.node(2);
  const others = FAMILIES.map(family => `route add ${OTHER_CIDRS[family]} via ${addresses[family]}`);
  await lab.expectRun(lab.router, ['ip', '-batch', '-'], { input: `${[...lines, ...others].join('\n')}\n` });
}

for (const mode of MODES) {
  const options = {
    needs: 'bgp',
    flags: [...NO_OVERLAY, ...METRICS, ...flagsOf(mode.source)],
    prepare: teachFabric,
    absent: [2],
  } as const;
  describeRouting(`routes to pods ${mode.title}`, options, suite => {
    const lab = (): Lab => suite().lab;
    const pods = () => ({ one: lab().pod(1, 1), two: lab().pod(2, 1), three: lab().pod(3, 1) });

    it('what the fabric carries is left to it', async () => {
      const nodes = [lab().node(1), lab().node(3)];
      await suite().start([], nodes);
      // Without BGP the tables behind it are as wanted, too.
      for (const node of nodes) assert.match(suite().fleet.daemon(node).output, /ready: the first round is in .* failing=0\n/);
      await suite().reached(suite().pairs(1, nodes));
      for (const family of FAMILIES) assert.deepEqual(await routesTo(lab(), lab().node(1), lab().node(3).podCidrs[family]), []);
    });

    it('a node that joins is reached by all, and reaches all', async () => {
      const flows = await Flows.begin(lab(), pods().one, udpTo(pods().three));
      await suite().cluster.publish({ put: [nodeObject(lab().node(2))] });
      await suite().start([], [lab().node(2)]);
      const took = await suite().reached();
      console.log(`      reached ${took} ms after it was ready`);
      assert.ok(took < inTime(lab(), mode.comesWithinMs), `${took} ms`);
      assert.deepEqual(lossesOf(await flows.end()), []);
      for (const family of FAMILIES) {
        const [route, ...more] = await routesTo(lab(), lab().node(1), lab().node(2).podCidrs[family]);
        const [gateway, source] = [lab().node(2).addresses[family], lab().node(1).addresses[family]];
        assert.match(route ?? '', new RegExp(`via ${gateway} dev eth0 proto 70 src ${source} metric 32070`));
        assert.deepEqual(more, []);
      }
      for (const node of lab().nodes) {
        const expected = sessionsOf(mode.source, node.number).map(number => lab().node(number).addresses.ipv4);
        await until(
          `${node.name} has sessions with ${expected.join(', ')} and no other`,
          async () => await bgpNeighbours(lab(), node),
          seen => seen.join() === expected.join(),
        );
      }
    });

    it('each session is among the metrics, with its state and what is told by it', async () => {
      const expected = sessionsOf(mode.source, 1).map(number => lab().node(number).addresses.ipv4);
      const body = (): Promise<string> => metricsOf(lab(), lab().node(1));
      const look = async (): Promise<readonly string[]> => {
        const lines = (await body()).matchAll(
          /^kube_router_bgp_peer_info\{address="(\S+)",type="internal",asn="64512",state="ESTABLISHED"\} 1$/gm,
        );
        return [...lines].map(([, address = '']) => address).sort();
      };
      await until(`sessions with ${expected.join(', ')}`, look, seen => seen.join() === expected.toSorted().join());
      const text = await body();
      for (const address of expected) {
        assert.ok(text.includes(`fairway_bgp_session_up{address="${address}"} 1\n`), address);
        // Two families of pods.
        for (const way of ['received', 'advertised'])
          assert.ok(text.includes(`fairway_bgp_${way}_prefixes{address="${address}"} 2\n`), `${way} ${address}`);
      }
      const isSpoken = expected.length > 0;
      assert.equal(text.includes('fairway_bgp_up 1\n'), isSpoken);
      assert.match(text, /^kube_router_host_routes_synced [1-9]/m);
      assert.equal(/^kube_router_controller_bgp_advertisements_sent\{type="pod-route"\} 2$/m.test(text), isSpoken);
      assert.equal(/^kube_router_controller_bgp_advertisements_received [1-9]/m.test(text), isSpoken);
    });

    it("pods keep their addresses towards nodes, and get their node's towards the world outside", async () => {
      for (const family of FAMILIES) {
        const { one } = pods();
        assert.equal(await sourceSeen(lab(), one, lab().node(2), family), one.addresses[family], 'same subnet');
        assert.equal(await sourceSeen(lab(), one, lab().node(3), family), one.addresses[family], 'behind the router');
        assert.equal(await sourceSeen(lab(), one, lab().ext, family), lab().node(1).addresses[family], 'outside');
      }
    });

    it(`packets pass again within ${mode.flapMs / 1000} s when a node's link goes down and comes back`, async () => {
      const flows = await Flows.begin(lab(), pods().one, udpTo(pods().two));
      await flapLink(lab(), lab().node(1));
      await suite().reached(suite().pairs(), SESSION_LIMIT_MS);
      for (const { flow, missingAtMs } of await flows.end()) {
        const silence = (missingAtMs.at(-1) ?? 0) - (missingAtMs[0] ?? 0);
        console.log(`      ${flow} was silent for ${silence} ms`);
        assert.ok(missingAtMs.length > 0, `${flow} did not notice`);
        assert.ok(silence < inTime(lab(), mode.flapMs), `${flow}: ${silence} ms`);
      }
    });

    it('no packet is lost when the daemon is killed and started again', async () => {
      const [flows, node] = [await Flows.begin(lab(), pods().one, udpTo(pods().two)), lab().node(1)];
      await signalOnly(lab(), node, 'fairway', 'KILL');
      await suite().fleet.daemon(node).exited;
      await suite().startAgain(node);
      await pause(1000);
      assert.deepEqual(lossesOf(await flows.end()), []);
    });

    it('a node whose pod CIDRs are overridden by an annotation is reached there, and no longer at the former ones', async () => {
      await haveOtherAddresses(lab());
      const overridden = annotated(lab().node(2), { 'pod-cidrs': `${OTHER_CIDRS.ipv4},${OTHER_CIDRS.ipv6}` });
      const began = performance.now();
      await suite().cluster.publish({ put: [overridden] });
      const moved = { ...lab().pod(2, 2), addresses: OTHER_POD };
      await suite().reached([{ from: pods().one, to: moved }], inTime(lab(), PROMPT_MS));
      console.log(`      reached after ${Math.round(performance.now() - began)} ms`);
      await routesGone(lab(), lab().node(1), lab().node(2), inTime(lab(), PROMPT_MS));
      await suite().reached([{ from: pods().three, to: moved }]);
    });

    it('one whose spec has others again is reached at those', async () => {
      const began = performance.now();
      await suite().cluster.publish({ put: [nodeObject(lab().node(2))] });
      await suite().reached(suite().pairs(), inTime(lab(), PROMPT_MS));
      console.log(`      reached after ${Math.round(performance.now() - began)} ms`);
      const others = async (): Promise<readonly string[]> =>
        (await Promise.all(FAMILIES.map(family => routesTo(lab(), lab().node(1), OTHER_CIDRS[family])))).flat();
      await until('the routes to the former pod CIDRs are gone', others, routes => routes.length === 0, inTime(lab(), PROMPT_MS));
    });

    it('of a node that is removed, routes and sessions go at once, and no other notices', async () => {
      const flows = await Flows.begin(lab(), pods().one, udpTo(pods().three));
      const began = performance.now();
      await suite().cluster.publish({ remove: [nodeObject(lab().node(2))] });
      await routesGone(lab(), lab().node(1), lab().node(2), inTime(lab(), PROMPT_MS));
      const gone = lab().node(2).addresses.ipv4;
      for (const number of [1, 3]) {
        await until(
          `node${number} has no session with node2`,
          async () => await bgpNeighbours(lab(), lab().node(number)),
          seen => !seen.includes(gone),
          inTime(lab(), PROMPT_MS),
        );
      }
      console.log(`      gone after ${Math.round(performance.now() - began)} ms`);
      assert.deepEqual(lossesOf(await flows.end()), []);
    });

    it("somebody else's route to a node's pods is never replaced, and ours is there when it goes", async () => {
      const node = lab().node(1);
      const { podCidrs, addresses } = lab().node(2);
      const foreign = FAMILIES.map(family => `route add ${podCidrs[family]} via ${addresses[family]} proto static`);
      await lab().expectRun(node, ['ip', '-batch', '-'], { input: `${foreign.join('\n')}\n` });
      await suite().cluster.publish({ put: [nodeObject(lab().node(2))] });
      await suite().reached();
      for (const family of FAMILIES) {
        const [first, second] = await until(
          `node1 has two ${family} routes to node2's pods`,
          async () => await routesTo(lab(), node, podCidrs[family]),
          routes => routes.length === 2,
          SESSION_LIMIT_MS,
        );
        assert.match(first ?? '', new RegExp(`via ${addresses[family]} dev eth0 proto static`));
        assert.match(second ?? '', new RegExp(`via ${addresses[family]} dev eth0 proto 70 .*metric 32070`));
      }
      const flows = await Flows.begin(lab(), pods().one, udpTo(pods().two));
      const removal = foreign.map(line => line.replace('add', 'del'));
      await lab().expectRun(node, ['ip', '-batch', '-'], { input: `${removal.join('\n')}\n` });
      assert.deepEqual(lossesOf(await flows.end()), []);
      for (const family of FAMILIES) assert.equal((await routesTo(lab(), node, podCidrs[family])).length, 1);
    });

    it('with --enable-pod-egress=false the world outside sees the addresses of pods', async () => {
      await suite().fleet.stop();
      await suite().start(['--enable-pod-egress=false']);
      await suite().reached();
      for (const family of FAMILIES) {
        const { one } = pods();
        await until(
          `${one.name} keeps its ${family} address`,
          async () => await sourceSeen(lab(), one, lab().ext, family),
          seen => seen === one.addresses[family],
        );
      }
    });
  });
}

for (const source of ['mesh', 'api'] as const) {
  const flags = [...NO_OVERLAY, ...flagsOf(source), '--bgp-graceful-restart'];
  const options = { needs: 'bgp', flags, prepare: teachFabric, objects: () => [deadNode()] } as const;
  describeRouting(`a node that is dead harms nobody, ${source}`, options, suite => {
    const lab = (): Lab => suite().lab;
    const further = '10.244.11.0/24';
    const knowsFurther = async (count: 0 | 1): Promise<void> => {
      const began = performance.now();
      await until(
        `node2 has ${count} routes to node1's further pod CIDR`,
        async () => await routesTo(lab(), lab().node(2), further),
        routes => routes.length === count,
        inTime(lab(), PROMPT_MS),
      );
      console.log(`      after ${Math.round(performance.now() - began)} ms`);
    };

    it('the others reach each other as soon as without it', async () => {
      await suite().start();
      const took = await suite().reached(suite().pairs(), SESSION_LIMIT_MS);
      console.log(`      reached ${took} ms after all were ready`);
    });

    for (const when of ['after the first start', 'after a restart']) {
      it(`what another begins and ceases to announce is heard at once, ${when}`, async () => {
        if (when === 'after a restart') {
          await suite().fleet.daemon(lab().node(1)).stop();
          await suite().startAgain(lab().node(1));
          const expected = sessionsOf(source, 1).map(number => lab().node(number).addresses.ipv4);
          await until(
            `node1 has sessions with ${expected.join(', ')}`,
            async () => await bgpNeighbours(lab(), lab().node(1)),
            seen => expected.every(address => seen.includes(address)),
          );
        }
        const node = lab().node(1);
        const cidrs = [...FAMILIES.map(family => node.podCidrs[family]), further];
        await suite().cluster.publish({ put: [annotated(node, { 'pod-cidrs': cidrs.join() })] });
        await knowsFurther(1);
        await suite().cluster.publish({ put: [nodeObject(node)] });
        await knowsFurther(0);
      });
    }

    it('routes to a node that is removed go at once', async () => {
      await suite().cluster.publish({ remove: [nodeObject(lab().node(2))] });
      await routesGone(lab(), lab().node(1), lab().node(2), inTime(lab(), PROMPT_MS));
    });
  });
}

/** Three nodes of a guest share one CPU. */
function inTime(lab: Lab, milliseconds: number): number {
  return lab.place === 'guest' ? 3 * milliseconds : milliseconds;
}

function udpTo({ addresses }: LabPod): readonly FlowTarget[] {
  return FAMILIES.map(family => ({ transport: 'udp', address: addresses[family] }));
}

/** node2's bridge and second pod get addresses of the other pod CIDRs, as CNI would have given them. */
async function haveOtherAddresses(lab: Lab): Promise<void> {
  const lengths = { ipv4: IPV4_LENGTH, ipv6: IPV6_LENGTH };
  const add = (of: typeof OTHER_POD, device: string): string =>
    FAMILIES.map(family => `addr add ${of[family]}/${lengths[family]} dev ${device}${family === 'ipv6' ? ' nodad' : ''}\n`).join(
      '',
    );
  await lab.expectRun(lab.node(2), ['ip', '-batch', '-'], { input: add(OTHER_BRIDGE, 'kube-bridge') });
  const pod = lab.pod(2, 2);
  await lab.expectRun(pod, ['ip', '-batch', '-'], { input: add(OTHER_POD, 'eth0') });
  await Promise.all(FAMILIES.map(family => lab.probe(pod).serve('udp', OTHER_POD[family], 8080, pod.name)));
}

async function routesGone(lab: Lab, on: LabNode, to: LabNode, limitMs: number): Promise<void> {
  await until(
    `${on.name} has no route to pods of ${to.name}`,
    async () => (await Promise.all(FAMILIES.map(family => routesTo(lab, on, to.podCidrs[family])))).flat(),
    routes => routes.length === 0,
    limitMs,
  );
}

/** The kernel takes the routes by the link and its IPv6 addresses away; who manages the network gives back what is its own. */
async function flapLink(lab: Lab, node: LabNode): Promise<void> {
  const gateway = routerOn(node.lan);
  const lines = [
    'link set eth0 down',
    'link set eth0 up',
    `addr add ${node.addresses.ipv6}/${IPV6_LENGTH} dev eth0 nodad`,
    `route add default via ${gateway.ipv4}`,
    `route add ::/0 via ${gateway.ipv6}`,
  ];
  await lab.expectRun(node, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
