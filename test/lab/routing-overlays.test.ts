import assert from 'node:assert/strict';
import type { LabNode, LabPod } from './addresses.ts';
import { flagsOf, nodeFor, OVERLAY_CASES, type OverlayCase, sessionsOf } from './cases/routing-overlays.ts';
import { describeRouting, type RoutingSuite, sourceSeen } from './describe-routing.ts';
import { CNI_FILE } from './fleet.ts';
import type { Lab } from './lab.ts';
import { FAMILIES, type Family } from './objects.ts';
import { bgpNeighbours, tunnelsOf, waysTo } from './routing-state.ts';
import { bigPings, transfers } from './traffic/traffic.ts';
import { until } from './until.ts';

const TRANSFERRED = 2 * 1024 * 1024;
/** Of a packet, besides data: IP, TCP, and TCP's timestamps. */
const HEADERS: Readonly<Record<Family, number>> = { ipv4: 20 + 20 + 12, ipv6: 40 + 20 + 12 };

/** Of an address, by its family. */
function familyOf(address: string): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}

/** A fabric that forwards packets between nodes only: of pods it knows nothing, and what has a pod's address is dropped. */
async function refusePods(lab: Lab): Promise<void> {
  // The router's bridges are switches: they do not look.
  for (const key of ['iptables', 'ip6tables']) {
    await lab.writeFile(lab.router, `/proc/sys/net/bridge/bridge-nf-call-${key}`, '0');
  }
  const rules = [
    ['iptables', '10.244.0.0/16'],
    ['ip6tables', 'fd00:10:244::/48'],
  ] as const;
  for (const [tool, pods] of rules) {
    for (const end of ['-s', '-d']) await lab.expectRun(lab.router, [tool, '-w', '-A', 'FORWARD', end, pods, '-j', 'DROP']);
  }
}

/** The first pod of each node gets the MTU that the CNI file gives to new pods; the second one keeps its 1500, as one that was there before. */
async function attachAnew(lab: Lab): Promise<readonly number[]> {
  return await Promise.all(
    lab.nodes.map(async node => {
      const { plugins } = JSON.parse(await lab.readFile(node, CNI_FILE)) as { plugins: { type: string; mtu?: number }[] };
      const mtu = plugins.find(({ type }) => type === 'bridge')?.mtu ?? 0;
      const pods = node.pods.map(pod => ({ pod, mtu: pod === node.pods[0] ? mtu : 1500 }));
      await Promise.all(pods.map(async one => await setMtu(lab, one.pod, node, one.mtu)));
      await lab.expectRun(node, ['ip', '-batch', '-'], {
        input: pods.map(one => `link set dev ${one.pod.name} mtu ${one.mtu}\n`).join(''),
      });
      return mtu;
    }),
  );
}

/** And forgets what paths it has learned of: exceptions go with their route. */
async function setMtu(lab: Lab, pod: LabPod, { bridge }: LabNode, mtu: number): Promise<void> {
  const anew = FAMILIES.flatMap(family => {
    const route = `${family === 'ipv4' ? '0.0.0.0/0' : '::/0'} via ${bridge[family]}`;
    return [`route del ${route}`, `route add ${route}`];
  });
  await lab.expectRun(pod, ['ip', '-batch', '-'], { input: [`link set dev eth0 mtu ${mtu}`, ...anew, ''].join('\n') });
}

describeRouting('overlays between pods', { prepare: refusePods }, suite => {
  for (const one of OVERLAY_CASES) {
    describe(one.title, () => {
      before('daemons', async function () {
        this.timeout(120_000);
        await restartAs(suite(), one);
      });
      overlayTests(suite, one);
    });
  }
});

