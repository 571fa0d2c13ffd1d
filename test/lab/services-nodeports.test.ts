import assert from 'node:assert/strict';
import type { LabNode } from './addresses.ts';
import { EXTRA_ADDRESSES, type ExtraAddress, NEVER } from './cases/node-ports.ts';
import { describeServices, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, nodeObject, service, slice } from './objects.ts';
import { familyOf, type Look, tcp, to, verifyLooks } from './service-looks.ts';
import { until } from './until.ts';

const NODE_PORT = { tcp: 30950, udp: 30951 } as const;
const TRANSPORTS = ['tcp', 'udp'] as const;
const BOTH = 'pod-1-1 pod-2-1';
const CLIENTS = ['ext', 'pod-1-2', 'pod-2-2', 'pod-3-2', 'node1', 'node2', 'node3', 'pod-1-1'];

/** The Nodes with their ExternalIPs, and more of them. */
function nodesOf(lab: Lab, more: readonly ExtraAddress[] = []): readonly ApiObject[] {
  const external = [...EXTRA_ADDRESSES.filter(({ isExternalIP }) => isExternalIP), ...more];
  return lab.nodes.map(node => {
    const object = nodeObject(node);
    const { addresses } = object['status'] as { addresses: readonly object[] };
    const further = external.filter(one => one.node === node.name).map(({ address }) => ({ type: 'ExternalIP', address }));
    return { ...object, status: { addresses: [...addresses, ...further] } };
  });
}

