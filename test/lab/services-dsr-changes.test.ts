import assert from 'node:assert/strict';
import type { LabPod } from './addresses.ts';
import {
  ANNOTATION,
  describeDirect,
  directService,
  directSlices,
  directTraces,
  externalAddresses,
  PORT,
  startRuntime,
  tunnelsOf,
} from './describe-dsr.ts';
import { answers, type ServicesSuite, sourcesSeen } from './describe-services.ts';
import { FAMILIES } from './objects.ts';
import { until } from './until.ts';

const NONE = { annotations: {} };

/** Who answers a host outside at the Service with this number, by every way: `tcp ipv4: pod-1-1 pod-2-1`, or the outcome alone where all are alike. */
async function fromOutside({ lab }: ServicesSuite, index: number): Promise<string> {
  const seen = new Map<string, string>();
  for (const transport of ['tcp', 'udp'] as const) {
    for (const family of FAMILIES) {
      const target = { transport, address: externalAddresses(index)[family], port: PORT };
      seen.set(`${transport} ${family}`, await answers(lab, lab.ext, target));
    }
  }
  const [first = '', ...others] = new Set(seen.values());
  return others.length === 0 ? first : [...seen].map(([way, outcome]) => `${way}: ${outcome}`).join(', ');
}

async function sourceFromOutside({ lab }: ServicesSuite, index: number): Promise<readonly string[]> {
  const { ipv4: address } = externalAddresses(index);
  return sourcesSeen(await lab.probe(lab.ext).burst({ transport: 'tcp', address, port: PORT }, 6));
}

/** What all nodes and pods have of direct server return; empty where nothing is left. */
async function everywhere({ lab }: ServicesSuite): Promise<string> {
  const nodes = await Promise.all(lab.nodes.map(async node => [node.name, await directTraces(lab, node)] as const));
  const pods = await Promise.all(lab.pods.map(async pod => [pod.name, await tunnelsOf(lab, pod)] as const));
  const left = [...nodes, ...pods].filter(([, text]) => text !== '' && text !== 'no tunnel');
  return left.map(([name, text]) => `${name}:\n${text}\n`).join('');
}

/** A set that a rule matched on a moment ago may still be in use (nf_tables frees rules later): it goes in the next round. */
async function nothingIsLeft(suite: ServicesSuite): Promise<void> {
  const { lab, fleets } = suite;
  const look = async () => ({
    left: await everywhere(suite),
    said: fleets[0]!
      .daemon(lab.node(1))
      .lines.slice(-15)
      .map(({ text }) => text),
  });
  await until('nothing of direct server return is left', look, ({ left }) => left === '', 20_000);
}

async function filtersOf({ lab }: ServicesSuite, pod: LabPod): Promise<readonly string[]> {
  const read = async (link: string): Promise<string> => {
    const value = await lab.readFile(pod, `/proc/sys/net/ipv4/conf/${link}/rp_filter`);
    return value.trim();
  };
  return [await read('all'), await read('eth0')];
}

