import assert from 'node:assert/strict';
import { HEALTH_CASES, type HealthCase, LEAVING_CASES } from './cases/health-ports.ts';
import { describeServices, HOST_PORT, POD_PORT } from './describe-services.ts';
import { answered, httpGet } from './http.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, type Conditions, endpoint, FAMILIES, NAMESPACE, nodeObject, service, slice } from './objects.ts';
import { CLIENTS, tcp, verifyLooks } from './service-looks.ts';
import { until } from './until.ts';

const CONDITIONS: Readonly<Record<HealthCase['endpoints'][number][1], Conditions>> = {
  ready: { ready: true, serving: true, terminating: false },
  unready: { ready: false, serving: false, terminating: false },
  'terminating, serving': { ready: false, serving: true, terminating: true },
};

const HEALTH_PORT = { front: 31001, back: 31002 } as const;
type Name = keyof typeof HEALTH_PORT;
/** As --health-port has it by default, and --metrics-port as the suite sets it. */
const DAEMON_PORT = 20244;
const METRICS_PORT = 20241;
const VIPS = {
  'cluster IP': { ipv4: '10.96.13.1', ipv6: 'fd00:10:96::1301' },
  'external IP': { ipv4: '203.0.113.13', ipv6: '2001:db8:203::13' },
  'load-balancer IP': { ipv4: '203.0.113.213', ipv6: '2001:db8:203::8213' },
} as const;

function balancer(name: Name): ApiObject {
  const isFront = name === 'front';
  const spec = {
    type: 'LoadBalancer',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: isFront ? Object.values(VIPS['cluster IP']) : ['10.96.13.2', 'fd00:10:96::1302'],
    ...(isFront ? { externalIPs: Object.values(VIPS['external IP']) } : {}),
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: HEALTH_PORT[name],
    ports: [{ name: 'http', port: 80, targetPort: POD_PORT, nodePort: isFront ? 31101 : 31102 }],
  };
  return service(name, spec, isFront ? { loadBalancerIPs: Object.values(VIPS['load-balancer IP']) } : {});
}

function slices(lab: Lab, name: Name, endpoints: HealthCase['endpoints']): readonly ApiObject[] {
  return FAMILIES.map(family =>
    slice(
      name,
      [{ name: 'http', port: POD_PORT }],
      endpoints.map(([podName, is]) => endpoint(lab.pods.find(pod => pod.name === podName)!, family, CONDITIONS[is])),
      { family },
    ),
  );
}

/** What kube-proxy's handler writes, tabs included. */
function bodyOf(name: Name, localEndpoints: number): string {
  return JSON.stringify({ service: { namespace: NAMESPACE, name }, localEndpoints, serviceProxyHealthy: true }, undefined, '\t');
}

