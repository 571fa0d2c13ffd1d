/** The cast of `cases/policy-situations.ts` on a lab, the flows between them, and how each is to end. */
import type { LabHost } from './addresses.ts';
import type { Opening, PartnerName, PodName, Situation, TransportName } from './cases/policy-situations.ts';
import { PORTS } from './describe-policy.ts';
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
export const PODS = Object.keys(PLACES) as readonly PodName[];
const PARTNERS: readonly PartnerName[] = [...PODS, 'node1', 'node2', 'ext'];

export function cast(lab: Lab): readonly ApiObject[] {
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

export interface Flow {
  readonly from: PartnerName;
  readonly to: PartnerName;
  readonly transport: TransportName;
  readonly family: Family;
  readonly port: number;
}

/** From everyone to every pod, and from every pod to the other hosts; not to itself or between hosts. */
export function flowsOf(transports: readonly TransportName[]): readonly Flow[] {
  const pairs = PARTNERS.flatMap(from =>
    PARTNERS.filter(to => to !== from && (isPod(from) || isPod(to))).map(to => ({ from, to })),
  );
  return pairs.flatMap(pair =>
    transports.flatMap(transport => FAMILIES.flatMap(family => PORTS.map(port => ({ ...pair, transport, family, port })))),
  );
}

export function isPod(name: PartnerName): name is PodName {
  return (PODS as readonly PartnerName[]).includes(name);
}

export function expected({ into = {}, outOf = {} }: Situation, flow: Flow): 'answer' | 'refused' {
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

/** The policies of a situation, named after `name`. */
export function policiesOf({ policies }: Situation, name = 'policy'): readonly ApiObject[] {
  return policies.map(({ namespace = NAMESPACE, spec }, index) => networkPolicyObject(`${name}-${index}`, spec, { namespace }));
}

export function hostOf(lab: Lab, name: PartnerName): LabHost {
  if (isPod(name)) return lab.pod(...PLACES[name]);
  return name === 'ext' ? lab.ext : lab.node(name === 'node1' ? 1 : 2);
}

/** SCTP does not heed "port unreachable", which is all that ip6tables can answer it with. */
export function isAsExpected(outcome: string, wanted: 'answer' | 'refused', { transport, family }: Flow): boolean {
  return outcome === wanted || (wanted === 'refused' && transport === 'sctp' && family === 'ipv6' && outcome === 'timeout');
}

export function flowText({ from, to, transport, family, port }: Flow): string {
  return `${from} -> ${to} ${transport} ${family} ${port}`;
}
