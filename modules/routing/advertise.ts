/** Which addresses of a Service this node announces to the fabric. */
import type { EndpointSlice, Service, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import { keyOf } from '../../daemon/cluster/kinds.ts';
import { policiesOf, type Vip, type VipOrigin, vipsOf } from '../../daemon/cluster/virtual-addresses.ts';
import type { Family } from '../../daemon/net/address.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import { type Diagnostic, type Entry, entry, type Fragment, type ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { RoutingContext } from './context.ts';
import type { RoutingOptions } from './options.ts';

const ANNOTATIONS: Readonly<Record<VipOrigin, string>> = {
  clusterIP: 'kube-router.io/service.advertise.clusterip',
  externalIP: 'kube-router.io/service.advertise.externalip',
  loadBalancerIP: 'kube-router.io/service.advertise.loadbalancerip',
};

/**
 * Paths of a Service. An address is announced while somebody is behind it: with the policy Cluster anywhere, with Local on this node; ready
 * endpoints, or where there are none those that terminate and still serve (KEP-1669).
 */
export function planAdvertisement(
  service: Service,
  slices: readonly EndpointSlice[],
  context: RoutingContext,
  options: RoutingOptions,
): Fragment | undefined {
  if (service.type === 'ExternalName' || service.headless) return undefined;
  const owner: ObjectRef = { kind: 'Service', key: keyOf(service.meta), since: service.meta.creationTimestamp };
  const diagnostics: Diagnostic[] = [];
  const origins = originsOf(service, options, owner, diagnostics);
  const { policies, objections: toPolicies } = policiesOf(service);
  const { vips, objections } = vipsOf(service, policies, options);
  if (options.tellsOfAddresses)
    diagnostics.push(...[...toPolicies, ...objections].map(objection => ({ ...objection, object: owner })));
  const entries = vips
    .filter(
      ({ origins: from, policy, family }) =>
        from.some(origin => origins.has(origin)) && hasEndpoint(slices, family, policy, context.nodeName),
    )
    .flatMap(vip => pathTo(vip, context));
  if (entries.length === 0 && diagnostics.length === 0) return undefined;
  return { owner, entries, diagnostics };
}

function pathTo({ address, family }: Vip, { addresses }: RoutingContext): readonly Entry[] {
  const nextHop = addresses[family];
  return nextHop === undefined ? [] : [entry('bgpPath', { prefix: hostPrefix(address), nextHop, audience: 'fabric' })];
}

function originsOf(
  service: Service,
  { advertise }: RoutingOptions,
  owner: ObjectRef,
  diagnostics: Diagnostic[],
): ReadonlySet<VipOrigin> {
  const isAdvertised = (origin: VipOrigin): boolean => {
    if (origin === 'loadBalancerIP' && service.type !== 'LoadBalancer') return false;
    const text = service.annotations[ANNOTATIONS[origin]];
    if (text === undefined) return advertise[origin];
    const value = parseBool(text);
    if (value !== undefined) return value;
    const message = `Service ${owner.key}: ${ANNOTATIONS[origin]} is '${text}', which is neither "true" nor "false"; the address is not announced.`;
    diagnostics.push({ code: 'FW_SERVICE_ANNOTATION', object: owner, message });
    return false;
  };
  return new Set((['clusterIP', 'externalIP', 'loadBalancerIP'] as const).filter(isAdvertised));
}

/** As Go's strconv.ParseBool. */
function parseBool(text: string): boolean | undefined {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  return ['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text) ? false : undefined;
}

function hasEndpoint(slices: readonly EndpointSlice[], family: Family, policy: TrafficPolicy, nodeName: string): boolean {
  return slices.some(
    slice =>
      slice.family === family &&
      slice.endpoints.some(
        ({ ready, serving, terminating, nodeName: on }) =>
          (ready || (serving && terminating)) && (policy === 'Cluster' || (nodeName !== '' && on === nodeName)),
      ),
  );
}
