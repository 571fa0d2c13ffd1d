/** What users of kube-router run into with Services, each seen there by running it, and absent here. */
import assert from 'node:assert/strict';
import { describeServices, POD_PORT } from './describe-services.ts';
import { footprint } from './fleet.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';
import { type Look, tcp, to, verifyLooks } from './service-looks.ts';

const TRANSPORTS = ['tcp', 'udp'] as const;
const VIPS = {
  'cluster IP': { ipv4: '10.96.18.1', ipv6: 'fd00:10:96::1801' },
  'external IP': { ipv4: '203.0.113.90', ipv6: '2001:db8:203::90' },
  'load-balancer IP': { ipv4: '203.0.113.190', ipv6: '2001:db8:203::8190' },
} as const;
const NODE_PORT = { tcp: 31401, udp: 31402 } as const;
const PORTS = TRANSPORTS.map(name => ({ name, protocol: name === 'tcp' ? 'TCP' : 'UDP' }) as const);

function web(policies: Readonly<Record<string, unknown>> = {}): ApiObject {
  const spec = {
    type: 'LoadBalancer',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: Object.values(VIPS['cluster IP']),
    externalIPs: Object.values(VIPS['external IP']),
    ports: PORTS.map(port => ({ ...port, port: 80, targetPort: POD_PORT, nodePort: NODE_PORT[port.name] })),
    ...policies,
  };
  return service('web', spec, { loadBalancerIPs: Object.values(VIPS['load-balancer IP']) });
}

function slices(lab: Lab, pods: readonly string[]): readonly ApiObject[] {
  return FAMILIES.map(family =>
    slice(
      'web',
      PORTS.map(port => ({ ...port, port: POD_PORT })),
      lab.pods.filter(pod => pods.includes(pod.name)).map(pod => endpoint(pod, family)),
      { family },
    ),
  );
}

/** At the addresses for clients outside. */
function looksFrom(lab: Lab, from: string, expected: string, sees = false): readonly Look[] {
  return TRANSPORTS.flatMap(transport =>
    FAMILIES.flatMap(family => [
      { from, at: 'external IP', target: to(transport, VIPS['external IP'][family], 80), expected, sees },
      { from, at: 'load-balancer IP', target: to(transport, VIPS['load-balancer IP'][family], 80), expected, sees },
      { from, at: 'node port', target: to(transport, lab.node(1).addresses[family], NODE_PORT[transport]), expected, sees },
    ]),
  );
}

/** The state of node1 without what the beacon changes with every change. */
async function stateOf(lab: Lab): Promise<string> {
  const text = await footprint(lab, lab.node(1));
  return text.replaceAll(/10\.96\.25[34]\.\d+/g, 'beacon');
}

/** Elements come in the order of a hash. */
function sorted(text: string): readonly string[] {
  return (
    text
      .split('\n')
      // Sizes of sets in memory, and numbers of addresses that follow from when they were added.
      .filter(line => !/^(Size in memory|References):?/.test(line) && !line.includes('hashsize'))
      .sort()
  );
}

describeServices('faults of others', { daemons: [{ node: 1, flags: ['--run-router=false'] }] }, suite => {
  it('with --run-router=false a client outside reaches pods of other nodes by node port, external IP and load-balancer IP', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web(), ...slices(lab, ['pod-2-1', 'pod-3-1']));
    await verifyLooks(lab, looksFrom(lab, 'ext', 'pod-2-1 sees node1, pod-3-1 sees node1', true));
  });

  it('with externalTrafficPolicy Local, when all endpoints go, a client is refused and not left waiting; when one comes back it is answered', async () => {
    const { lab, cluster } = suite();
    await cluster.put(web({ externalTrafficPolicy: 'Local' }), ...slices(lab, ['pod-1-1']));
    await verifyLooks(lab, looksFrom(lab, 'ext', 'pod-1-1 sees ext', true));
    await cluster.put(...slices(lab, []));
    for (const from of ['ext', 'pod-1-2', 'node1']) await verifyLooks(lab, looksFrom(lab, from, 'refused'));
    await cluster.remove(...slices(lab, []));
    for (const from of ['ext', 'pod-1-2', 'node1']) await verifyLooks(lab, looksFrom(lab, from, 'refused'));
    await cluster.put(...slices(lab, ['pod-1-1']));
    await verifyLooks(lab, looksFrom(lab, 'ext', 'pod-1-1 sees ext', true));
  });

  it('a Service deleted together with its slices in one apply leaves nothing on the node: no address, set element, virtual server, rule, mark or port', async () => {
    const { lab, cluster } = suite();
    await cluster.remove(web(), ...slices(lab, []));
    const before = sorted(await stateOf(lab));
    const shapes: readonly Readonly<Record<string, unknown>>[] = [
      {},
      { externalTrafficPolicy: 'Local', internalTrafficPolicy: 'Local', healthCheckNodePort: 31403 },
      { loadBalancerSourceRanges: ['10.10.1.0/24', '0.0.0.0/0', 'fd00::/8'], externalTrafficPolicy: 'Local' },
      { sessionAffinity: 'ClientIP' },
    ];
    for (const shape of shapes) {
      for (const pods of [['pod-1-1', 'pod-2-1'], ['pod-2-1'], []]) {
        const objects = [web(shape), ...slices(lab, pods)];
        await cluster.put(...objects);
        assert.notDeepEqual(sorted(await stateOf(lab)), before);
        await cluster.remove(...objects);
        assert.deepEqual(sorted(await stateOf(lab)), before, `${JSON.stringify(shape)}, endpoints ${pods.join(' ')}`);
      }
    }
    for (const family of FAMILIES) {
      const reply = await lab.probe(lab.ext).connect(tcp(lab.node(1).addresses[family], 31403));
      assert.equal(reply.outcome, 'refused');
    }
  });
});