function objects(lab: Lab): readonly ApiObject[] {
  const ports = TRANSPORTS.map(transport => ({ name: transport, protocol: transport === 'tcp' ? 'TCP' : 'UDP' }) as const);
  return [
    ...nodesOf(lab),
    service('web', {
      type: 'NodePort',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: ['10.96.15.1', 'fd00:10:96::1501'],
      ports: ports.map(port => ({ ...port, port: 80, targetPort: POD_PORT, nodePort: NODE_PORT[port.name] })),
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        ports.map(port => ({ ...port, port: POD_PORT })),
        [lab.pod(1, 1), lab.pod(2, 1)].map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

/** The extra links and addresses, and the way there for everybody. */
async function addExtras(lab: Lab): Promise<void> {
  for (const node of lab.nodes) {
    const extras = EXTRA_ADDRESSES.filter(one => one.node === node.name);
    const links = [...new Set(extras.map(({ link }) => link))].filter(link => link !== 'eth0');
    const lines = [
      ...links.flatMap(link => [`link add ${link} type bridge`, `link set ${link} up`]),
      ...extras.map(({ address, link }) => `addr add ${address}/${lengthOf(address)} dev ${link}${nodad(address)}`),
    ];
    await lab.expectRun(node, ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }
  const routes = EXTRA_ADDRESSES.map(one => routeTo(lab, one));
  await lab.expectRun(lab.router, ['ip', '-batch', '-'], { input: `${routes.join('\n')}\n` });
}

function routeTo(lab: Lab, { address, node }: Pick<ExtraAddress, 'address' | 'node'>): string {
  const via = lab.nodes.find(one => one.name === node)!.addresses[familyOf(address)];
  return `route add ${address}/${lengthOf(address)} via ${via}`;
}

function lengthOf(address: string): number {
  return familyOf(address) === 'ipv4' ? 32 : 128;
}

function nodad(address: string): string {
  return familyOf(address) === 'ipv6' ? ' nodad' : '';
}

function looksAt(address: string, at: string, from: string, expected: string): readonly Look[] {
  return (expected === 'refused' ? (['tcp'] as const) : TRANSPORTS).map(transport => ({
    from,
    at,
    target: to(transport, address, NODE_PORT[transport]),
    expected,
  }));
}

function neverAddress(node: LabNode, title: (typeof NEVER)[number]): string {
  if (title === 'the bridge of the pods, IPv4') return node.bridge.ipv4;
  return title === 'the bridge of the pods, IPv6' ? node.bridge.ipv6 : title;
}

function look(node: LabNode, family: Family, port: number, expected: string): Look {
  return { from: 'ext', at: `${node.name}, port ${port}`, target: tcp(node.addresses[family], port), expected };
}

const BIND_ALL = '--nodeport-bindon-all-ip';

describeServices(
  'node ports',
  {
    daemons: [
      { node: 1 },
      { node: 2, flags: [BIND_ALL] },
      { node: 3, flags: [BIND_ALL, '--nodeport-addresses=192.168.3.0/24,fd00:192:168:3::/64'] },
    ],
    objects,
    prepare: addExtras,
  },
  suite => {
    it('answer at the InternalIPs of every node, both families, from outside, from every node and from pods of each', async () => {
      const { lab } = suite();
      for (const from of CLIENTS) {
        const looks = lab.nodes.flatMap(node =>
          FAMILIES.flatMap(family => looksAt(node.addresses[family], `${node.name}’s ${family} address`, from, BOTH)),
        );
        await verifyLooks(lab, looks);
      }
    });

    for (const name of ['node1', 'node2', 'node3'] as const) {
      it(`at further addresses of ${name}: from outside, from another node and from the node itself`, async () => {
        const { lab } = suite();
        for (const from of ['ext', name === 'node1' ? 'node2' : 'node1', name]) {
          const looks = EXTRA_ADDRESSES.filter(({ node }) => node === name).flatMap(({ title, address, answers }) =>
            looksAt(address, `${title}, ${address}`, from, answers ? BOTH : 'refused'),
          );
          await verifyLooks(lab, looks);
        }
      });
    }

    it('a Service of one family has node ports of that family only', async () => {
      const { lab, cluster } = suite();
      const single = (family: 'ipv4' | 'ipv6', clusterIP: string, nodePort: number) => [
        service(`only-${family}`, {
          type: 'NodePort',
          ipFamilies: [family === 'ipv4' ? 'IPv4' : 'IPv6'],
          clusterIPs: [clusterIP],
          ports: [{ name: 'tcp', port: 80, targetPort: POD_PORT, nodePort }],
        }),
        ...FAMILIES.map(each =>
          slice(`only-${family}`, [{ name: 'tcp', port: POD_PORT }], [endpoint(lab.pod(1, 1), each)], { family: each }),
        ),
      ];
      await cluster.put(...single('ipv4', '10.96.15.2', 30952), ...single('ipv6', 'fd00:10:96::1502', 30953));
      const looks = lab.nodes.flatMap(node =>
        FAMILIES.flatMap(family => [
          look(node, family, 30952, family === 'ipv4' ? 'pod-1-1' : 'refused'),
          look(node, family, 30953, family === 'ipv6' ? 'pod-1-1' : 'refused'),
        ]),
      );
      await verifyLooks(lab, looks);
    });

    it('an address that the Node comes to list is served from then on, and no longer when it is taken off the list', async () => {
      const { lab, cluster } = suite();
      const listed = nodesOf(lab);
      const unlisted = EXTRA_ADDRESSES.filter(({ node, isExternalIP }) => node === 'node1' && isExternalIP === undefined);
      const expectAtUnlisted = async (expected: string) => {
        const looks = unlisted.flatMap(({ title, address }) => looksAt(address, `${title}, ${address}`, 'ext', expected));
        await verifyLooks(lab, looks);
      };
      await expectAtUnlisted('refused');
      await cluster.put(...nodesOf(lab, unlisted));
      await expectAtUnlisted(BOTH);
      await cluster.put(...listed);
      await expectAtUnlisted('refused');
    });

    // kube-router has never had node ports on loopback; kube-proxy's IPVS mode neither.
    it('never answer at loopback or at the bridge of the pods', async () => {
      const { lab } = suite();
      const looks = lab.nodes.flatMap(node =>
        NEVER.map(title => ({
          from: node.name,
          at: title,
          target: tcp(neverAddress(node, title), NODE_PORT.tcp),
          expected: 'refused',
        })),
      );
      await verifyLooks(lab, looks);
    });

    for (const address of ['192.168.1.142', 'fd00:192:168:1::142']) {
      it(`with ${BIND_ALL} an address that is added answers within a second, one that is removed does not: ${address}`, async () => {
        const { lab } = suite();
        const node = lab.node(2);
        const target = tcp(address, NODE_PORT.tcp);
        await lab.expectRun(lab.router, ['ip', ...routeTo(lab, { address, node: 'node2' }).split(' ')]);
        const watch = await lab.watch(lab.ext, target);
        await lab.expectRun(node, [
          'ip',
          'addr',
          'add',
          `${address}/${lengthOf(address)}`,
          'dev',
          'eth0',
          ...nodad(address).split(' ').filter(Boolean),
        ]);
        const added = await watch.now();
        await until(
          'a flow is answered',
          async () => (await lab.probe(lab.ext).connect({ ...target, timeoutMs: 200 })).outcome,
          outcome => outcome === 'answer',
          5000,
        );
        await watch.more();
        const attempts = await watch.end();
        const first = attempts.find(({ reply }) => reply.outcome === 'answer')!;
        assert.ok(first.ended - added < 1000, `answered after ${first.ended - added} ms`);
        const later = attempts.filter(({ began }) => began > first.ended).map(({ reply }) => reply.outcome);
        assert.deepEqual([...new Set(later)], ['answer'], 'once it answers it goes on');
        for (const from of ['ext', 'pod-1-2', 'node2']) await verifyLooks(lab, looksAt(address, 'the new address', from, BOTH));

        await lab.expectRun(node, ['ip', 'addr', 'del', `${address}/${lengthOf(address)}`, 'dev', 'eth0']);
        // What goes to it now is the routers' business; virtual servers must be gone.
        const listed = async (): Promise<string> => await lab.expectRun(node, ['ipvsadm', '-Sn']);
        await until('no virtual server is left', listed, text => !text.includes(address), 5000);
        const after = await lab.probe(lab.ext).connect({ ...target, timeoutMs: 500 });
        assert.notEqual(after.outcome, 'answer');
      });
    }
  },
);
