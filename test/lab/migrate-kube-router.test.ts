import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import { answers, describeServices } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import { FAMILIES, NAMESPACE, namespaceObject, networkPolicyObject, podObject } from './objects.ts';
import { kubeletOn } from './predecessors/kube-proxy-iptables.ts';
import { kubeRouterOn } from './predecessors/kube-router.ts';
import { PORTS, serviceObjects, VIP } from './predecessors/service.ts';
import { assertSpared } from './predecessors/spared-load.ts';
import { wholeNode } from './predecessors/whole-node.ts';
import type { LabProcess } from './process.ts';
import { Load, type Stream } from './traffic/load.ts';

/** By the node: how kube-router was set up; the last node's leftovers are taken over by the daemon itself. */
const NODES = [
  { node: 1, flavour: 'nft', policiesBy: 'iptables', flags: [] },
  { node: 2, flavour: 'legacy', policiesBy: 'iptables', flags: [] },
  { node: 3, flavour: 'nft', policiesBy: 'nftables', flags: ['--take-over=kube-router'] },
] as const;
const BOTH_PODS = 'pod-1-1 pod-2-1';
const ALL_MODULES = ['--run-router', '--run-firewall', '--pod-routes=api', '--overlay-type=subnet'];
/** What is kube-router's alone, by name. */
const THEIRS =
  /KUBE-(ROUTER|NWPLCY|POD-FW|SRC|DST)|kube-router-filter|lookup (78|79)|fwmark 0x2a17|FWM|proto (17|zebra)|allow (in|out)bound/;

function streams(lab: Lab, host: LabHost): readonly Stream[] {
  const [http, dns] = PORTS;
  assert.ok(http !== undefined && dns !== undefined);
  const [address, ports] =
    host === lab.ext ? [lab.node(1).addresses.ipv4, [http.nodePort, dns.nodePort]] : [VIP.ipv4, [http.port, dns.port]];
  const [tcp, udp] = [
    { transport: 'tcp', address, port: ports[0] ?? 0 } as const,
    { transport: 'udp', address, port: ports[1] ?? 0 } as const,
  ];
  return [
    { ...tcp, kind: 'short', everyMs: 80 },
    { ...tcp, kind: 'keep', everyMs: 150, count: 3 },
    { ...udp, kind: 'flow', everyMs: 30, sourcePort: 4700 },
    // Over IPv6 nodes themselves do not get an answer with kube-router: their source is the virtual address.
    ...(host === lab.ext || host === lab.node(1)
      ? []
      : [{ ...udp, kind: 'flow' as const, address: VIP.ipv6, everyMs: 60, sourcePort: 4701 }]),
  ];
}

describe('a cluster that had kube-router', () => {
  const before = new Map<number, string>();
  let loads: readonly Load[] = [];

  describeServices(
    'with pod routing, policies and Services',
    {
      podRoutes: 'none',
      daemons: NODES.map(({ node, flags }) => ({ node, flags: [...ALL_MODULES, ...flags] })),
      objects: lab => [
        ...serviceObjects(lab),
        namespaceObject(NAMESPACE),
        ...lab.pods.map(pod => podObject(pod)),
        networkPolicyObject('all-pods', { podSelector: {}, ingress: [{}] }),
      ],
      prepare: async lab => {
        for (const { node, ...how } of NODES) {
          await kubeletOn(lab, lab.node(node));
          before.set(node, await wholeNode(lab, lab.node(node)));
          await kubeRouterOn(lab, lab.node(node), how);
        }
        const hosts = [lab.ext, lab.node(1), lab.pod(1, 2), lab.pod(3, 2)];
        loads = await Promise.all(hosts.map(host => Load.begin(lab, host, streams(lab, host))));
      },
    },
    suite => {
      const daemonOn = (node: number): LabProcess => {
        const fleet = suite().fleets[node - 1];
        assert.ok(fleet !== undefined);
        return fleet.daemon(suite().lab.node(node));
      };
      const cleanup = async (node: number): Promise<string> =>
        await suite().lab.expectRun(suite().lab.node(node), [...FAIRWAY, 'cleanup', '--of=kube-router']);

      it('hears of it from the daemon, with the remedy', async () => {
        for (const node of [1, 2]) {
          const said = await daemonOn(node).waitForLine(/fairway cleanup --of=kube-router/, 20_000);
          assert.match(said.text, / W kube-router left its rules here \(\d+ chains such as KUBE-/);
        }
      });

      it('is rid of it by a command, or by the daemon where that was asked for', async () => {
        await daemonOn(3).waitForLine(/taken over from kube-router: removed .*2 nftables tables/, 20_000);
        for (const node of [1, 2]) {
          const said = await cleanup(node);
          for (const kind of ['iptables rules', 'iptables chains', 'virtual services', 'sets', 'rules', 'routes'])
            assert.match(said, new RegExp(`^removed \\d+ ${kind} of kube-router$`, 'm'));
        }
      });

      it('has lost no connection and no opening over all that', async () => {
        await assertSpared(suite().lab, loads);
      });

      it('has nothing of kube-router any more, and nothing for a second run to do', async () => {
        assert.equal(await cleanup(2), 'nothing of kube-router was there\n');
        for (const { node } of NODES) {
          const left = (await wholeNode(suite().lab, suite().lab.node(node))).split('\n').filter(line => THEIRS.test(line));
          assert.deepEqual(left, []);
        }
      });

      it('is served by Fairway alone, over both families', async () => {
        const { lab } = suite();
        for (const { node } of NODES) {
          for (const family of FAMILIES)
            assert.equal(await answers(lab, lab.pod(node, 2), { transport: 'tcp', address: VIP[family], port: 80 }), BOTH_PODS);
        }
      });

      it('finds the way back: without Fairway the nodes are as before kube-router came, and what kube-router makes anew works', async () => {
        const { lab, fleets } = suite();
        for (const fleet of fleets) await fleet.stop();
        await Promise.all(fleets.map(fleet => fleet.cleanup()));
        for (const { node, ...how } of NODES) {
          assert.equal(await wholeNode(lab, lab.node(node)), before.get(node), `node${node}`);
          await kubeRouterOn(lab, lab.node(node), how);
        }
        for (const { node } of NODES) {
          for (const family of FAMILIES) {
            const target = { transport: 'tcp', address: VIP[family], port: 80 } as const;
            assert.equal(await answers(lab, lab.pod(node, 2), target, 12), BOTH_PODS);
          }
        }
      });
    },
  );
});
