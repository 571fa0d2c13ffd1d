/** What policies must know of Services and their endpoints, as elements of sets. */
import type { EndpointSlice, Service } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf } from '../../daemon/net/address.ts';
import { anyPrefixContains } from '../../daemon/net/prefix.ts';
import { type Entry, entry } from '../../daemon/reconcile/fragment.ts';
import { protocolName } from './emit-iptables.ts';
import { ofFamily, SETS } from './names.ts';
import type { PolicyOptions } from './options.ts';

/**
 * What pods send to a Service whose address is outside the ranges of the flags is the service proxy's as well, and judged behind it. Its ports only, since the address may be the node's own. External and load-balancer addresses, which anyone who may write a Service chooses,
 * only where the operator lets them be outside the ranges.
 */
export function servicePortEntries(service: Service, families: readonly Family[], options: PolicyOptions): readonly Entry[] {
  const chosen = options.strictExternalIpValidation ? [] : [...service.externalIPs, ...service.loadBalancerIPs];
  const addresses = [...new Set([...service.clusterIPs, ...chosen])].filter(
    address => families.includes(familyOf(address)) && !anyPrefixContains(options.serviceRanges, address),
  );
  const ports = new Set(service.ports.map(({ protocol, port }) => `${protocolName(protocol)}:${port}`));
  return addresses.flatMap(address =>
    [...ports].map(port =>
      entry('ipset', { kind: 'element', set: ofFamily(SETS.servicePorts, familyOf(address)), value: `${address},${port}` }),
    ),
  );
}

/** Endpoints of this node: what comes to one of them from its own address is a pod that reached itself through its Service. */
export function selfEntries(slices: readonly EndpointSlice[], nodeName: string, families: readonly Family[]): readonly Entry[] {
  const found = new Map<string, Entry>();
  for (const { family, ports, endpoints } of slices) {
    if (!families.includes(family)) continue;
    for (const endpoint of endpoints) {
      if (endpoint.nodeName !== nodeName) continue;
      for (const { protocol, port } of ports) {
        const value = `${endpoint.address},${protocolName(protocol)}:${port},${endpoint.address}`;
        found.set(value, entry('ipset', { kind: 'element', set: ofFamily(SETS.self, family), value }));
      }
    }
  }
  return [...found.values()];
}