describeServices(
  'where load balancers ask for the health of a node',
  { daemons: [{ node: 1, flags: [`--metrics-port=${METRICS_PORT}`] }] },
  suite => {
    const ask = async (port: number, family: 'ipv4' | 'ipv6', path = '/') =>
      await httpGet(suite().lab, suite().lab.ext, suite().lab.node(1).addresses[family], port, path);

    /** Of the listening socket at a port: one that was closed and opened again has another inode. */
    const socketAt = async (port: number): Promise<string> => {
      const table = await suite().lab.readFile(suite().lab.node(1), '/proc/net/tcp6');
      const local = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
      const line = table.split('\n').find(text => text.slice(0, 45).includes(local) && /^ *\d+: \S+ \S+ 0A /.test(text));
      return line?.trim().split(/ +/)[9] ?? 'none';
    };

    it('answers for the endpoints that are ready on this node, over both families, by one socket all the time', async () => {
      const { lab, cluster } = suite();
      await cluster.put(balancer('front'), ...slices(lab, 'front', []));
      const socket = await socketAt(HEALTH_PORT.front);
      assert.match(socket, /^\d+$/);
      for (const { title, endpoints, localEndpoints, status } of HEALTH_CASES) {
        await cluster.put(...slices(lab, 'front', endpoints));
        for (const family of FAMILIES) {
          const answer = answered(await ask(HEALTH_PORT.front, family, '/whatever'));
          const { 'content-type': type, 'x-load-balancing-endpoint-weight': weight } = answer.headers;
          assert.deepEqual(
            { status: answer.status, body: answer.body, type, weight },
            { status, body: bodyOf('front', localEndpoints), type: 'application/json', weight: String(localEndpoints) },
            `${title}, over ${family}`,
          );
        }
        assert.equal(await socketAt(HEALTH_PORT.front), socket, title);
      }
    });

    it('each of two Services has its own; one that is deleted, or changes its policy or its port, is refused', async () => {
      const { lab, cluster } = suite();
      const statusAt = async (port: number): Promise<string> => {
        const answers = await Promise.all(FAMILIES.map(async family => await ask(port, family)));
        return answers.map(answer => (typeof answer === 'string' ? answer : String(answer.status))).join(' ');
      };
      await cluster.put(balancer('front'), balancer('back'));
      await cluster.put(...slices(lab, 'front', [['pod-1-1', 'ready']]), ...slices(lab, 'back', [['pod-2-1', 'ready']]));
      assert.deepEqual([await statusAt(31001), await statusAt(31002)], ['200 200', '503 503']);

      const changed = balancer('back');
      const spec = changed['spec'] as Readonly<Record<string, unknown>>;
      await cluster.put({ ...changed, spec: { ...spec, healthCheckNodePort: 31003 } });
      assert.deepEqual(
        [await statusAt(31001), await statusAt(31002), await statusAt(31003)],
        ['200 200', 'refused refused', '503 503'],
      );
      // The API takes the field away with the policy; a manifest may leave it.
      await cluster.put({ ...changed, spec: { ...spec, externalTrafficPolicy: 'Cluster' } });
      assert.deepEqual([await statusAt(31002), await statusAt(31003)], ['refused refused', 'refused refused']);
      await cluster.put(changed);
      assert.equal(await statusAt(31002), '503 503');
      await cluster.remove(changed);
      assert.deepEqual([await statusAt(31001), await statusAt(31002)], ['200 200', 'refused refused']);
      await cluster.remove(balancer('front'), ...slices(lab, 'front', []), ...slices(lab, 'back', []));
      assert.deepEqual([await statusAt(31001), await statusAt(31002)], ['refused refused', 'refused refused']);
    });

    it('of two Services with one health port the older answers there; when it goes the younger does at once', async () => {
      const { lab, cluster } = suite();
      const at = async (): Promise<string> => answered(await ask(31001, 'ipv4')).body;
      const aged = (name: Name, creationTimestamp: string): ApiObject => {
        const object = balancer(name);
        const spec = { ...(object['spec'] as object), healthCheckNodePort: 31001 };
        return { ...object, metadata: { ...object.metadata, creationTimestamp }, spec };
      };
      const [older, younger] = [aged('front', '2026-01-01T00:00:00Z'), aged('back', '2026-02-01T00:00:00Z')];
      await cluster.put(younger, ...slices(lab, 'back', [['pod-1-1', 'ready']]), ...slices(lab, 'front', []));
      assert.equal(await at(), bodyOf('back', 1));
      await cluster.put(older);
      assert.equal(await at(), bodyOf('front', 0));
      await cluster.remove(older);
      assert.equal(await at(), bodyOf('back', 1));
      await cluster.remove(younger);
      assert.equal(await ask(31001, 'ipv4'), 'refused');
    });

    it('no port of the host answers at a virtual address: health ports, pages of the daemon, node ports, servers of the host', async () => {
      const { lab, cluster } = suite();
      await cluster.put(balancer('front'), ...slices(lab, 'front', [['pod-1-1', 'ready']]));
      const ports = [HEALTH_PORT.front, DAEMON_PORT, METRICS_PORT, 31101, HOST_PORT];
      for (const port of [HEALTH_PORT.front, DAEMON_PORT, METRICS_PORT])
        assert.notEqual(typeof (await ask(port, 'ipv4', '/livez')), 'string', `port ${port} answers at the node's own address`);
      const looks = Object.entries(VIPS).flatMap(([at, addresses]) =>
        FAMILIES.flatMap(family =>
          ports.flatMap(port =>
            CLIENTS.filter(from => from !== 'node1').map(from => ({
              from,
              at: `${at} port ${port}`,
              target: tcp(addresses[family], port),
              expected: 'refused',
            })),
          ),
        ),
      );
      await verifyLooks(lab, looks, 1);
    });

    it('/healthz tells load balancers that the Node is about to go; /livez and /readyz stay', async () => {
      const { lab, cluster } = suite();
      const node = nodeObject(lab.node(1));
      const read = async (): Promise<string> => {
        const pages = ['/healthz', '/livez', '/readyz'].flatMap(path => FAMILIES.map(family => ({ path, family })));
        const lines = await Promise.all(
          pages.map(async ({ path, family }) => {
            const answer = await ask(DAEMON_PORT, family, path);
            return `${path} over ${family}: ${typeof answer === 'string' ? answer : answer.status}`;
          }),
        );
        return lines.join('\n');
      };
      for (const { title, metadata, spec, pages } of LEAVING_CASES) {
        await cluster.put({
          ...node,
          metadata: { ...node.metadata, ...metadata },
          spec: { ...(node['spec'] as object), ...spec },
        });
        const expected = Object.entries(pages).flatMap(([path, status]) =>
          FAMILIES.map(family => `${path} over ${family}: ${status}`),
        );
        await until(title, read, seen => seen === expected.join('\n'), 5000);
      }
    });
  },
);
