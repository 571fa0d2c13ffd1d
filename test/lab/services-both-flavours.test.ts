import assert from 'node:assert/strict';
import { answers, describeServices, HOST_PORT, POD_PORT, sourcesSeen } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';

/** The node's flavour of iptables, which its other software uses, and the one that Fairway must keep away from there. */
const FLAVOURS = [
  { node: 1, flavour: 'legacy', other: 'nft' },
  { node: 2, flavour: 'nft', other: 'legacy' },
] as const;

const NODE_PORT = 30600;
const VIP = { ipv4: '10.96.7.1', ipv6: 'fd00:10:96::701' };

function objects(lab: Lab): readonly ApiObject[] {
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
        [lab.pod(1, 1), lab.pod(2, 1), lab.pod(3, 1)].map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

/** The rules and chains of a flavour that are Fairway's, both families. */
async function ours(lab: Lab, node: number, flavour: 'legacy' | 'nft'): Promise<string> {
  const saved = await Promise.all(
    ['iptables', 'ip6tables'].map(async tool => await lab.expectRun(lab.node(node), [`${tool}-${flavour}-save`])),
  );
  return saved
    .join('')
    .split('\n')
    .filter(line => line.includes('FAIRWAY'))
    .join('\n');
}

describeServices(
  'both flavours of iptables',
  {
    daemons: FLAVOURS.map(({ node }) => ({ node })),
    objects,
    prepare: async lab => {
      for (const { node, flavour } of FLAVOURS) {
        for (const tool of ['iptables', 'ip6tables']) {
          for (const port of ['1001', '1002', '1003'])
            await lab.expectRun(lab.node(node), [
              `${tool}-${flavour}`,
              '-A',
              'INPUT',
              '-p',
              'tcp',
              '--dport',
              port,
              '-j',
              'DROP',
            ]);
        }
      }
    },
  },
  suite => {
    for (const { node, flavour, other } of FLAVOURS) {
      it(`where rules of ${flavour} are, ours are among them and nowhere else`, async () => {
        const { lab } = suite();
        assert.match(await ours(lab, node, flavour), /FAIRWAY-MASQUERADE/);
        assert.match(await ours(lab, node, flavour), /FAIRWAY-SERVICES/);
        assert.equal(await ours(lab, node, other), '');
      });

      for (const family of FAMILIES) {
        it(`with ${flavour}, Services are balanced, masqueraded and guarded over ${family}`, async () => {
          const { lab } = suite();
          const target = { transport: 'tcp', address: VIP[family], port: 80 } as const;
          const pod = lab.pod(node, 2);
          assert.equal(await answers(lab, pod, target), 'pod-1-1 pod-2-1 pod-3-1');
          // An endpoint that reaches itself, which only masquerading makes possible.
          assert.equal(await answers(lab, lab.pod(node, 1), target), 'pod-1-1 pod-2-1 pod-3-1');
          assert.equal(await answers(lab, pod, { ...target, port: HOST_PORT }), 'refused');
          const address = lab.node(node).addresses[family];
          const replies = await lab.probe(lab.ext).burst({ transport: 'tcp', address, port: NODE_PORT }, 6);
          assert.deepEqual(sourcesSeen(replies), [lab.ext.addresses[family], address].sort());
        });
      }
    }

    it('cleanup takes ours out of either flavour and leaves the rules that were there', async () => {
      const { lab, fleets } = suite();
      for (const [index, { node, flavour }] of FLAVOURS.entries()) {
        await fleets[index]!.stop();
        await fleets[index]!.cleanup();
        assert.equal(await ours(lab, node, flavour), '');
        const saved = await lab.expectRun(lab.node(node), [`iptables-${flavour}-save`]);
        assert.equal(saved.match(/--dport 100[123] -j DROP/g)?.length, 3);
      }
    });
  },
);