/** Also waits until what the case before left is gone: where one node still sends through a tunnel that another has no more, packets are lost. */
async function restartAs(suite: RoutingSuite, { source, flags, ways }: OverlayCase): Promise<void> {
  const { fleet, cluster, lab } = suite;
  await fleet.stop();
  await cluster.publish({ put: lab.nodes.map(node => nodeFor(source, node)) });
  const began = performance.now();
  await suite.start([...flagsOf(source), ...flags]);
  const started = performance.now();
  if (source !== 'api')
    await Promise.all(lab.nodes.map(node => fleet.daemon(node).waitForLine(/BGP: neighbours have told all/, 60_000)));
  for (const node of lab.nodes) {
    const wanted = lab.nodes
      .filter(other => other !== node)
      .flatMap(other => FAMILIES.map(family => (other.lan === node.lan ? ways[family].toNode2 : ways[family].toNode3)))
      .filter(way => way !== 'eth0' && way !== 'vxlan gpe').length;
    await until(
      `${node.name} has ${wanted} tunnels`,
      async () => await tunnelsOf(lab, node),
      count => count === wanted,
    );
  }
  await suite.reached();
  const [start, all] = [started - began, performance.now() - began].map(Math.round);
  console.log(`      ready after ${start} ms, all pods reached after ${all} ms`);
}

function overlayTests(suite: () => RoutingSuite, one: OverlayCase): void {
  const lab = (): Lab => suite().lab;
  const addressesOf = (number: 1 | 2): readonly string[] =>
    [2, 3].flatMap(node => FAMILIES.map(family => lab().pod(node, number).addresses[family]));

  it('packets take the way they are to take', async () => {
    const { ipv4, ipv6 } = one.ways;
    const wanted = [ipv4.toNode2, ipv6.toNode2, ipv4.toNode3, ipv6.toNode3].join();
    await until(
      `node1 sends to node2 and node3, by either family, through ${wanted}`,
      async () => (await waysTo(lab(), lab().node(1), addressesOf(1))).join(),
      seen => seen === wanted,
    );
    for (const node of lab().nodes) {
      const expected = sessionsOf(one.source, node.number).map(number => lab().node(number).addresses.ipv4);
      await until(
        `${node.name} has sessions with ${expected.join(', ')} and no other`,
        async () => await bgpNeighbours(lab(), node),
        seen => seen.join() === expected.join(),
      );
    }
  });

  it(`packets of 1400 bytes get through unfragmented, and of ${one.podMtu}, and the sender learns that no more does`, async () => {
    assert.deepEqual(await attachAnew(lab()), [one.podMtu, one.podMtu, one.podMtu]);
    const echoes = Object.fromEntries(addressesOf(1).map(address => [address, 'echo']));
    assert.deepEqual(await bigPings(lab(), lab().pod(1, 1), addressesOf(1), 1400), echoes);
    assert.deepEqual(await bigPings(lab(), lab().pod(1, 1), addressesOf(1), one.podMtu), echoes);
    const back = FAMILIES.map(family => lab().pod(1, 1).addresses[family]);
    assert.deepEqual(await bigPings(lab(), lab().pod(3, 1), back, one.podMtu), Object.fromEntries(back.map(to => [to, 'echo'])));
    const refused = await bigPings(lab(), lab().pod(1, 1), addressesOf(1), one.podMtu + 1);
    assert.deepEqual(refused, Object.fromEntries(addressesOf(1).map(address => [address, `too big for ${one.podMtu}`])));
  });

  const attached = [
    ['TCP gets through with full segments, from the pod itself', 1],
    ['pods whose links have an MTU of 1500 learn what the path takes', 2],
  ] as const;
  for (const [title, number] of attached) {
    it(title, async () => {
      const from = lab().pod(1, number);
      const expected = addressesOf(number).map(address => ({
        address,
        arrived: TRANSFERRED,
        source: from.addresses[familyOf(address)],
        segment: one.podMtu - HEADERS[familyOf(address)],
        pathMtu: one.podMtu,
      }));
      assert.deepEqual(await transfers(lab(), from, addressesOf(number), TRANSFERRED), expected);
    });
  }

  it('nodes see the addresses of pods, and the world outside sees that of their node', async () => {
    const from = lab().pod(1, 1);
    for (const family of FAMILIES) {
      for (const number of [2, 3])
        assert.equal(await sourceSeen(lab(), from, lab().node(number), family), from.addresses[family], `node${number}`);
      assert.equal(await sourceSeen(lab(), from, lab().ext, family), lab().node(1).addresses[family], 'outside');
    }
  });
}
