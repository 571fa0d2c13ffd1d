import assert from 'node:assert/strict';
import type { LabHost, LabPod } from './addresses.ts';
import { describeServices, POD_PORT, type ServicesSuite } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, type Conditions, endpoint, podObject, service, slice } from './objects.ts';
import { cuts, type Exchange, failedOpenings, Load, lost, type Stream, shown } from './traffic/load.ts';

const VIP = '10.96.20.1';
const NODE_PORTS = { tcp: 30520, udp: 30521 } as const;
const ENDPOINTS = 10;
const PORTS = [
  { name: 'http', protocol: 'TCP', port: POD_PORT },
  { name: 'dns', protocol: 'UDP', port: POD_PORT },
] as const;
const TERMINATING: Conditions = { ready: false, serving: true, terminating: true };

const WEB = service('rolling', {
  type: 'NodePort',
  clusterIP: VIP,
  ports: [
    { name: 'http', protocol: 'TCP', port: 80, nodePort: NODE_PORTS.tcp },
    { name: 'dns', protocol: 'UDP', port: 53, nodePort: NODE_PORTS.udp },
  ],
});

/** Pods of the old version and of the new one. */
function versions(lab: Lab): readonly [old: readonly LabPod[], fresh: readonly LabPod[]] {
  return [lab.pods.slice(0, ENDPOINTS), lab.pods.slice(ENDPOINTS, 2 * ENDPOINTS)];
}

function endpoints(ready: readonly LabPod[], terminating: readonly LabPod[] = []): ApiObject {
  return slice('rolling', PORTS, [
    ...ready.map(pod => endpoint(pod)),
    ...terminating.map(pod => endpoint(pod, 'ipv4', TERMINATING)),
  ]);
}

const pods = (all: readonly LabPod[]): readonly ApiObject[] =>
  all.map(pod => podObject(pod, { spec: { terminationGracePeriodSeconds: 60 } }));

/** Some 67 new connections a second, six that are kept, and two flows; half by the cluster IP, half by node1's port. */
function streams(lab: Lab): readonly Stream[] {
  const node = lab.node(1).addresses.ipv4;
  return [
    { transport: 'tcp', address: VIP, port: 80 } as const,
    { transport: 'tcp', address: node, port: NODE_PORTS.tcp } as const,
    { transport: 'udp', address: VIP, port: 53 } as const,
    { transport: 'udp', address: node, port: NODE_PORTS.udp } as const,
  ].flatMap((target, index): readonly Stream[] => [
    { ...target, kind: 'short', everyMs: 60 },
    target.transport === 'tcp'
      ? { ...target, kind: 'keep', everyMs: 100, count: 3 }
      : { ...target, kind: 'flow', everyMs: 50, sourcePort: 4600 + index },
  ]);
}

/** As a Deployment does it: one more that is ready, then one of the old ones takes its leave; when the next is ready it is gone. */
async function rollOut({ lab, cluster }: ServicesSuite): Promise<void> {
  const [old, fresh] = versions(lab);
  for (let step = 0; step < ENDPOINTS; step++) {
    const [started, serving] = [fresh.slice(0, step + 1), old.slice(step)];
    const gone = pods(old.slice(Math.max(0, step - 1), step));
    await cluster.change({ put: [endpoints([...serving, ...started]), ...pods(fresh.slice(step, step + 1))], remove: gone });
    await cluster.put(endpoints([...serving.slice(1), ...started], serving.slice(0, 1)));
  }
  await cluster.change({ put: [endpoints(fresh)], remove: pods(old.slice(-1)) });
}

async function underLoad(suite: ServicesSuite): Promise<{ readonly all: readonly Exchange[]; readonly seconds: number }> {
  const { lab, cluster } = suite;
  const [old] = versions(lab);
  await cluster.put(WEB, endpoints(old), ...pods(old));
  const hosts: readonly LabHost[] = [lab.ext, lab.pod(1, 1), lab.node(1)];
  const loads = await Promise.all(hosts.map(host => Load.begin(lab, host, streams(lab))));
  const began = await lab.now();
  await rollOut(suite);
  const seconds = ((await lab.now()) - began) / 1000;
  const all = (await Promise.all(loads.map(load => load.end()))).flat();
  await cluster.remove(WEB, endpoints([]), ...pods(versions(lab).flat()));
  return { all, seconds };
}

/** The load was there, and its short connections met old and new. */
function checkLoad({ all, seconds }: Awaited<ReturnType<typeof underLoad>>, suite: ServicesSuite): void {
  const short = all.filter(({ stream }) => stream.kind === 'short');
  const kept = all.filter(({ stream }) => stream.kind === 'keep');
  console.log(
    `${short.length} connections in ${seconds.toFixed(1)} s, ${kept.length} requests by kept ones, ${cuts(all).length} cut; ` +
      `${all.filter(({ stream }) => stream.kind === 'flow').length} datagrams of flows, ${lost(all).length} lost`,
  );
  assert.ok(short.length / seconds > 120, `${short.length} connections in ${seconds} s`);
  const met = new Set(short.map(({ reply }) => (reply.outcome === 'answer' ? reply.server : '')));
  assert.deepEqual(
    versions(suite.lab)
      .flat()
      .map(({ name }) => name)
      .filter(name => !met.has(name)),
    [],
  );
}

/** The kernel drops the one datagram that finds its endpoint gone, if it comes before conntrack has forgotten the flow; the next must be answered. */
function repeatedlyLost(all: readonly Exchange[]): readonly Exchange[] {
  const missing = lost(all);
  return missing.filter(one => missing.some(other => isSameFlow(one, other) && one.number === other.number + 1));
}

function isSameFlow(one: Exchange, other: Exchange): boolean {
  return one.from === other.from && one.stream.address === other.stream.address;
}

for (const drains of [true, false]) {
  const flags = drains ? ['--ipvs-graceful-termination'] : [];
  const title = `a rolling update of ten endpoints under load, ${drains ? 'with' : 'without'} graceful termination`;
  describeServices(title, { podsPerNode: 7, daemons: [{ node: 1, flags }] }, suite => {
    it(`fails no new connection${drains ? ' and cuts none that is kept' : ''}`, async function () {
      this.timeout(120_000);
      const result = await underLoad(suite());
      checkLoad(result, suite());
      assert.deepEqual(failedOpenings(result.all), []);
      if (drains) assert.deepEqual(cuts(result.all).map(shown), []);
      // A kept connection is told at once that its endpoint is gone, never left in silence.
      for (const { reply } of cuts(result.all)) assert.match(reply.outcome, /^(reset|refused)$/);
      assert.deepEqual(repeatedlyLost(result.all).map(shown), []);
    });
  });
}
