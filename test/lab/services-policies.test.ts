import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import { type CaseEndpoint, ENDPOINT_CASES, type EndpointCase } from './cases/endpoint-choice.ts';
import { answers, describeServices, POD_PORT, sourcesSeen } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, type Conditions, endpoint, FAMILIES, type Family, service, slice } from './objects.ts';
import type { Target } from './probe.ts';

const CONDITIONS: Readonly<Record<CaseEndpoint['is'], Conditions>> = {
  ready: { ready: true, serving: true, terminating: false },
  unknown: {},
  'not ready': { ready: false, serving: false, terminating: false },
  'terminating, serving': { ready: false, serving: true, terminating: true },
  terminating: { ready: false, serving: false, terminating: true },
};

const TRANSPORTS = ['tcp', 'udp'] as const;

interface Check {
  readonly from: LabHost;
  readonly target: Target;
  readonly outcome: string;
}

/** All at once: each of another virtual server, so that they do not disturb each other's turns. */
async function verify(lab: Lab, checks: readonly Check[]): Promise<void> {
  const line = ({ from, target }: Check, outcome: string): string =>
    `${from.name} -> ${target.transport} ${target.address} port ${target.port}: ${outcome}`;
  const seen = await Promise.all(checks.map(async check => line(check, await answers(lab, check.from, check.target, 9))));
  assert.deepEqual(
    seen,
    checks.map(check => line(check, check.outcome)),
  );
}

/** The kernel tells a UDP sender of the node's own at once, with EPERM instead of ECONNREFUSED. */
function fromNode(lab: Lab, target: Target, outcome: string): Check {
  return { from: lab.node(1), target, outcome: target.transport === 'udp' && outcome === 'refused' ? 'failed' : outcome };
}

/** Addresses of the case with this index. */
function addressesOf(index: number) {
  return {
    cluster: { ipv4: `10.96.1.${index + 1}`, ipv6: `fd00:10:96::1${String(index + 1).padStart(2, '0')}` },
    external: { ipv4: `203.0.113.${index + 1}`, ipv6: `2001:db8:203::${index + 1}` },
    nodePort: { tcp: 30100 + index, udp: 30200 + index },
  };
}

function objectsOf(test: EndpointCase, index: number, lab: Lab): readonly ApiObject[] {
  const name = `case-${index}`;
  const { cluster, external, nodePort } = addressesOf(index);
  const policies = {
    internalTrafficPolicy: test.internalTrafficPolicy ?? 'Cluster',
    externalTrafficPolicy: test.externalTrafficPolicy ?? 'Cluster',
  };
  const ports = [
    { name: 'tcp', protocol: 'TCP', port: 80, targetPort: POD_PORT, nodePort: nodePort.tcp },
    { name: 'udp', protocol: 'UDP', port: 80, targetPort: POD_PORT, nodePort: nodePort.udp },
  ];
  const spec = {
    type: 'NodePort',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: [cluster.ipv4, cluster.ipv6],
    externalIPs: [external.ipv4, external.ipv6],
    ...policies,
    ports,
  };
  return [
    service(name, spec, test.annotations === undefined ? {} : { annotations: test.annotations }),
    ...FAMILIES.map(family =>
      slice(
        name,
        [
          { name: 'tcp', protocol: 'TCP', port: POD_PORT },
          { name: 'udp', protocol: 'UDP', port: POD_PORT },
        ],
        test.endpoints.map(({ pod, is }) => endpoint(podNamed(lab, pod), family, CONDITIONS[is])),
        { family },
      ),
    ),
  ];
}

function podNamed(lab: Lab, name: string): Lab['pods'][number] {
  const pod = lab.pods.find(one => one.name === name);
  assert.ok(pod !== undefined, name);
  return pod;
}

function allObjects(lab: Lab): readonly ApiObject[] {
  return ENDPOINT_CASES.flatMap((test, index) => objectsOf(test, index, lab));
}

describeServices('which endpoints answer', { objects: allObjects }, suite => {
  for (const [index, test] of ENDPOINT_CASES.entries()) {
    const { cluster, external, nodePort } = addressesOf(index);
    const { inside = test.external } = test;
    it(`${test.title}: ${test.cluster} at the cluster IP, ${test.external} from outside, ${inside} from inside`, async () => {
      const { lab } = suite();
      const checks: Check[] = [];
      for (const transport of TRANSPORTS) {
        for (const family of FAMILIES) {
          const ports = { [cluster[family]]: 80, [external[family]]: 80, [lab.node(1).addresses[family]]: nodePort[transport] };
          for (const [address, port] of Object.entries(ports)) {
            const isCluster = address === cluster[family];
            const target = { transport, address, port };
            checks.push(
              isCluster
                ? { from: lab.pod(1, 2), target, outcome: test.cluster }
                : { from: lab.ext, target, outcome: test.external },
            );
          }
        }
      }
      await verify(lab, checks);
      await verify(
        lab,
        checks.filter(({ from }) => from !== lab.ext).map(({ target }) => fromNode(lab, target, test.cluster)),
      );
      const outside = checks.filter(({ from }) => from === lab.ext).map(({ target }) => target);
      const atNodePorts = outside.filter(({ port }) => port !== 80);
      const atExternal = outside.filter(({ port }) => port === 80);
      // From inside, both ways to a port may lead to one virtual server.
      for (const targets of [atExternal, atNodePorts]) {
        await verify(
          lab,
          targets.map(target => ({ from: lab.pod(1, 2), target, outcome: inside })),
        );
        await verify(
          lab,
          targets.map(target => fromNode(lab, target, inside)),
        );
      }
    });
  }

  for (const family of FAMILIES) {
    it(`externalTrafficPolicy Local: the endpoint sees the address of the host outside, over ${family}`, async () => {
      const index = ENDPOINT_CASES.findIndex(test => test.title.startsWith('externalTrafficPolicy Local, endpoints here'));
      const { external, nodePort } = addressesOf(index);
      const seen = await sourcesOf(suite().lab, family, external[family], nodePort.tcp);
      assert.deepEqual(seen, [suite().lab.ext.addresses[family]]);
    });
  }
});

async function sourcesOf(lab: Lab, family: Family, address: string, nodePort: number): Promise<readonly string[]> {
  const probe = lab.probe(lab.ext);
  return sourcesSeen([
    ...(await probe.burst({ transport: 'tcp', address, port: 80 }, 6)),
    ...(await probe.burst({ transport: 'tcp', address: lab.node(1).addresses[family], port: nodePort }, 6)),
  ]);
}
