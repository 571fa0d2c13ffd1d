import assert from 'node:assert/strict';
import { type PartnerName, type PodName, SITUATIONS } from './cases/policy-situations.ts';
import { PORTS } from './describe-policy.ts';
import { describeServices } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, service, slice } from './objects.ts';
import { cast, expected, type Flow, flowText, hostOf, isAsExpected, PODS, policiesOf } from './policy-cast.ts';

/** Pods with a Service of their own, on both nodes and in both namespaces, at these ClusterIPs. */
const SERVED = {
  server: { ipv4: '10.96.20.1', ipv6: 'fd00:10:96::2001' },
  far: { ipv4: '10.96.20.2', ipv6: 'fd00:10:96::2002' },
  stranger: { ipv4: '10.96.20.3', ipv6: 'fd00:10:96::2003' },
} as const satisfies Partial<Record<PodName, Readonly<Record<Family, string>>>>;
type ServedName = keyof typeof SERVED;
const TARGETS = Object.keys(SERVED) as readonly ServedName[];

const TRANSPORTS = ['tcp', 'udp', 'sctp'] as const;
const PROTOCOLS = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as const;

/** The port of the Service is another than the pod's: policies are about the pod's. */
function servicePort(port: number): number {
  return port - 8000;
}

function servicesOf(lab: Lab): readonly ApiObject[] {
  const ports = TRANSPORTS.flatMap(transport =>
    PORTS.map(port => ({ name: `${transport}-${port}`, port, protocol: PROTOCOLS[transport] })),
  );
  return TARGETS.flatMap(name => [
    service(name, {
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [SERVED[name].ipv4, SERVED[name].ipv6],
      ports: ports.map(({ port, ...rest }) => ({ ...rest, port: servicePort(port), targetPort: port })),
    }),
    ...FAMILIES.map(family => {
      const { addresses } = hostOf(lab, name);
      return slice(name, ports, [endpoint({ name, node: nodeOf(name), addresses }, family)], { family });
    }),
  ]);
}

function nodeOf(name: ServedName): string {
  return name === 'server' ? 'node1' : 'node2';
}

/** Each pod and node to each Service, the pod behind it among them; IPv6 by TCP alone, which takes a second to be refused. */
const FLOWS: readonly (Flow & { readonly to: ServedName })[] = TARGETS.flatMap(to =>
  // An outside host comes by node1, and keeps its address only to an endpoint there.
  [...PODS, 'node1' as const, 'node2' as const, ...(to === 'server' ? (['ext'] as const) : [])].flatMap((from: PartnerName) =>
    TRANSPORTS.flatMap(transport =>
      FAMILIES.filter(family => family === 'ipv4' || transport === 'tcp').flatMap(family =>
        PORTS.map(port => ({ from, to, transport, family, port })),
      ),
    ),
  ),
);

describeServices(
  'network policy through ClusterIPs, situation by situation',
  {
    nodes: 2,
    podsPerNode: 3,
    daemons: [1, 2].map(node => ({ node, flags: ['--run-firewall=true'] })),
    objects: lab => [...cast(lab), ...servicesOf(lab)],
    prepare: async lab => {
      const served = new Set(['tcp 8080', 'udp 8080', 'tcp 9090']);
      const missing = TRANSPORTS.flatMap(transport => PORTS.map(port => ({ transport, port }))).filter(
        ({ transport, port }) => !served.has(`${transport} ${port}`),
      );
      await Promise.all(
        TARGETS.map(name => hostOf(lab, name)).flatMap(host =>
          missing.flatMap(({ transport, port }) =>
            FAMILIES.map(async family => await lab.probe(host).serve(transport, host.addresses[family], port, host.name)),
          ),
        ),
      );
    },
  },
  suite => {
    for (const situation of SITUATIONS) {
      it(`${situation.title}: ${situation.says}`, async function () {
        this.timeout(120_000);
        const { lab, cluster } = suite();
        const policies = policiesOf(situation);
        await cluster.change({ put: policies });
        // A datagram from a port that an earlier flow had would belong to that flow, which was allowed.
        await Promise.all(lab.nodes.map(node => lab.expectRun(node, ['conntrack', '-F'])));
        const lines = await Promise.all(
          FLOWS.map(async flow => {
            const target = { address: SERVED[flow.to][flow.family], port: servicePort(flow.port) };
            const { outcome } = await lab
              .probe(hostOf(lab, flow.from))
              .connect({ transport: flow.transport, ...target, timeoutMs: 4000 });
            const wanted = flow.from === flow.to ? 'answer' : expected(situation, flow);
            return isAsExpected(outcome, wanted, flow) ? [] : [`${flowText(flow)}: ${outcome}, not ${wanted}`];
          }),
        );
        assert.deepEqual(lines.flat(), []);
        await cluster.change({ remove: policies });
      });
    }
  },
);
