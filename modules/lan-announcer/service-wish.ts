/** What a Service wants answered on the local network: of its load-balancer addresses those that are allowed, and where its endpoints are. */
import { DIRECT_RETURN_ANNOTATION, returnsDirectly } from '../../daemon/cluster/direct-return.ts';
import { type AddressPool, type EndpointSlice, keyOf, type Service } from '../../daemon/cluster/kinds.ts';
import { isOurClass } from '../../daemon/cluster/load-balancer-class.ts';
import { isWrittenByUs } from '../../daemon/cluster/our-writing.ts';
import { isServed } from '../../daemon/cluster/served.ts';
import { policiesOf, vipsOf } from '../../daemon/cluster/virtual-addresses.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { Candidacy } from './election.ts';
import type { LanAnnouncerOptions } from './options.ts';

const ANNOTATION = 'fairway.dev/announce-l2';

export interface ServiceWish {
  readonly owner: ObjectRef;
  /** Of each address that it has. */
  readonly candidacies: readonly (readonly [IpAddress, Candidacy])[];
  /** What is wrong with the Service itself, whoever answers. */
  readonly diagnostics: readonly Diagnostic[];
}

/** What is the same for all Services. */
export interface WishRules {
  /** With the named pools as they are now. */
  readonly options: LanAnnouncerOptions;
  readonly pools: readonly AddressPool[];
  readonly arePoolsKnown: boolean;
}

/** Undefined for a Service that wants nothing and of which there is nothing to tell. */
export function wishOf(service: Service, slices: readonly EndpointSlice[], rules: WishRules): ServiceWish | undefined {
  const { options } = rules;
  if (!isAnnounced(service, rules)) return undefined;
  const owner: ObjectRef = { kind: 'Service', key: keyOf(service.meta), since: service.meta.creationTimestamp };
  const diagnostics: Diagnostic[] = [];
  if (!asksForIt(service, owner, diagnostics)) return undefined;
  const { policies, objections: toPolicies } = policiesOf(service);
  const { vips, objections } = vipsOf(service, policies, options);
  if (options.tellsOfAddresses)
    diagnostics.push(...[...toPolicies, ...objections].map(objection => ({ ...objection, object: owner })));
  const candidacies = vips
    .filter(({ origins, family }) => origins.includes('loadBalancerIP') && options.families.includes(family))
    .map(({ address, family }): readonly [IpAddress, Candidacy] => [
      address,
      {
        service: owner.key,
        endpointNodes: policies.external === 'Local' ? endpointNodesOf(slices, family) : undefined,
        objection: objectionTo(service),
      },
    ]);
  return candidacies.length === 0 && diagnostics.length === 0 ? undefined : { owner, candidacies, diagnostics };
}

function isAnnounced(service: Service, { options, pools, arePoolsKnown }: WishRules): boolean {
  const { type, loadBalancer } = service;
  if (type !== 'LoadBalancer' || loadBalancer === undefined || !isServed(service)) return false;
  const { servesDefaultClass } = options;
  if (isOurClass(loadBalancer.loadBalancerClass, { servesDefaultClass, pools })) return true;
  // A pool that cannot be read may be for this class.
  return !arePoolsKnown && isWrittenByUs(loadBalancer);
}

function asksForIt(service: Service, owner: ObjectRef, diagnostics: Diagnostic[]): boolean {
  const text = service.annotations[ANNOTATION]?.trim() ?? 'true';
  if (text !== 'true' && text !== 'false') {
    const message = `Service ${owner.key}: ${ANNOTATION} is '${text}', which is neither "true" nor "false"; its addresses are announced as without it.`;
    diagnostics.push({ code: 'FW_SERVICE_ANNOTATION', object: owner, message });
  }
  return text !== 'false';
}

/**
 * With direct server return an endpoint on this very node answers under the address, and the kernel drops what it is to forward in the name of an IPv4 address
 * of its own (ip_route_input_slow: martian source). IPv6 knows no such check, but what else takes such packets for the node's own was not shown to be harmless.
 */
function objectionTo(service: Service): string | undefined {
  if (!returnsDirectly(service)) return undefined;
  return `Service ${keyOf(service.meta)} asks for direct server return (${DIRECT_RETURN_ANNOTATION}), for which the address may be on no link of the node that balances; announce it by BGP (--advertise-loadbalancer-ip), or remove that annotation`;
}

/** Sorted. Ready endpoints; where there is none anywhere, those that terminate and still serve (KEP-1669). */
function endpointNodesOf(slices: readonly EndpointSlice[], family: Family): readonly string[] {
  const endpoints = slices.flatMap(slice => (slice.family === family ? slice.endpoints : []));
  const ready = endpoints.filter(endpoint => endpoint.ready);
  const good = ready.length > 0 ? ready : endpoints.filter(({ serving, terminating }) => serving && terminating);
  return [...new Set(good.map(({ nodeName }) => nodeName).filter(name => name !== ''))].sort();
}
