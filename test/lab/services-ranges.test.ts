import assert from 'node:assert/strict';
import { LOCAL_RANGES_CASES, RANGES_CASES } from './cases/source-ranges.ts';
import { answers, describeServices, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { localAddresses } from './node-state.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, NAMESPACE, type ServiceExtras, service, slice } from './objects.ts';
import { CLIENTS, hostOf, type Look, tcp, to, verifyLooks } from './service-looks.ts';

const TRANSPORTS = ['tcp', 'udp'] as const;

/** Addresses of the Service with this index. */
function addressesOf(index: number) {
  const hex = (0x10 + index).toString(16);
  return {
    'cluster IP': { ipv4: `10.96.7.${index + 1}`, ipv6: `fd00:10:96::7${hex}` },
    'external IP': { ipv4: `203.0.113.${index + 1}`, ipv6: `2001:db8:203::${hex}` },
    'load-balancer IP': { ipv4: `203.0.113.${index + 129}`, ipv6: `2001:db8:203::80${hex}` },
    nodePort: { tcp: 30700 + index, udp: 30800 + index },
  };
}

function slices(name: string, lab: Lab, pods: readonly string[]): readonly ApiObject[] {
  const ports = TRANSPORTS.map(name => ({ name, protocol: name === 'tcp' ? 'TCP' : 'UDP', port: POD_PORT }) as const);
  return FAMILIES.map(family => {
    const endpoints = lab.pods.filter(pod => pods.includes(pod.name)).map(pod => endpoint(pod, family));
    return slice(name, ports, endpoints, { family });
  });
}

interface BalancerExtras extends ServiceExtras {
  readonly spec?: Readonly<Record<string, unknown>>;
  /** Of these fields of `status.loadBalancer.ingress[]` beside `ip`. */
  readonly ingress?: Readonly<Record<string, unknown>>;
}

/** A Service with all its addresses, open to these ranges. */
function balancer(name: string, index: number, ranges: readonly string[], extras: BalancerExtras = {}): ApiObject {
  const addresses = addressesOf(index);
  const both = (kind: 'cluster IP' | 'external IP' | 'load-balancer IP') => FAMILIES.map(family => addresses[kind][family]);
  const spec = {
    type: 'LoadBalancer',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: both('cluster IP'),
    externalIPs: both('external IP'),
    ...(ranges.length === 0 ? {} : { loadBalancerSourceRanges: ranges }),
    ports: TRANSPORTS.map(transport => ({
      name: transport,
      protocol: transport.toUpperCase(),
      port: 80,
      targetPort: POD_PORT,
      nodePort: addresses.nodePort[transport],
    })),
    ...extras.spec,
  };
  const ingress = both('load-balancer IP').map(ip => ({ ip, ...extras.ingress }));
  return { ...service(name, spec, extras), status: { loadBalancer: { ingress } } };
}

/** At every address but the load balancer's, from everybody. */
function looksElsewhere(lab: Lab, index: number, expected: string): readonly Look[] {
  const { nodePort, ...addresses } = addressesOf(index);
  return FAMILIES.flatMap(family =>
    CLIENTS.flatMap(from => [
      { from, at: 'cluster IP', target: tcp(addresses['cluster IP'][family], 80), expected },
      { from, at: 'external IP', target: tcp(addresses['external IP'][family], 80), expected },
      { from, at: 'node port', target: tcp(lab.node(1).addresses[family], nodePort.tcp), expected },
    ]),
  );
}

function looksAtBalancer(index: number, expected: (from: string, family: Family) => string): readonly Look[] {
  const address = addressesOf(index)['load-balancer IP'];
  return TRANSPORTS.flatMap(transport =>
    FAMILIES.flatMap(family =>
      CLIENTS.map(from => ({
        from,
        at: 'load-balancer IP',
        target: to(transport, address[family], 80),
        expected: expected(from, family),
      })),
    ),
  );
}

function allCases(lab: Lab): readonly ApiObject[] {
  return [
    ...RANGES_CASES.flatMap(({ ranges }, index) => [
      balancer(`ranges-${index}`, index, ranges),
      ...slices(`ranges-${index}`, lab, ['pod-1-1']),
    ]),
    ...LOCAL_RANGES_CASES.flatMap(({ ranges, endpoints }, index) => [
      balancer(`local-${index}`, 40 + index, ranges, { spec: { externalTrafficPolicy: 'Local' } }),
      ...slices(`local-${index}`, lab, endpoints),
    ]),
  ];
}

describeServices('spec.loadBalancerSourceRanges', { objects: allCases }, suite => {
  const daemon = () => suite().fleets[0]!.daemon(suite().lab.node(1));

  for (const [index, { title, open }] of RANGES_CASES.entries()) {
    it(`${title}: open to ${open.ipv4 || 'nobody'} over IPv4 and ${open.ipv6 || 'nobody'} over IPv6, all else of the Service to all`, async () => {
      const { lab } = suite();
      const looks = [
        ...looksAtBalancer(index, (from, family) => (open[family].split(' ').includes(from) ? 'pod-1-1' : 'timeout')),
        ...looksElsewhere(lab, index, 'pod-1-1'),
      ];
      await verifyLooks(lab, looks, 2);
    });
  }

  for (const [index, { title, outcomes }] of LOCAL_RANGES_CASES.entries()) {
    it(`externalTrafficPolicy Local, open to ${title}`, async () => {
      const address = addressesOf(40 + index)['load-balancer IP'];
      const looks = Object.entries(outcomes).flatMap(([from, expected]) =>
        FAMILIES.map(family => ({ from, at: 'load-balancer IP', target: tcp(address[family], 80), expected, sees: true })),
      );
      await verifyLooks(suite().lab, looks);
    });
  }

  it('new connections go by new ranges at once, established ones go on', async () => {
    const { lab, cluster } = suite();
    const [forExt, forPods] = [
      ['10.10.1.0/24', 'fd00:10:10:1::/64'],
      ['10.244.0.0/16', 'fd00:10:244::/48'],
    ];
    const openTo = (names: readonly string[]) =>
      looksAtBalancer(60, from => (names.includes(from) ? 'pod-1-1' : 'timeout')).filter(
        ({ target }) => target.transport === 'tcp',
      );
    await cluster.put(balancer('changing', 60, forExt), ...slices('changing', lab, ['pod-1-1']));
    const held = await Promise.all(
      FAMILIES.map(family => lab.probe(lab.ext).hold(tcp(addressesOf(60)['load-balancer IP'][family], 80))),
    );
    for (const { opened } of held) assert.equal(opened.outcome, 'answer');
    await verifyLooks(lab, openTo(['ext']));
    await cluster.put(balancer('changing', 60, forPods));
    await verifyLooks(lab, openTo(['pod-1-1', 'pod-1-2', 'pod-2-2']));
    for (const connection of held) assert.deepEqual(await connection.say('still here'), connection.opened);
    await cluster.put(balancer('changing', 60, []));
    await verifyLooks(lab, openTo(CLIENTS));
    await cluster.put(balancer('changing', 60, forExt));
    await verifyLooks(lab, openTo(['ext']));
    for (const connection of held) {
      assert.deepEqual(await connection.say('and again'), connection.opened);
      connection.close();
    }
  });

  it('a younger Service on the same address and port neither opens nor closes the older one; it follows with its own ranges', async () => {
    const { lab, cluster } = suite();
    const since = (creationTimestamp: string, clusterIPs: readonly string[]) => ({
      creationTimestamp,
      spec: { clusterIPs, externalIPs: [], ports: [{ name: 'tcp', port: 80, targetPort: POD_PORT }] },
    });
    const older = (ranges: readonly string[]) =>
      balancer('zulu', 61, ranges, since('2026-01-01T00:00:00Z', ['10.96.7.90', 'fd00:10:96::7090']));
    const younger = (ranges: readonly string[]) =>
      balancer('alpha', 61, ranges, since('2026-02-01T00:00:00Z', ['10.96.7.91', 'fd00:10:96::7091']));
    const forExt = ['10.10.1.0/24', 'fd00:10:10:1::/64'];
    const forPods = ['10.244.0.0/16', 'fd00:10:244::/48'];
    const expectAt = async (server: string, names: readonly string[]) => {
      const looks = looksAtBalancer(61, from => (names.includes(from) ? server : 'timeout'));
      await verifyLooks(
        lab,
        looks.filter(({ target }) => target.transport === 'tcp'),
      );
    };
    await cluster.put(...slices('zulu', lab, ['pod-1-1']), ...slices('alpha', lab, ['pod-2-1']), younger(forPods));
    await expectAt('pod-2-1', ['pod-1-1', 'pod-1-2', 'pod-2-2']);
    await cluster.put(older(forExt));
    await expectAt('pod-1-1', ['ext']);
    await cluster.put(younger([]));
    await expectAt('pod-1-1', ['ext']);
    await cluster.put(older([]), younger(forPods));
    await expectAt('pod-1-1', CLIENTS);
    await cluster.remove(older([]), ...slices('zulu', lab, []));
    await expectAt('pod-2-1', ['pod-1-1', 'pod-1-2', 'pod-2-2']);
  });

  it('ranges of which none can be read close the load-balancer address, nothing else, and the log says which', async () => {
    const { lab, cluster } = suite();
    await cluster.put(balancer('garbled', 62, ['10.10.1.0/99', 'everybody']), ...slices('garbled', lab, ['pod-1-1']));
    await daemon().waitForLine(new RegExp(`${NAMESPACE}/garbled.*loadBalancerSourceRanges.*no range can be read`), 5000);
    await verifyLooks(lab, looksElsewhere(lab, 62, 'pod-1-1'));
    for (const from of CLIENTS) {
      const outcome = await answers(lab, hostOf(lab, from), tcp(addressesOf(62)['load-balancer IP'].ipv4, 80), 1);
      assert.match(outcome, /refused|timeout/, from);
    }
    const index = RANGES_CASES.findIndex(({ ranges }) => ranges.includes('anywhere'));
    await daemon().waitForLine(new RegExp(`${NAMESPACE}/ranges-${index}.*loadBalancerSourceRanges.*anywhere`), 5000);
  });

  // API, LoadBalancerIngress.ipMode: "Setting this to "Proxy" indicates that traffic is delivered to the node or pod with the destination set to
  // the node's IP and node port or the pod's IP and port."
  it('an address with ipMode Proxy stays the load balancer’s: no node takes it', async () => {
    const { lab, cluster } = suite();
    const address = addressesOf(63)['load-balancer IP'];
    await cluster.put(balancer('proxied', 63, [], { ingress: { ipMode: 'VIP' } }), ...slices('proxied', lab, ['pod-1-1']));
    await verifyLooks(
      lab,
      looksAtBalancer(63, () => 'pod-1-1'),
    );
    await cluster.put(balancer('proxied', 63, [], { ingress: { ipMode: 'Proxy' } }));
    await verifyLooks(lab, looksElsewhere(lab, 63, 'pod-1-1'));
    assert.ok(!(await localAddresses(lab, lab.node(1))).has(address.ipv4));
    // The load balancer is a host behind the router that has the address itself.
    const balancerHost = lab.ext;
    for (const family of FAMILIES) {
      const length = family === 'ipv4' ? 32 : 128;
      await lab.expectRun(
        balancerHost,
        ['ip', 'addr', 'add', `${address[family]}/${length}`, 'dev', 'eth0', 'nodad'].filter(
          word => family === 'ipv6' || word !== 'nodad',
        ),
      );
      await lab.expectRun(lab.router, [
        'ip',
        'route',
        'add',
        `${address[family]}/${length}`,
        'via',
        balancerHost.addresses[family],
      ]);
      await lab.probe(balancerHost).serve('tcp', address[family], 80, 'balancer');
    }
    const looks = FAMILIES.flatMap(family =>
      CLIENTS.map(from => ({ from, at: 'load-balancer IP', target: tcp(address[family], 80), expected: 'balancer' })),
    );
    await verifyLooks(lab, looks);
  });
});
