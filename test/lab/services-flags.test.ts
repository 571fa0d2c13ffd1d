import assert from 'node:assert/strict';
import { answers, describeServices, HOST_PORT, POD_PORT, sourcesSeen } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';

/** A second address of node1 and node3, for node ports. */
const SECOND = { node1: '192.168.1.111', node2: '192.168.1.112' } as const;
const NODE_PORT = 30500;
const VIP = { ipv4: '10.96.6.1', ipv6: 'fd00:10:96::601' };

function objects(lab: Lab): readonly ApiObject[] {
  const pods = [lab.pod(1, 1), lab.pod(2, 1)];
  return [
    service('web', {
      type: 'NodePort',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIP.ipv4, VIP.ipv6],
      ports: [{ name: 'http', port: 80, targetPort: POD_PORT, nodePort: NODE_PORT }],
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        [{ name: 'http', port: POD_PORT }],
        pods.map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

describeServices(
  'flags of the services module',
  {
    daemons: [
      { node: 1, flags: ['--masquerade-all', '--nodeport-bindon-all-ip'] },
      { node: 2, flags: ['--ipvs-permit-all=false'] },
      { node: 3, flags: ['--nodeport-addresses=192.168.3.0/24'] },
    ],
    objects,
    prepare: async lab => {
      await lab.expectRun(lab.node(1), ['ip', 'addr', 'add', `${SECOND.node1}/24`, 'dev', 'eth0']);
      await lab.expectRun(lab.node(2), ['ip', 'addr', 'add', `${SECOND.node2}/24`, 'dev', 'eth0']);
    },
  },
  suite => {
    const tcp = (address: string, port: number) => ({ transport: 'tcp', address, port }) as const;

    for (const family of FAMILIES) {
      it(`--masquerade-all: endpoints see the node and never the client, over ${family}`, async () => {
        const { lab } = suite();
        const node = lab.node(1).addresses[family];
        const replies = [
          ...(await lab.probe(lab.pod(1, 1)).burst(tcp(VIP[family], 80), 4)),
          ...(await lab.probe(lab.pod(1, 2)).burst(tcp(VIP[family], 80), 4)),
          ...(await lab.probe(lab.ext).burst(tcp(node, NODE_PORT), 4)),
          ...(await lab.probe(lab.node(1)).burst(tcp(VIP[family], 80), 4)),
        ];
        assert.deepEqual(sourcesSeen(replies), [node]);
      });

      it(`without it a pod of another node keeps its address, over ${family}`, async () => {
        const { lab } = suite();
        const client = lab.pod(2, 2);
        const replies = await lab.probe(client).burst(tcp(VIP[family], 80), 4);
        assert.deepEqual(sourcesSeen(replies), [client.addresses[family]]);
      });
    }

    it('--nodeport-bindon-all-ip: node ports answer on every address of the host, without it on its InternalIP only', async () => {
      const { lab } = suite();
      const from = lab.pod(3, 1);
      const both = 'pod-1-1 pod-2-1';
      assert.equal(await answers(lab, from, tcp(lab.node(1).addresses.ipv4, NODE_PORT)), both);
      assert.equal(await answers(lab, from, tcp(SECOND.node1, NODE_PORT)), both);
      assert.equal(await answers(lab, from, tcp(lab.node(2).addresses.ipv4, NODE_PORT)), both);
      assert.equal(await answers(lab, from, tcp(SECOND.node2, NODE_PORT)), 'refused');
    });

    it('--ipvs-permit-all=false: ports of the host answer on virtual addresses too, as without a firewall', async () => {
      const { lab } = suite();
      for (const family of FAMILIES) {
        assert.equal(await answers(lab, lab.pod(1, 1), tcp(VIP[family], HOST_PORT)), 'refused', 'node1 has the firewall');
        assert.equal(await answers(lab, lab.pod(2, 1), tcp(VIP[family], HOST_PORT)), 'node2:9999', 'node2 has none');
        assert.equal(await answers(lab, lab.pod(2, 2), tcp(VIP[family], 80)), 'pod-1-1 pod-2-1');
      }
    });

    it('--nodeport-addresses: no node port on an address outside', async () => {
      const { lab } = suite();
      const { ipv4, ipv6 } = lab.node(3).addresses;
      assert.equal(await answers(lab, lab.ext, tcp(ipv4, NODE_PORT)), 'pod-1-1 pod-2-1');
      assert.equal(await answers(lab, lab.ext, tcp(ipv6, NODE_PORT)), 'refused');
      assert.equal(await answers(lab, lab.pod(3, 1), tcp(VIP.ipv4, 80)), 'pod-1-1 pod-2-1');
    });
  },
);
