import assert from 'node:assert/strict';
import type { LabHost, LabNode } from './addresses.ts';
import { answers, describeServices } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import { FAMILIES } from './objects.ts';
import { iptablesModeOn, kubeletOn } from './predecessors/kube-proxy-iptables.ts';
import { ipvsModeOn } from './predecessors/kube-proxy-ipvs.ts';
import { nftablesModeOn } from './predecessors/kube-proxy-nftables.ts';
import { PORTS, serviceObjects, VIP } from './predecessors/service.ts';
import { assertSpared } from './predecessors/spared-load.ts';
import { wholeNode } from './predecessors/whole-node.ts';
import type { LabProcess, ProgramResult } from './process.ts';
import { Load, type Stream } from './traffic/load.ts';

/** Each node has had kube-proxy in another mode; the last one's leftovers are taken over by the daemon itself. */
const MODES = [
  { node: 1, mode: 'iptables', flags: [], leaves: (lab: Lab, node: LabNode) => iptablesModeOn(lab, node, 'legacy') },
  { node: 2, mode: 'ipvs', flags: [], leaves: ipvsModeOn },
  { node: 3, mode: 'nftables', flags: ['--take-over=kube-proxy'], leaves: nftablesModeOn },
] as const;
const BOTH_PODS = 'pod-1-1 pod-2-1';
const WEB = { transport: 'tcp', port: 80 } as const;
const THEIRS = /KUBE-(?!IPTABLES-HINT|KUBELET-CANARY|FIREWALL)|kube-ipvs0|kube-proxy/;

/** From pods and a node by the cluster IP, from outside by the port of each node: as much as the lab's one processor bears beside three daemons that start. */
function streams(lab: Lab, host: LabHost): readonly Stream[] {
  const [http, dns] = PORTS;
  assert.ok(http !== undefined && dns !== undefined);
  if (host === lab.ext) {
    return lab.nodes.flatMap(({ number, addresses: { ipv4: address } }): readonly Stream[] => [
      { kind: 'short', transport: 'tcp', address, port: http.nodePort, everyMs: 150 },
      { kind: 'flow', transport: 'udp', address, port: dns.nodePort, everyMs: 150, sourcePort: 4700 + number },
    ]);
  }
  const [tcp, udp] = [
    { transport: 'tcp', address: VIP.ipv4, port: http.port } as const,
    { transport: 'udp', address: VIP.ipv4, port: dns.port } as const,
  ];
  return [
    { ...tcp, kind: 'short', everyMs: 100 },
    { ...tcp, kind: 'keep', everyMs: 200, count: 2 },
    { ...udp, kind: 'flow', everyMs: 100, sourcePort: 4700 },
    { ...tcp, kind: 'short', everyMs: 200, address: VIP.ipv6 },
  ];
}

/** A process that is kube-proxy by its name, while `during` lasts. */
async function whileItRuns(lab: Lab, node: LabNode, during: () => Promise<void>): Promise<void> {
  const running = lab.startDaemon(node, ['perl', '-e', '$0 = "kube-proxy"; $| = 1; print "runs\n"; <STDIN>']);
  await running.waitForLine(/^runs$/, 5000);
  await during();
  running.endInput();
  await running.exited;
}

/** Nothing is touched then. */
async function refusesWhileItRuns(lab: Lab): Promise<void> {
  await whileItRuns(lab, lab.node(1), async () => {
    const found = await wholeNode(lab, lab.node(1));
    const { status, stdout, stderr } = await lab.run(lab.node(1), [...FAIRWAY, 'cleanup', '--of=kube-proxy']);
    assert.deepEqual({ status, stdout }, { status: 1, stdout: '' });
    assert.match(stderr, /^nothing was removed\. kube-proxy runs on this node \(process \d+\)/);
    assert.equal(await wholeNode(lab, lab.node(1)), found);
  });
}