describeDirect('direct server return that changes', { addresses: 7 }, suite => {
  const podsOf = (...pods: readonly (readonly [number, number])[]): readonly LabPod[] =>
    pods.map(([node, number]) => suite().lab.pod(node, number));
  const sysctl = async (name: string): Promise<string> => {
    const { lab } = suite();
    const value = await lab.readFile(lab.node(1), `/proc/sys/net/ipv4/vs/${name}`);
    return value.trim();
  };

  it('endpoints come and go, on every node: each that comes answers at once, each that goes loses its tunnel', async () => {
    const { lab, cluster } = suite();
    await cluster.put(directService('flap', 0), ...directSlices('flap', podsOf([2, 1])));
    assert.equal(await fromOutside(suite(), 0), 'pod-2-1');
    await cluster.put(...directSlices('flap', podsOf([2, 1], [1, 1], [3, 2])));
    assert.equal(await fromOutside(suite(), 0), 'pod-1-1 pod-2-1 pod-3-2');
    await cluster.put(...directSlices('flap', podsOf([1, 1])));
    assert.equal(await fromOutside(suite(), 0), 'pod-1-1');
    assert.deepEqual([await tunnelsOf(lab, lab.pod(2, 1)), await tunnelsOf(lab, lab.pod(3, 2))], ['no tunnel', 'no tunnel']);
    await cluster.put(...directSlices('flap', []));
    assert.equal(await fromOutside(suite(), 0), 'refused');
    await cluster.put(...directSlices('flap', podsOf([3, 1])));
    assert.equal(await fromOutside(suite(), 0), 'pod-3-1');
    await cluster.remove(directService('flap', 0), ...directSlices('flap', []));
    await nothingIsLeft(suite());
  });

  it('a connection to an endpoint that stays is not cut while others come and go', async () => {
    const { lab, cluster } = suite();
    await cluster.put(directService('lasting', 1), ...directSlices('lasting', podsOf([2, 1])));
    const held = await lab.probe(lab.ext).hold({ transport: 'tcp', address: externalAddresses(1).ipv4, port: PORT });
    assert.equal(held.opened.outcome, 'answer');
    for (const others of [podsOf([1, 1], [3, 1]), [], podsOf([2, 2])]) {
      await cluster.put(...directSlices('lasting', [...podsOf([2, 1]), ...others]));
      assert.deepEqual(await held.say('still there?'), held.opened);
    }
    held.close();
    await cluster.remove(directService('lasting', 1), ...directSlices('lasting', []));
  });

  it('scheduler mh lets connections go on by another node (sloppy_tcp), for as long as it is asked for', async () => {
    const { cluster } = suite();
    const slices = directSlices('hashed', podsOf([1, 1], [2, 1]));
    assert.equal(await sysctl('sloppy_tcp'), '0');
    const annotations = { ...ANNOTATION, 'kube-router.io/service.scheduler': 'mh' };
    await cluster.put(directService('hashed', 2, { annotations }), ...slices);
    assert.equal(await sysctl('sloppy_tcp'), '1');
    assert.match(await fromOutside(suite(), 2), /pod-[12]-1/);
    await cluster.put(directService('hashed', 2));
    assert.equal(await sysctl('sloppy_tcp'), '0');
    await cluster.remove(directService('hashed', 2), ...slices);
  });

  for (const [index, how] of (
    ['the annotation goes', 'the Service goes', 'the annotation goes while no daemon runs'] as const
  ).entries()) {
    it(`${how}: nothing is left in any node or pod`, async () => {
      const { lab, cluster, fleets } = suite();
      const [number, name, pod] = [index + 3, `undone-${index}`, lab.pod(2, 1)];
      const slices = directSlices(name, podsOf([1, 1], [2, 1], [3, 1]));
      for (const link of ['all', 'eth0']) await lab.writeFile(pod, `/proc/sys/net/ipv4/conf/${link}/rp_filter`, '1');
      await cluster.put(directService(name, number), ...slices);
      assert.equal(await fromOutside(suite(), number), 'pod-1-1 pod-2-1 pod-3-1');
      assert.deepEqual(await sourceFromOutside(suite(), number), [lab.ext.addresses.ipv4]);
      assert.deepEqual(await filtersOf(suite(), pod), ['0', '0']);
      assert.equal(await sysctl('snat_reroute'), '0');
      assert.notEqual(await everywhere(suite()), '');

      if (how === 'the Service goes') {
        await cluster.remove(directService(name, number), ...slices);
      } else if (how === 'the annotation goes') {
        await cluster.put(directService(name, number, NONE));
      } else {
        const daemons = fleets.flatMap(fleet => fleet.nodes.map(node => ({ fleet, node })));
        await Promise.all(daemons.map(({ fleet, node }) => fleet.daemon(node).kill()));
        await cluster.publish({ put: [directService(name, number, NONE)] });
        for (const { fleet, node } of daemons) fleet.startOn(node);
        await Promise.all(
          daemons.map(({ fleet, node }) => fleet.daemon(node).waitForLine(/ready: the first round is in/, 60_000)),
        );
        await cluster.arrived();
      }

      await nothingIsLeft(suite());
      assert.deepEqual(await filtersOf(suite(), pod), ['1', '1']);
      assert.equal(await sysctl('snat_reroute'), '1');
      if (how === 'the Service goes') return;
      assert.equal(await fromOutside(suite(), number), 'pod-1-1 pod-2-1 pod-3-1');
      const { ipv4 } = lab.node(1).addresses;
      assert.deepEqual(
        await sourceFromOutside(suite(), number),
        [lab.ext.addresses.ipv4, ipv4],
        'translated, but for the local pod',
      );
      await cluster.remove(directService(name, number), ...slices);
    });
  }

  it('a tunnel that kube-router left in a pod is taken over as it is, and goes with the annotation', async () => {
    const { lab, cluster } = suite();
    const [pod, vip] = [lab.pod(3, 1), externalAddresses(6).ipv4];
    const lines = [
      `link add kube-tunnel-if type ipip mode any local ${pod.addresses.ipv4} remote 0.0.0.0`,
      'link set kube-tunnel-if up',
      `addr add ${vip}/32 dev kube-tunnel-if`,
    ];
    await lab.expectRun(pod, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    const linkOf = async (): Promise<string> => {
      const links = await lab.expectRun(pod, ['ip', '-o', 'link']);
      return /^\d+: kube-tunnel-if/m.exec(links)?.[0] ?? '';
    };
    const before = await linkOf();
    const slices = directSlices('heir', podsOf([3, 1]));
    await cluster.put(directService('heir', 6), ...slices);
    assert.equal(await fromOutside(suite(), 6), 'pod-3-1');
    assert.equal(await linkOf(), before, 'the same link');
    await cluster.put(directService('heir', 6, NONE));
    await nothingIsLeft(suite());
    await cluster.remove(directService('heir', 6), ...slices);
  });
});

describeDirect(
  'direct server return where a node’s container runtime does not answer',
  { addresses: 2, withRuntime: [2, 3] },
  suite => {
    it('endpoints of other nodes answer, other Services are as ever, the log names the flag; when it answers, the endpoint here does', async () => {
      const { lab, cluster, fleets } = suite();
      const pods = [lab.pod(1, 1), lab.pod(2, 1), lab.pod(3, 1)];
      await cluster.put(directService('direct', 0), ...directSlices('direct', pods));
      await cluster.put(directService('plain', 1, NONE), ...directSlices('plain', pods));
      await fleets[0]!.daemon(lab.node(1)).waitForLine(/--runtime-endpoint/, 5000);
      assert.equal(await fromOutside(suite(), 1), 'pod-1-1 pod-2-1 pod-3-1');
      const target = { transport: 'tcp', address: externalAddresses(0).ipv4, port: PORT, timeoutMs: 300 } as const;
      const replies = await lab.probe(lab.ext).burst(target, 6);
      const outcomes = replies.map(reply => (reply.outcome === 'answer' ? reply.server : reply.outcome));
      // The endpoint here is ready, says the API: its turn comes, and is lost.
      assert.deepEqual([...new Set(outcomes)].sort(), ['pod-2-1', 'pod-3-1', 'timeout']);
      assert.equal(await tunnelsOf(lab, lab.pod(1, 1)), 'no tunnel');
      await startRuntime(lab, 1);
      const look = async (): Promise<string> => await fromOutside(suite(), 0);
      await until('the endpoint here answers too', look, outcome => outcome === 'pod-1-1 pod-2-1 pod-3-1', 40_000);
    });
  },
);
