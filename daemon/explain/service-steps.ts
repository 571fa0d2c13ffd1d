/** Services on a packet's way: which one is meant, what its endpoints are like, and why it does not answer. */
import { type Endpoint, type EndpointSlice, keyOf, type Service, type ServicePort } from '../cluster/kinds.ts';
import { policiesOf } from '../cluster/virtual-addresses.ts';
import { familyOf, type IpAddress, withPort } from '../net/address.ts';
import { kernelText } from '../reconcile/kernel-text.ts';
import { listenerKey, type VirtualServer } from '../reconcile/tables.ts';
import type { Step, Verdict } from './explanation.ts';
import { type Question, transportText } from './question.ts';
import { type Scene, shortened } from './scene.ts';

/** A Service with the port of it that the packet is addressed to; no port where it has none such. */
export interface MeantService {
  readonly service: Service;
  readonly port: ServicePort | undefined;
  /** Through which field the address is the Service's. */
  readonly through: 'clusterIP' | 'externalIP' | 'loadBalancerIP' | 'nodePort';
}

/** Services that claim what the packet is addressed to, the one that was asked for first, then the oldest. */
export function meantServices({ destination, transport }: Question, { objects, snapshot }: Scene): readonly MeantService[] {
  const { address } = destination;
  const isOwn = snapshot.node.addresses.includes(address) || objects.nodeAt(address) !== undefined;
  const matches = (port: ServicePort): boolean => transport.protocol === port.protocol && transport.port === port.port;
  const byAddress = objects
    .servicesAt(address)
    .map((service): MeantService => ({ service, port: service.ports.find(matches), through: fieldOf(service, address) }));
  const byNodePort =
    !isOwn || transport.protocol === 'ICMP'
      ? []
      : objects.servicesOfNodePort(transport.port).flatMap((service): readonly MeantService[] => {
          const port = service.ports.find(each => each.nodePort === transport.port && each.protocol === transport.protocol);
          return port === undefined ? [] : [{ service, port, through: 'nodePort' }];
        });
  // A node's own address may be a Service's too: without the port it is not meant.
  const claims = [...byAddress.filter(({ port }) => port !== undefined || !isOwn), ...byNodePort];
  const isAsked = ({ service }: MeantService): boolean =>
    destination.who === 'service' && keyOf(service.meta) === destination.name;
  return claims.sort(
    (a, b) => Number(isAsked(b)) - Number(isAsked(a)) || a.service.meta.creationTimestamp - b.service.meta.creationTimestamp,
  );
}

function fieldOf({ clusterIPs, externalIPs }: Service, address: IpAddress): MeantService['through'] {
  if (clusterIPs.includes(address)) return 'clusterIP';
  return externalIPs.includes(address) ? 'externalIP' : 'loadBalancerIP';
}

/** Of the Services with this port at this address, the older has it. */
export function winnerOf(services: readonly MeantService[]): MeantService | undefined {
  return services.filter(({ port }) => port !== undefined).sort((a, b) => byAge(a, b))[0];
}

function byAge({ service: a }: MeantService, { service: b }: MeantService): number {
  return a.meta.creationTimestamp - b.meta.creationTimestamp || (keyOf(a.meta) < keyOf(b.meta) ? -1 : 1);
}

/** One endpoint of a Service's port, by the better of its copies. */
export interface KnownEndpoint {
  readonly endpoint: Endpoint;
  readonly port: number;
}

export function endpointsOf({ service, port }: MeantService, address: IpAddress, { snapshot }: Scene): readonly KnownEndpoint[] {
  const family = familyOf(address);
  const slices: readonly EndpointSlice[] = snapshot.endpointSlicesOf.get(keyOf(service.meta)) ?? [];
  const found = new Map<string, KnownEndpoint>();
  for (const slice of slices) {
    if (slice.family !== family) continue;
    for (const target of slice.ports) {
      if (target.name !== port?.name || target.protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) {
        const key = withPort(endpoint.address, target.port);
        if (found.get(key)?.endpoint.ready !== true) found.set(key, { endpoint, port: target.port });
      }
    }
  }
  return [...found.values()];
}

/** `ready`, `not ready, terminating, serving`. */
export function conditionText({ ready, serving, terminating }: Endpoint): string {
  return [ready ? 'ready' : 'not ready', ...(terminating ? ['terminating'] : []), ...(!ready && serving ? ['serving'] : [])].join(
    ', ',
  );
}

