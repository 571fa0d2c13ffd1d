import { HINTS_CASES, type HintsCase } from './cases/endpoint-hints.ts';
import { describeServices, POD_PORT } from './describe-services.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, nodeObject, type SliceEndpoint, service, slice } from './objects.ts';
import { type Look, tcp, verifyLooks } from './service-looks.ts';

const ZONES: Readonly<Record<string, string>> = { node1: 'a', node2: 'a', node3: 'b' };

/** The Nodes with the label that kubelet and cloud controllers set: topology.kubernetes.io/zone; '' for none. */
function nodesIn(lab: Lab, zones: Readonly<Record<string, string>>): readonly ApiObject[] {
  return lab.nodes.map(node => {
    const object = nodeObject(node);
    const zone = zones[node.name] ?? '';
    const labels = zone === '' ? {} : { 'topology.kubernetes.io/zone': zone };
    return { ...object, metadata: { ...object.metadata, labels } };
  });
}

function named(names: string): readonly { readonly name: string }[] {
  return names.split(',').map(name => ({ name }));
}

/** `pod-1-1 node1 a,b unready` */
function endpointOf(lab: Lab, row: string, family: 'ipv4' | 'ipv6'): SliceEndpoint {
  const [name = '', nodes = '-', zones = '-', unready] = row.split(' ');
  const pod = lab.pods.find(one => one.name === name)!;
  const hints = {
    ...(nodes === '-' ? {} : { forNodes: named(nodes) }),
    ...(zones === '-' ? {} : { forZones: named(zones) }),
  };
  const ready = unready === undefined;
  return { ...endpoint(pod, family, { ready, serving: ready }), ...(Object.keys(hints).length === 0 ? {} : { hints }) };
}

function slices(lab: Lab, name: string, rows: readonly string[]): readonly ApiObject[] {
  return FAMILIES.map(family =>
    slice(
      name,
      [{ name: 'http', port: POD_PORT }],
      rows.map(row => endpointOf(lab, row, family)),
      { family },
    ),
  );
}

function addressesOf(index: number) {
  return { ipv4: `10.96.9.${index + 1}`, ipv6: `fd00:10:96::9${(0x10 + index).toString(16)}`, nodePort: 30900 + index };
}

function web(name: string, index: number, internalTrafficPolicy: 'Cluster' | 'Local' = 'Cluster'): ApiObject {
  const { ipv4, ipv6, nodePort } = addressesOf(index);
  return service(name, {
    type: 'NodePort',
    ipFamilies: ['IPv4', 'IPv6'],
    clusterIPs: [ipv4, ipv6],
    internalTrafficPolicy,
    trafficDistribution: 'PreferClose',
    ports: [{ name: 'http', port: 80, targetPort: POD_PORT, nodePort }],
  });
}

/** Through each node: from one of its pods and from itself at the cluster IP, from outside at its node port. */
function looksOf(lab: Lab, index: number, answers: HintsCase['answers'], hasNodePorts = true): readonly Look[] {
  const { nodePort, ...vip } = addressesOf(index);
  return lab.nodes.flatMap(node =>
    FAMILIES.flatMap(family => {
      const expected = answers[node.name as keyof typeof answers];
      const target = tcp(vip[family], 80);
      return [
        { from: `pod-${node.number}-2`, at: 'cluster IP', target, expected },
        { from: node.name, at: 'cluster IP', target, expected },
        ...(hasNodePorts
          ? [{ from: 'ext', at: `${node.name}’s node port`, target: tcp(node.addresses[family], nodePort), expected }]
          : []),
      ];
    }),
  );
}

const TURNS = 6;

/** Clients of one virtual server one after the other: two that took turns would meet every second endpoint only. */
async function verifyInTurns(lab: Lab, looks: readonly Look[]): Promise<void> {
  for (const kind of ['pod-', 'node', 'ext']) {
    const ofKind = looks.filter(({ from }) => from.startsWith(kind));
    await verifyLooks(lab, ofKind, TURNS);
  }
}

function allCases(lab: Lab): readonly ApiObject[] {
  return [
    ...nodesIn(lab, ZONES),
    ...HINTS_CASES.flatMap(({ endpoints, internalTrafficPolicy }, index) => [
      web(`hints-${index}`, index, internalTrafficPolicy),
      ...slices(lab, `hints-${index}`, endpoints),
    ]),
  ];
}

describeServices('hints of EndpointSlices', { daemons: [{ node: 1 }, { node: 2 }, { node: 3 }], objects: allCases }, suite => {
  for (const [index, { title, answers, internalTrafficPolicy }] of HINTS_CASES.entries()) {
    it(title, async () => {
      const looks = looksOf(suite().lab, index, answers, internalTrafficPolicy === undefined);
      await verifyInTurns(suite().lab, looks);
    });
  }

  it('the zone label of a node changes, goes and comes back; endpoints become unready and ready: new connections follow at once', async () => {
    const { lab, cluster } = suite();
    const rows = ['pod-1-1 - a', 'pod-2-1 - a', 'pod-3-1 - b'];
    const ofA = 'pod-1-1 pod-2-1';
    const all = 'pod-1-1 pod-2-1 pod-3-1';
    const expectThrough = async (answers: HintsCase['answers']) => await verifyInTurns(lab, looksOf(lab, 40, answers));
    await cluster.put(web('moving', 40), ...slices(lab, 'moving', rows));
    await expectThrough({ node1: ofA, node2: ofA, node3: 'pod-3-1' });
    await cluster.put(...nodesIn(lab, { ...ZONES, node1: 'b' }));
    await expectThrough({ node1: 'pod-3-1', node2: ofA, node3: 'pod-3-1' });
    await cluster.put(...nodesIn(lab, { ...ZONES, node1: '', node3: 'c' }));
    await expectThrough({ node1: all, node2: ofA, node3: all });
    await cluster.put(...nodesIn(lab, ZONES));
    await expectThrough({ node1: ofA, node2: ofA, node3: 'pod-3-1' });

    await cluster.put(...slices(lab, 'moving', ['pod-1-1 - a', 'pod-2-1 - a', 'pod-3-1 - b unready']));
    await expectThrough({ node1: ofA, node2: ofA, node3: ofA });
    await cluster.put(...slices(lab, 'moving', ['pod-1-1 - a unready', 'pod-2-1 - a', 'pod-3-1 - b']));
    await expectThrough({ node1: 'pod-2-1', node2: 'pod-2-1', node3: 'pod-3-1' });
    await cluster.put(...slices(lab, 'moving', rows));
    await expectThrough({ node1: ofA, node2: ofA, node3: 'pod-3-1' });
  });
});
