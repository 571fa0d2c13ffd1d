import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import {
  type Opening,
  type PartnerName,
  type PodName,
  SITUATIONS,
  type Situation,
  type TransportName,
} from './cases/policy-situations.ts';
import { describePolicy, PORTS, type PolicySuite } from './describe-policy.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, FAMILIES, type Family, NAMESPACE, namespaceObject, networkPolicyObject, podObject } from './objects.ts';

/** Where each of the cast is; see `cases/policy-situations.ts`. */
const PLACES: Readonly<Record<PodName, readonly [node: number, pod: number]>> = {
  server: [1, 1],
  near: [1, 2],
  guest: [1, 3],
  far: [2, 1],
  plain: [2, 2],
  stranger: [2, 3],
};
const PODS = Object.keys(PLACES) as readonly PodName[];
const PARTNERS: readonly PartnerName[] = [...PODS, 'node1', 'node2', 'ext'];

function cast(lab: Lab): readonly ApiObject[] {
  const place = (name: PodName) => lab.pod(...PLACES[name]);
  const web = (port: number) => ({ name: 'web', port });
  return [
    namespaceObject(NAMESPACE, { team: 'a' }),
    namespaceObject('other', { team: 'b' }),
    podObject(place('server'), {
      labels: { app: 'server' },
      namedPorts: [web(8080), { name: 'web-udp', port: 8080, protocol: 'UDP' }],
    }),
    podObject(place('near'), { labels: { role: 'client', app: 'near' } }),
    podObject(place('guest'), { namespace: 'other', labels: { role: 'client' } }),
    podObject(place('far'), { labels: { role: 'client' }, namedPorts: [web(8081)] }),
    podObject(place('plain'), { labels: { tier: 'none' } }),
    podObject(place('stranger'), { namespace: 'other', labels: { app: 'server' }, namedPorts: [web(9090)] }),
  ];
}

interface Flow {
  readonly from: PartnerName;
  readonly to: PartnerName;
  readonly transport: TransportName;
  readonly family: Family;
  readonly port: number;
}

/** From everyone to every pod, and from every pod to the other hosts; not to itself or between hosts. */
function flowsOf(transports: readonly TransportName[]): readonly Flow[] {
  const pairs = PARTNERS.flatMap(from =>
    PARTNERS.filter(to => to !== from && (isPod(from) || isPod(to))).map(to => ({ from, to })),
  );
  return pairs.flatMap(pair =>
    transports.flatMap(transport => FAMILIES.flatMap(family => PORTS.map(port => ({ ...pair, transport, family, port })))),
  );
}

function isPod(name: PartnerName): name is PodName {
  return (PODS as readonly PartnerName[]).includes(name);
}

function expected({ into = {}, outOf = {} }: Situation, flow: Flow): 'answer' | 'refused' {
  const { from, to } = flow;
  const leaves = !isPod(from) || outOf[from] === undefined || outOf[from].some(opening => opens(opening, to, flow));
  const isOwnNode = isPod(to) && from === `node${PLACES[to][0]}`;
  const enters = isOwnNode || !isPod(to) || into[to] === undefined || into[to].some(opening => opens(opening, from, flow));
  return leaves && enters ? 'answer' : 'refused';
}

function opens(opening: Opening, partner: PartnerName, { port, transport, family }: Flow): boolean {
  return (
    (opening.with === 'anyone' || opening.with.includes(partner)) &&
    (opening.ports?.includes(port) ?? true) &&
    (opening.transports?.includes(transport) ?? true) &&
    (opening.families?.includes(family) ?? true)
  );
}

function policiesOf({ policies }: Situation): readonly ApiObject[] {
  return policies.map(({ namespace = NAMESPACE, spec }, index) => networkPolicyObject(`policy-${index}`, spec, { namespace }));
}

function hostOf(suite: PolicySuite, name: PartnerName): LabHost {
  const { lab } = suite;
  if (isPod(name)) return lab.pod(...PLACES[name]);
  return name === 'ext' ? lab.ext : lab.node(name === 'node1' ? 1 : 2);
}

/** No policy at all. */
const OPEN: Situation = { title: 'open', says: '', policies: [] };

/** SCTP does not heed "port unreachable", which is all that ip6tables can answer it with. */
function isRefused(outcome: string, { transport, family }: Flow): boolean {
  return outcome === 'refused' || (transport === 'sctp' && family === 'ipv6' && outcome === 'timeout');
}

describePolicy('network policy, situation by situation', { podsPerNode: 3, objects: cast }, suite => {
  let flows: readonly Flow[] = [];
  before(() => {
    flows = flowsOf(suite().transports);
  });

  /** A datagram from a port that an earlier flow had would belong to that flow, which was allowed. */
  async function forgetFlows(): Promise<void> {
    await Promise.all(suite().lab.nodes.map(node => suite().lab.expectRun(node, ['conntrack', '-F'])));
  }

  /** Flows that do not end as expected, one line each. */
  async function surprises(situation: Situation, among: readonly Flow[] = flows): Promise<readonly string[]> {
    await forgetFlows();
    const lines = await Promise.all(
      among.map(async flow => {
        const target = hostOf(suite(), flow.to);
        const { outcome } = await suite()
          .lab.probe(hostOf(suite(), flow.from))
          .connect({ transport: flow.transport, address: target.addresses[flow.family], port: flow.port, timeoutMs: 3000 });
        const wanted = expected(situation, flow);
        const isRight = wanted === 'answer' ? outcome === 'answer' : isRefused(outcome, flow);
        return isRight
          ? []
          : [`${flow.from} -> ${flow.to} ${flow.transport} ${flow.family} ${flow.port}: ${outcome}, not ${wanted}`];
      }),
    );
    return lines.flat();
  }

  for (const situation of SITUATIONS) {
    it(`${situation.title}: ${situation.says}`, async function () {
      this.timeout(60_000);
      const policies = policiesOf(situation);
      await suite().cluster.change({ put: policies });
      assert.deepEqual(await surprises(situation), []);
      await suite().cluster.change({ remove: policies });
      const denied = flows.filter(flow => expected(situation, flow) === 'refused');
      assert.deepEqual(await surprises(OPEN, denied), [], 'open again without the policies');
    });
  }

  it('is open again when all policies are gone', async () => {
    assert.deepEqual(await surprises(OPEN), []);
  });
});
