/** `spec.healthCheckNodePort`: where a load balancer asks whether this node has endpoints of the Service. */
import type { EndpointSlice, Service } from '../../daemon/cluster/kinds.ts';
import type { TrafficPolicies } from '../../daemon/cluster/virtual-addresses.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';

/**
 * Ready endpoints count, each once whatever its ports and slices, of the family that has more of them (a pod of two families has one of each);
 * those that terminate do not, so that the load balancer turns away while they still serve (kube-proxy: `LocalReadyEndpoints`).
 */
export function healthPortEntries(
  service: Service,
  policies: TrafficPolicies,
  slices: readonly EndpointSlice[],
  nodeName: string,
): readonly Entry[] {
  const { healthCheckNodePort: port, meta } = service;
  if (port === undefined || service.type !== 'LoadBalancer' || policies.external !== 'Local') return [];
  const ready = { ipv4: new Set<IpAddress>(), ipv6: new Set<IpAddress>() };
  for (const { family, endpoints } of slices) {
    for (const endpoint of endpoints) {
      if (endpoint.ready && nodeName !== '' && endpoint.nodeName === nodeName) ready[family].add(endpoint.address);
    }
  }
  const localEndpoints = Math.max(ready.ipv4.size, ready.ipv6.size);
  return [entry('healthPort', { port, namespace: meta.namespace, name: meta.name, localEndpoints })];
}