export function noEndpointVerdict(meant: MeantService | undefined, address: IpAddress, scene: Scene): Verdict {
  if (meant === undefined) return { outcome: 'refused', reason: `the virtual service at ${address} has no destination` };
  const all = endpointsOf(meant, address, scene);
  const name = keyOf(meant.service.meta);
  const there =
    all.length === 0
      ? 'it has none at all'
      : `it has ${all
          .map(({ endpoint, port }) => `${withPort(endpoint.address, port)} ${conditionText(endpoint)}`)
          .slice(0, 4)
          .join('; ')}`;
  return { outcome: 'refused', reason: `Service ${name} has no ready endpoint${portName(meant)}: ${there}` };
}

function portName({ port }: MeantService): string {
  return port === undefined ? '' : ` for ${port.protocol.toLowerCase()}/${port.port}`;
}

/** The listener answers nothing since none of its endpoints is here. */
export function droppedByPolicyVerdict(meant: MeantService | undefined, { snapshot }: Scene): Verdict {
  const who = meant === undefined ? 'its Service' : `Service ${keyOf(meant.service.meta)}`;
  return {
    outcome: 'dropped',
    reason: `the ${meant?.through === 'clusterIP' ? 'internal' : 'external'} traffic policy of ${who} is Local, and it has no ready endpoint on ${snapshot.node.name}`,
  };
}

export function outsideRangesVerdict(meant: MeantService | undefined, client: IpAddress): Verdict {
  const ranges = meant?.service.loadBalancerSourceRanges.join(', ') ?? '';
  const name = meant === undefined ? '' : ` of Service ${keyOf(meant.service.meta)}`;
  return { outcome: 'dropped', reason: `client outside loadBalancerSourceRanges${name}: ${client} is in none of ${ranges}` };
}

export function noSuchPortVerdict(services: readonly MeantService[], question: Question): Verdict {
  const { destination, transport } = question;
  const of = services.map(({ service }) => {
    const ports = service.ports.map(port => `${port.protocol.toLowerCase()}/${port.port}`);
    return `Service ${keyOf(service.meta)} has ${ports.length === 0 ? 'no port' : ports.join(', ')}`;
  });
  const reason = `no Service has ${transportText(transport)} at ${destination.address}${of.length === 0 ? '' : `: ${of.join('; ')}`}`;
  return { outcome: 'refused', reason };
}

/** Of a Service that is meant and that no virtual service is wanted for; undefined where none is meant. */
export function unservedVerdict(
  services: readonly MeantService[],
  { destination, transport }: Question,
  scene: Scene,
): Verdict | undefined {
  const meant = services.find(({ port }) => port !== undefined);
  if (meant === undefined) return undefined;
  const name = keyOf(meant.service.meta);
  const at = `${transportText(transport)} at ${destination.address}`;
  const complaint = scene.diagnostics.find(({ object, message }) => object.key === name && message.includes(destination.address));
  const why = !scene.moduleNames.includes('services')
    ? 'the module services does not run here; whatever balances Services on this node decides'
    : meant.service.headless
      ? 'it is headless'
      : meant.service.proxyName !== ''
        ? `it is served by another proxy (label service.kubernetes.io/service-proxy-name: ${meant.service.proxyName})`
        : (complaint?.message ?? 'IPVS has no virtual service for it');
  return { outcome: 'unserved', reason: `Service ${name}, ${at}: ${why}` };
}

export function virtualServerStep(server: VirtualServer, meant: MeantService | undefined, isByMark: boolean, scene: Scene): Step {
  const key = listenerKey(server.listener);
  const { scheduler, persistenceSeconds } = server;
  const affinity = persistenceSeconds === 0 ? '' : `, session affinity for ${persistenceSeconds} s`;
  return {
    what: `IPVS has ${key}: scheduler ${scheduler}${affinity}`,
    kernel: shortened(kernelText('virtualServer', key, server)),
    objects: scene.ownersOf('virtualServer', key),
    ...(meant === undefined ? {} : { note: policyText(meant, isByMark) }),
    state: 'ok',
  };
}

function policyText({ service, through }: MeantService, isByMark: boolean): string {
  const { policies } = policiesOf(service);
  const policy = through === 'clusterIP' ? policies.internal : policies.external;
  const scope = through === 'clusterIP' ? 'internal' : 'external';
  const inside = isByMark && policy === 'Local' ? '; clients on this node meet all endpoints all the same' : '';
  const hints = service.trafficDistribution === '' ? '' : `; trafficDistribution ${service.trafficDistribution}`;
  return `${through}, ${scope} traffic policy ${policy}${inside}${hints}`;
}