describe('a cluster that had kube-proxy', () => {
  const before = new Map<number, string>();
  let loads: readonly Load[] = [];

  describeServices(
    'in another mode on each node',
    {
      daemons: MODES.map(({ node, flags }) => ({ node, flags })),
      objects: serviceObjects,
      prepare: async lab => {
        for (const { node, leaves } of MODES) {
          await kubeletOn(lab, lab.node(node));
          before.set(node, await wholeNode(lab, lab.node(node)));
          await leaves(lab, lab.node(node));
        }
        await refusesWhileItRuns(lab);
        const hosts = [lab.ext, lab.node(1), ...MODES.map(({ node }) => lab.pod(node, 2))];
        loads = await Promise.all(hosts.map(host => Load.begin(lab, host, streams(lab, host))));
      },
    },
    suite => {
      const daemonOn = (node: number): LabProcess => {
        const fleet = suite().fleets[node - 1];
        assert.ok(fleet !== undefined);
        return fleet.daemon(suite().lab.node(node));
      };
      const cleanup = (node: number): Promise<ProgramResult> =>
        suite().lab.run(suite().lab.node(node), [...FAIRWAY, 'cleanup', '--of=kube-proxy']);

      it('hears of it from the daemon, with the remedy', async () => {
        const [first, second] = await Promise.all(
          [1, 2].map(node => daemonOn(node).waitForLine(/fairway cleanup --of=kube-proxy/, 20_000)),
        );
        assert.match(
          first?.text ?? '',
          / W kube-proxy left its rules here \(\d+ chains such as KUBE-\S+, KUBE-\S+, KUBE-[^,]+\)/,
        );
        assert.match(second?.text ?? '', / W kube-proxy left its rules here \(.*link kube-ipvs0\)/);
      });

      it('has it taken over by the daemon where that was asked for', async () => {
        await daemonOn(3).waitForLine(/taken over from kube-proxy: removed 2 nftables tables/, 20_000);
      });

      it('is rid of it by a command that says what went', async () => {
        const [iptables, ipvs] = [await cleanup(1), await cleanup(2)];
        assert.deepEqual([iptables.status, iptables.stderr, ipvs.status, ipvs.stderr], [0, '', 0, '']);
        assert.match(iptables.stdout, /^removed \d+ iptables rules of kube-proxy\nremoved \d+ iptables chains of kube-proxy\n$/);
        assert.match(ipvs.stdout, /removed 1 links of kube-proxy\nremoved 34 sets of kube-proxy\n$/);
      });

      it('has lost no connection, no opening and no datagram over all that', async () => {
        await assertSpared(suite().lab, loads);
      });

      it('has nothing of kube-proxy any more, and nothing for a second run to do', async () => {
        const { status, stdout } = await cleanup(2);
        assert.deepEqual({ status, stdout }, { status: 0, stdout: 'nothing of kube-proxy was there\n' });
        for (const { node } of MODES) {
          const left = (await wholeNode(suite().lab, suite().lab.node(node))).split('\n').filter(line => THEIRS.test(line));
          assert.deepEqual(left, []);
        }
      });

      it('is served by Fairway alone, over both families', async () => {
        const { lab } = suite();
        for (const { node } of MODES) {
          for (const family of FAMILIES)
            assert.equal(await answers(lab, lab.pod(node, 2), { ...WEB, address: VIP[family] }), BOTH_PODS);
        }
      });

      it('finds the way back: without Fairway nodes are as before kube-proxy came, and what kube-proxy makes anew works', async () => {
        const { lab, fleets } = suite();
        for (const { node, leaves } of MODES.filter(({ mode }) => mode !== 'ipvs')) {
          await fleets[node - 1]?.stop();
          await fleets[node - 1]?.cleanup();
          assert.equal(await wholeNode(lab, lab.node(node)), before.get(node), `node${node}`);
          await leaves(lab, lab.node(node));
          assert.equal(await answers(lab, lab.pod(node, 2), { ...WEB, address: VIP.ipv4 }, 12), BOTH_PODS);
        }
      });

      it('finds the way back to a kube-proxy that runs with IPVS without losing a connection', async () => {
        const { lab, fleets } = suite();
        const held = await lab.probe(lab.pod(2, 2)).hold({ ...WEB, address: VIP.ipv4 });
        await fleets[1]?.stop();
        await whileItRuns(lab, lab.node(2), async () => {
          await ipvsModeOn(lab, lab.node(2));
          const printed = await fleets[1]?.cleanup();
          assert.match(printed?.get('node2') ?? '', /removed \d+ of link/);
          assert.doesNotMatch(printed?.get('node2') ?? '', /virtualServer/);
        });
        assert.deepEqual(await held.say('after the way back'), held.opened);
        held.close();
        assert.equal(await answers(lab, lab.pod(2, 2), { ...WEB, address: VIP.ipv4 }, 12), BOTH_PODS);
        const { status, stdout } = await cleanup(2);
        assert.equal(status, 0);
        assert.match(stdout, /removed \d+ virtual services of kube-proxy/);
        assert.equal(await wholeNode(lab, lab.node(2)), before.get(2));
      });
    },
  );
});
