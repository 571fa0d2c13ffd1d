import assert from 'node:assert/strict';
import { answers, describeServices, HOST_PORT, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { localAddresses } from './node-state.ts';
import { type ApiObject, endpoint, FAMILIES, NAMESPACE, type ServiceExtras, service, slice } from './objects.ts';
import { ping } from './ping.ts';

const HTTP = [{ name: 'http', port: POD_PORT }];

/** A Service with one endpoint on port 80, or the port told. */
function web(name: string, lab: Lab, pod: [number, number], spec: object, extras: ServiceExtras = {}): readonly ApiObject[] {
  return [
    service(name, { ports: [{ name: 'http', port: 80 }], ...spec }, extras),
    slice(name, HTTP, [endpoint(lab.pod(...pod))]),
    slice(name, HTTP, [endpoint(lab.pod(...pod), 'ipv6')], { family: 'ipv6' }),
  ];
}

const DUAL = { ipFamilies: ['IPv4', 'IPv6'] };

describeServices('the addresses of Services', {}, suite => {
  const daemon = () => suite().fleets[0]!.daemon(suite().lab.node(1));

  describe('a virtual address answers for its Service and to echo requests, and for nothing else of the node', () => {
    const VIPS = {
      'cluster IP': { ipv4: '10.96.3.1', ipv6: 'fd00:10:96::301' },
      'external IP': { ipv4: '203.0.113.1', ipv6: '2001:db8:203::1' },
      'load-balancer IP': { ipv4: '203.0.113.129', ipv6: '2001:db8:203::8001' },
    };
    before(async () => {
      const { lab, cluster } = suite();
      await cluster.put(
        ...web(
          'vip',
          lab,
          [2, 1],
          {
            ...DUAL,
            clusterIPs: Object.values(VIPS['cluster IP']),
            externalIPs: Object.values(VIPS['external IP']),
            ports: [{ name: 'http', port: 80, targetPort: POD_PORT }],
          },
          { loadBalancerIPs: Object.values(VIPS['load-balancer IP']) },
        ),
      );
    });
    for (const [kind, addresses] of Object.entries(VIPS)) {
      for (const family of FAMILIES) {
        it(`${kind} over ${family}`, async () => {
          const { lab } = suite();
          const address = addresses[family];
          for (const from of [lab.ext, lab.pod(1, 1)]) {
            assert.equal(await answers(lab, from, { transport: 'tcp', address, port: 80 }, 2), 'pod-2-1', `from ${from.name}`);
            assert.equal(
              await answers(lab, from, { transport: 'tcp', address, port: HOST_PORT }),
              'refused',
              `from ${from.name}`,
            );
            assert.equal(await answers(lab, from, { transport: 'udp', address, port: 80 }), 'refused', `from ${from.name}`);
            assert.equal(await ping(lab, from, address), 'echo', `from ${from.name}`);
          }
        });
      }
    }
    for (const family of FAMILIES) {
      it(`the node's own address goes on answering for all the node has, over ${family}`, async () => {
        const { lab } = suite();
        const address = lab.node(1).addresses[family];
        for (const from of [lab.ext, lab.pod(1, 1), lab.node(1)])
          assert.equal(
            await answers(lab, from, { transport: 'tcp', address, port: HOST_PORT }, 2),
            'node1:9999',
            `from ${from.name}`,
          );
        assert.equal(await ping(lab, lab.ext, address), 'echo');
      });
    }
  });

  it('an external IP outside --service-external-ip-range is not served, and the log names the flag', async () => {
    const { lab, cluster } = suite();
    await cluster.put(...web('beyond', lab, [1, 1], { clusterIP: '10.96.3.2', externalIPs: ['203.0.113.200', '203.0.113.2'] }));
    await daemon().waitForLine(
      new RegExp(`Service ${NAMESPACE}/beyond: external IP 203.0.113.200 is rejected: .*--service-external-ip-range`),
      5000,
    );
    assert.notEqual(await answers(lab, lab.ext, { transport: 'tcp', address: '203.0.113.200', port: 80 }), 'pod-1-1');
    assert.ok(!(await localAddresses(lab, lab.node(1))).has('203.0.113.200'));
    for (const address of ['203.0.113.2', '10.96.3.2'])
      assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address, port: 80 }, 2), 'pod-1-1');
  });

  it('a load-balancer IP outside --loadbalancer-ip-range or inside the cluster range is not served, and the log names the flag', async () => {
    const { lab, cluster } = suite();
    const loadBalancerIPs = ['203.0.113.3', '10.96.3.99', '203.0.113.130'];
    await cluster.put(...web('balancer', lab, [1, 1], { type: 'LoadBalancer', clusterIP: '10.96.3.3' }, { loadBalancerIPs }));
    await daemon().waitForLine(
      new RegExp(`Service ${NAMESPACE}/balancer: load-balancer IP 203.0.113.3 is rejected: .*--loadbalancer-ip-range`),
      5000,
    );
    await daemon().waitForLine(
      new RegExp(`Service ${NAMESPACE}/balancer: load-balancer IP 10.96.3.99 is rejected: .*--service-cluster-ip-range`),
      5000,
    );
    const local = await localAddresses(lab, lab.node(1));
    assert.ok(!local.has('203.0.113.3') && !local.has('10.96.3.99'));
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: '203.0.113.130', port: 80 }, 2), 'pod-1-1');
  });

  it('two Services share one external IP on different ports; when one goes the other stays', async () => {
    const { lab, cluster } = suite();
    const first = web('left', lab, [1, 1], {
      clusterIP: '10.96.3.4',
      externalIPs: ['203.0.113.4'],
      ports: [{ name: 'http', port: 80 }],
    });
    const second = web('right', lab, [2, 1], {
      clusterIP: '10.96.3.5',
      externalIPs: ['203.0.113.4'],
      ports: [{ name: 'http', port: 81 }],
    });
    const at = (port: number) => answers(lab, lab.ext, { transport: 'tcp', address: '203.0.113.4', port }, 2);
    await cluster.put(...first, ...second);
    assert.deepEqual([await at(80), await at(81)], ['pod-1-1', 'pod-2-1']);
    await cluster.remove(...first);
    assert.deepEqual([await at(80), await at(81)], ['refused', 'pod-2-1']);
    await cluster.remove(...second);
    assert.ok(!(await localAddresses(lab, lab.node(1))).has('203.0.113.4'));
  });

  it('of two Services on one address and port the older keeps it, the log names both, and the younger follows when it goes', async () => {
    const { lab, cluster } = suite();
    const spec = { externalIPs: ['203.0.113.5'] };
    const older = web('zulu', lab, [1, 1], { ...spec, clusterIP: '10.96.3.6' }, { creationTimestamp: '2026-01-01T00:00:00Z' });
    const younger = web('alpha', lab, [2, 1], { ...spec, clusterIP: '10.96.3.7' }, { creationTimestamp: '2026-02-01T00:00:00Z' });
    const at = (address: string) => answers(lab, lab.ext, { transport: 'tcp', address, port: 80 }, 4);
    await cluster.put(...younger);
    assert.equal(await at('203.0.113.5'), 'pod-2-1');
    await cluster.put(...older);
    assert.equal(await at('203.0.113.5'), 'pod-1-1');
    assert.deepEqual([await at('10.96.3.6'), await at('10.96.3.7')], ['pod-1-1', 'pod-2-1'], 'their own addresses work');
    const line = await daemon().waitForLine(/203\.0\.113\.5.*FW_/, 5000);
    assert.match(line.text, new RegExp(`${NAMESPACE}/zulu`));
    assert.match(line.text, new RegExp(`${NAMESPACE}/alpha`));
    await cluster.remove(...older);
    assert.equal(await at('203.0.113.5'), 'pod-2-1');
  });

  it("an external IP that is the node's own address is served at its port; the rest of the node stays, also when the Service goes", async () => {
    const { lab, cluster, fleets } = suite();
    const own = lab.node(1).addresses.ipv4;
    const objects = web('own', lab, [1, 1], {
      clusterIP: '10.96.3.8',
      externalIPs: [own],
      ports: [{ name: 'http', port: 8443 }],
    });
    // Strict validation wants the ranges to hold it.
    await fleets[0]!.stop();
    const relaxed = fleets[0]!.startOn(lab.node(1), { flags: ['--strict-external-ip-validation=false'] });
    await relaxed.waitForLine(/ready: the first round is in/, 60_000);
    await cluster.put(...objects);
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: own, port: 8443 }, 2), 'pod-1-1');
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: own, port: HOST_PORT }, 2), 'node1:9999');
    await cluster.remove(...objects);
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: own, port: HOST_PORT }, 2), 'node1:9999');
    assert.equal(await answers(lab, lab.ext, { transport: 'tcp', address: own, port: 8443 }), 'refused');
    assert.match(await lab.expectRun(lab.node(1), ['ip', '-o', 'addr', 'show', 'eth0']), new RegExp(` ${own}/24 `));
  });

  it("an external IP that is another node's address does not cut this node off from it", async () => {
    const { lab, cluster } = suite();
    const other = lab.node(2).addresses.ipv4;
    await cluster.put(
      ...web('theirs', lab, [1, 1], { clusterIP: '10.96.3.9', externalIPs: [other], ports: [{ name: 'http', port: 8443 }] }),
    );
    assert.ok(!(await localAddresses(lab, lab.node(1))).has(other));
    assert.equal(await answers(lab, lab.node(1), { transport: 'tcp', address: other, port: HOST_PORT }, 2), 'node2:9999');
    // The node itself is served here; what it forwards, node2 serves.
    assert.equal(await answers(lab, lab.node(1), { transport: 'tcp', address: other, port: 8443 }, 2), 'pod-1-1');
    assert.equal(await answers(lab, lab.pod(1, 2), { transport: 'tcp', address: other, port: HOST_PORT }, 2), 'node2:9999');
  });
});
