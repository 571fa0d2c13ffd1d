import assert from 'node:assert/strict';
import { describeServices, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';
import { type Look, to, verifyLooks } from './service-looks.ts';
import { until } from './until.ts';

/**
 * A Service whose only endpoint is the client: every connection comes back to it. What it sees is the node that balanced, since an answer to its own
 * address would never leave it (`cases/service-matrix.ts`, rule 1); that holds for all policies, the endpoint being on this node.
 * Kubernetes, "Debug Services": "Edge case: A Pod fails to reach itself via the Service IP".
 */
const POLICIES: readonly Readonly<Record<string, string>>[] = [
  {},
  { externalTrafficPolicy: 'Local' },
  { internalTrafficPolicy: 'Local' },
  { externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local' },
  { sessionAffinity: 'ClientIP' },
];
const TRANSPORTS = ['tcp', 'udp'] as const;

function addressesOf(index: number) {
  return {
    'cluster IP': { ipv4: `10.96.16.${index + 1}`, ipv6: `fd00:10:96::160${index}` },
    'external IP': { ipv4: `203.0.113.${index + 70}`, ipv6: `2001:db8:203::70${index}` },
    'load-balancer IP': { ipv4: `203.0.113.${index + 170}`, ipv6: `2001:db8:203::870${index}` },
    nodePort: { tcp: 31200 + index, udp: 31210 + index },
  };
}

function objects(lab: Lab): readonly ApiObject[] {
  return POLICIES.flatMap((policies, index) => {
    const { nodePort, ...addresses } = addressesOf(index);
    const ports = TRANSPORTS.map(transport => ({ name: transport, protocol: transport === 'tcp' ? 'TCP' : 'UDP' }) as const);
    const spec = {
      type: 'LoadBalancer',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: Object.values(addresses['cluster IP']),
      externalIPs: Object.values(addresses['external IP']),
      ...policies,
      ports: ports.map(port => ({ ...port, port: 80, targetPort: POD_PORT, nodePort: nodePort[port.name] })),
    };
    return [
      service(`self-${index}`, spec, { loadBalancerIPs: Object.values(addresses['load-balancer IP']) }),
      ...FAMILIES.map(family =>
        slice(
          `self-${index}`,
          ports.map(port => ({ ...port, port: POD_PORT })),
          [endpoint(lab.pod(1, 1), family)],
          { family },
        ),
      ),
    ];
  });
}

/** As CNI plugins leave the ports without `hairpinMode`, and as kube-router leaves those that came before it. */
async function switchOff(lab: Lab): Promise<void> {
  const lines = lab.node(1).pods.map(pod => `link set ${pod.name} type bridge_slave hairpin off`);
  await lab.expectRun(lab.node(1), ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

const DAEMONS = [{ node: 1, flags: ['--audit-period=1s'] }];

describeServices('an endpoint that asks its own Service', { daemons: DAEMONS, objects, prepare: switchOff }, suite => {
  const isHairpin = async (port: string): Promise<boolean> => {
    const shown = await suite().lab.expectRun(suite().lab.node(1), ['ip', '-d', 'link', 'show', 'dev', port]);
    return shown.includes(' hairpin on ');
  };

  it('finds the ports of all pods in hairpin mode, also where they were not', async () => {
    for (const pod of suite().lab.node(1).pods) assert.ok(await isHairpin(pod.name), pod.name);
  });

  for (const [index, policies] of POLICIES.entries()) {
    const words = Object.entries(policies).map(([field, value]) => `${field} ${value}`);
    it(`is answered at every address, by itself, and sees its node as the client: ${words.join(', ') || 'no policy'}`, async () => {
      const { lab } = suite();
      const { nodePort, ...addresses } = addressesOf(index);
      const looks = TRANSPORTS.flatMap(transport =>
        FAMILIES.flatMap(family => [
          ...Object.entries(addresses).map(([at, address]) => look(at, transport, address[family], 80)),
          look('node port', transport, lab.node(1).addresses[family], nodePort[transport]),
        ]),
      );
      await verifyLooks(lab, looks);
    });
  }

  it('puts the port of a pod that comes later into hairpin mode at once, and again within --audit-period where somebody takes it out', async () => {
    const { lab } = suite();
    const lines = [
      // The bridge takes the lowest address of its ports, and pods would have to learn a new one.
      'link add late address fe:ff:ff:ff:ff:01 type veth peer name late-peer',
      'link set late master kube-bridge up',
      'link add elsewhere type bridge',
      'link add other type veth peer name other-peer',
      'link set other master elsewhere up',
    ];
    await lab.expectRun(lab.node(1), ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
    await until(
      'the new port is in hairpin mode',
      async () => await isHairpin('late'),
      is => is,
      2000,
    );
    assert.ok(!(await isHairpin('other')), 'a port of another bridge is left alone');
    await lab.expectRun(lab.node(1), ['ip', 'link', 'set', 'pod-1-1', 'type', 'bridge_slave', 'hairpin', 'off']);
    await until(
      'it is in hairpin mode again',
      async () => await isHairpin('pod-1-1'),
      is => is,
      10_000,
    );
    const { ipv4, ipv6 } = addressesOf(0)['cluster IP'];
    await verifyLooks(lab, [look('cluster IP', 'tcp', ipv4, 80), look('cluster IP', 'tcp', ipv6, 80)]);
  });
});

function look(at: string, transport: 'tcp' | 'udp', address: string, port: number): Look {
  return { from: 'pod-1-1', at, target: to(transport, address, port), expected: 'pod-1-1 sees node1', sees: true };
}
