import assert from 'node:assert/strict';
import { describeServices, POD_PORT } from './describe-services.ts';
import { answered, httpGet } from './http.ts';
import { type ApiObject, endpoint, FAMILIES, NAMESPACE, service, slice } from './objects.ts';
import { tcp, to } from './service-looks.ts';
import { until } from './until.ts';

const PORT = 20241;
const CLUSTER = { ipv4: '10.96.17.1', ipv6: 'fd00:10:96::1701' };
const EXTERNAL = { ipv4: '203.0.113.80', ipv6: '2001:db8:203::80' };
const NODE_PORT = { tcp: 31301, udp: 31302 };

/** kube-router's names and labels (docs/metrics.md there): every virtual server of a Service has each of them. */
const SERIES = [
  'total_connections',
  'packets_in',
  'packets_out',
  'bytes_in',
  'bytes_out',
  'pps_in',
  'pps_out',
  'cps',
  'bps_in',
  'bps_out',
].map(name => `kube_router_service_${name}`);

function web(): ApiObject {
  return service('web', {
    type: 'NodePort',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: Object.values(CLUSTER),
    externalIPs: Object.values(EXTERNAL),
    ports: [
      { name: 'http', port: 80, targetPort: POD_PORT, nodePort: NODE_PORT.tcp },
      { name: 'dns', protocol: 'UDP', port: 53, targetPort: POD_PORT, nodePort: NODE_PORT.udp },
    ],
  });
}

function labels(vip: string, protocol: 'tcp' | 'udp', port: number): string {
  return `svc_namespace="${NAMESPACE}",service_name="web",service_vip="${vip}",protocol="${protocol}",port="${port}"`;
}

describeServices('metrics of Services', { daemons: [{ node: 1, flags: [`--metrics-port=${PORT}`] }] }, suite => {
  const page = async (): Promise<string> => {
    const { lab } = suite();
    const answer = answered(await httpGet(lab, lab.ext, lab.node(1).addresses.ipv4, PORT, '/metrics'));
    assert.equal(answer.status, 200);
    return answer.body;
  };

  /** Values by name and labels. */
  const scrape = async (): Promise<ReadonlyMap<string, number>> => {
    const lines = (await page()).matchAll(/^(kube_router_service_\w+)\{([^}]*)\} (\S+)$/gm);
    return new Map([...lines].map(([, name = '', of = '', value = '']) => [`${name}{${of}}`, Number(value)]));
  };

  it('there is each series for each address, port and protocol of a Service, and they move with its traffic alone', async () => {
    const { lab, cluster } = suite();
    const slices = FAMILIES.map(family =>
      slice(
        'web',
        [
          { name: 'http', port: POD_PORT },
          { name: 'dns', protocol: 'UDP', port: POD_PORT },
        ],
        [endpoint(lab.pod(1, 1), family), endpoint(lab.pod(2, 1), family)],
        { family },
      ),
    );
    await cluster.put(web(), ...slices);
    const before = await scrape();
    const listeners = FAMILIES.flatMap(family =>
      (['tcp', 'udp'] as const).flatMap(transport => [
        { transport, address: CLUSTER[family], port: transport === 'tcp' ? 80 : 53 },
        { transport, address: EXTERNAL[family], port: transport === 'tcp' ? 80 : 53 },
        { transport, address: lab.node(1).addresses[family], port: NODE_PORT[transport] },
      ]),
    );
    const wanted = SERIES.flatMap(name =>
      listeners.map(({ transport, address, port }) => `${name}{${labels(address, transport, port)}}`),
    );
    const found = [...before.keys()].filter(key => key.includes('service_name="web"'));
    assert.deepEqual(found.sort(), wanted.sort());

    for (const family of FAMILIES) await lab.probe(lab.ext).burst(tcp(EXTERNAL[family], 80), 6);
    await lab.probe(lab.pod(1, 2)).burst(to('udp', CLUSTER.ipv4, 53), 3);
    // IPVS sums up what the CPUs counted every two seconds (ip_vs_est.c).
    const inOf = `kube_router_service_packets_in{${labels(CLUSTER.ipv4, 'udp', 53)}}`;
    const after = await until('the traffic is counted', scrape, values => values.get(inOf) === 3, 10_000);
    const grown = (name: string, of: string): number => {
      const key = `kube_router_service_${name}{${of}}`;
      return after.get(key)! - before.get(key)!;
    };
    const counted = listeners.map(({ transport, address, port }) => [
      `${transport} ${address} ${port}`,
      grown('total_connections', labels(address, transport, port)),
    ]);
    assert.deepEqual(
      counted.filter(([, count]) => count !== 0),
      [
        [`tcp ${EXTERNAL.ipv4} 80`, 6],
        [`udp ${CLUSTER.ipv4} 53`, 3],
        [`tcp ${EXTERNAL.ipv6} 80`, 6],
      ],
    );
    for (const family of FAMILIES) {
      const of = labels(EXTERNAL[family], 'tcp', 80);
      // A connection is opened, asked, answered and closed: 3 packets or more each way, of 40 bytes and more.
      for (const way of ['in', 'out']) {
        assert.ok(grown(`packets_${way}`, of) >= 6 * 3, `packets ${way} over ${family}: ${grown(`packets_${way}`, of)}`);
        assert.ok(grown(`bytes_${way}`, of) >= 6 * 3 * 40, `bytes ${way} over ${family}: ${grown(`bytes_${way}`, of)}`);
      }
    }
    assert.equal(grown('packets_out', labels(CLUSTER.ipv4, 'udp', 53)), 3);
  });

  it('each run of a tool is timed under the name that kube-router has for it', async () => {
    const names = [
      'ipvs_services_sync',
      'ipvs_metrics_export',
      'iptables_v4_save',
      'iptables_v6_save',
      'iptables_v4_restore',
      'iptables_v6_restore',
    ];
    const text = await page();
    for (const name of [...names, 'policy_ipset_v4_restore', 'policy_ipset_v6_restore'])
      assert.match(text, new RegExp(`^kube_router_controller_${name}_time_count [1-9]`, 'm'), name);
  });

  it('the series of a Service that goes are gone', async () => {
    const { cluster } = suite();
    await cluster.remove(web());
    const left = [...(await scrape()).keys()];
    assert.deepEqual(
      left.filter(key => key.includes('service_name="web"')),
      [],
    );
  });
});
