import assert from 'node:assert/strict';
import { type Claim, type Contender, SERVERS, STORIES, type Step } from './cases/service-contests.ts';
import { answers, describeServices, HOST_PORT, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { localAddresses } from './node-state.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';
import { type Look, tcp, verifyLooks } from './service-looks.ts';
import { until } from './until.ts';

const CONTENDERS = Object.keys(SERVERS) as readonly Contender[];

const PREFIXES: Readonly<Record<string, readonly [ipv4: string, ipv6: string]>> = {
  cluster: ['10.96.14.', 'fd00:10:96::14'],
  external: ['203.0.113.', '2001:db8:203::'],
  balancer: ['203.0.113.', '2001:db8:203::8'],
};

function addresses(kind: string, last: number): readonly [ipv4: string, ipv6: string] {
  const [ipv4, ipv6] = PREFIXES[kind]!;
  return [`${ipv4}${last}`, `${ipv6}${kind === 'cluster' ? String(last).padStart(2, '0') : last}`];
}

/** 1 November 2026, and so many days before. */
function createdBefore(days: number): string {
  return new Date(Date.UTC(2026, 10, 1 - days)).toISOString().replace('.000', '');
}

function serviceOf(name: Contender, claim: Claim): ApiObject {
  const { type = 'ClusterIP', cluster, external, balancer, nodePort, port = 80, age = 5, policy } = claim;
  if (type === 'ExternalName') return service(name, { type, externalName: 'elsewhere.example.com' });
  const spec = {
    type,
    ipFamilies: ['IPv4', 'IPv6'],
    ...(cluster === undefined ? {} : { clusterIPs: addresses('cluster', cluster) }),
    ...(external === undefined ? {} : { externalIPs: addresses('external', external) }),
    ...(policy === undefined ? {} : { externalTrafficPolicy: policy }),
    ports: [{ name: 'http', port, targetPort: POD_PORT, ...(nodePort === undefined ? {} : { nodePort }) }],
  };
  const loadBalancerIPs = balancer === undefined ? [] : addresses('balancer', balancer);
  return service(name, spec, { creationTimestamp: createdBefore(age), loadBalancerIPs });
}

function slices(lab: Lab, name: Contender, { endpoints }: Claim = {}): readonly ApiObject[] {
  const pods = lab.pods.filter(pod => endpoints !== 'none' && pod.name === SERVERS[name]);
  return FAMILIES.map(family =>
    slice(
      name,
      [{ name: 'http', port: POD_PORT }],
      pods.map(pod => endpoint(pod, family)),
      { family },
    ),
  );
}

/** From a pod of the node and from outside; `nobody` is left to {@link nobodyAnswers}. */
function looksOf(lab: Lab, { outcomes }: Step): readonly Look[] {
  return Object.entries(outcomes).flatMap(([at, outcome]) => {
    const [, outside = outcome, inside = outcome] = /^outside (.*), inside (.*)$/.exec(outcome) ?? [];
    if (outcome === 'nobody') return [];
    return targetsOf(lab, at).flatMap(target => [
      { from: 'ext', at, target, expected: outside },
      { from: 'pod-1-2', at, target, expected: inside },
      { from: 'node1', at, target, expected: inside },
    ]);
  });
}

/** `cluster 1`, `external 1:81`, `node 30300` */
function targetsOf(lab: Lab, at: string) {
  const [kind = '', place = ''] = at.split(' ');
  const [last, port = '80'] = place.split(':');
  if (kind === 'node') return FAMILIES.map(family => tcp(lab.node(1).addresses[family], Number(place)));
  return addresses(kind, Number(last)).map(address => tcp(address, Number(port)));
}

/** An address that stands on no node any more: how that ends is the routers' business. */
async function nobodyAnswers(lab: Lab, { outcomes }: Step): Promise<void> {
  const local = await localAddresses(lab, lab.node(1));
  for (const at of Object.keys(outcomes).filter(key => outcomes[key] === 'nobody')) {
    for (const target of targetsOf(lab, at)) {
      assert.ok(!local.has(target.address), target.address);
      assert.match(await answers(lab, lab.ext, target), /^(refused|timeout)$/, target.address);
    }
  }
}

describeServices('Services that claim what others have', {}, suite => {
  for (const { title, steps } of STORIES) {
    it(title, async () => {
      const { lab, cluster } = suite();
      const there = new Set<Contender>();
      for (const step of steps) {
        const { put = {}, remove = [] } = step;
        const arriving = CONTENDERS.flatMap(name => {
          const claim = put[name];
          if (claim === undefined) return [];
          there.add(name);
          return [serviceOf(name, claim), ...slices(lab, name, claim)];
        });
        const leaving = remove.flatMap(name => [serviceOf(name, {}), ...slices(lab, name)]);
        for (const name of remove) there.delete(name);
        await cluster.change({ put: arriving, remove: leaving });
        try {
          await verifyLooks(lab, looksOf(lab, step));
          await nobodyAnswers(lab, step);
        } catch (error) {
          assert.fail(`${step.title}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
      await cluster.remove(...[...there].flatMap(name => [serviceOf(name, {}), ...slices(lab, name)]));
    });
  }

  it('an external IP that becomes an address of the node, and no longer is, is served all the time while it stands', async () => {
    const { lab, cluster } = suite();
    const [ipv4, ipv6] = addresses('external', 50);
    await cluster.put(serviceOf('first', { cluster: 15, external: 50 }), ...slices(lab, 'first'));
    const served = (expected: string): readonly Look[] =>
      [ipv4, ipv6].flatMap(address =>
        ['ext', 'pod-1-2', 'node1'].map(from => ({ from, at: 'external IP', target: tcp(address, 80), expected })),
      );
    const countOn = async (link: string): Promise<number> => {
      const listed = await lab.expectRun(lab.node(1), ['ip', '-o', 'addr', 'show', 'dev', link]);
      return [ipv4, ipv6].filter(address => listed.includes(` ${address}/`)).length;
    };
    await verifyLooks(lab, served('pod-1-1'));
    const watches = await Promise.all([ipv4, ipv6].map(async address => await lab.watch(lab.ext, tcp(address, 80))));
    await lab.expectRun(lab.node(1), ['ip', 'addr', 'add', `${ipv4}/32`, 'dev', 'eth0']);
    await lab.expectRun(lab.node(1), ['ip', 'addr', 'add', `${ipv6}/128`, 'dev', 'eth0', 'nodad']);
    await until(
      'our link gives the address up',
      async () => await countOn('kube-dummy-if'),
      count => count === 0,
    );
    await cluster.change({});
    for (const watch of watches) {
      await watch.more();
      const outcomes = (await watch.end()).map(({ reply }) => (reply.outcome === 'answer' ? reply.server : reply.outcome));
      assert.deepEqual([...new Set(outcomes)], ['pod-1-1']);
    }
    await verifyLooks(lab, served('pod-1-1'));
    // It is the node's own now: all the node has answers there, as at any address of the node's.
    assert.equal(await answers(lab, lab.ext, tcp(ipv4, HOST_PORT), 2), 'node1:9999');
    await lab.expectRun(lab.node(1), ['ip', 'addr', 'del', `${ipv4}/32`, 'dev', 'eth0']);
    await lab.expectRun(lab.node(1), ['ip', 'addr', 'del', `${ipv6}/128`, 'dev', 'eth0']);
    await until(
      'our link has the address again',
      async () => await countOn('kube-dummy-if'),
      count => count === 2,
    );
    // Until that round is over the firewall takes the addresses for the node's own, as they were.
    await cluster.change({});
    await verifyLooks(lab, served('pod-1-1'));
    assert.equal(await answers(lab, lab.ext, tcp(ipv4, HOST_PORT)), 'refused');
  });
});
