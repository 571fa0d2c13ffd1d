/**
 * Direct server return: an endpoint answers the client itself, under the virtual address, and the node that balances sees one direction only. IPVS wraps
 * the client's packet as it is for the endpoint (ipvsadm(8): --ipip), whose pod has a tunnel with the virtual address on it.
 */
import { DIRECT_RETURN_ANNOTATION, directReturnOf } from '../../daemon/cluster/direct-return.ts';
import type { Service } from '../../daemon/cluster/kinds.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { Destination } from '../../daemon/reconcile/tables.ts';

export function annotationDiagnostics(service: Service, owner: ObjectRef): readonly Diagnostic[] {
  const value = directReturnOf(service);
  if (value === '' || value === 'tunnel') return [];
  const message = `Service ${owner.key}: ${DIRECT_RETURN_ANNOTATION} is '${value}'; only "tunnel" means something, so that it is left out of account.`;
  return [{ code: 'FW_SERVICE_ANNOTATION', object: owner, message }];
}

/**
 * The destinations as a Service with direct server return has them at this port. A tunnel carries the packet unchanged, so that only an endpoint that
 * listens on the Service's own port can be reached by it; and a pod of its host's network has no namespace of its own for the other end. The
 * others are reached with address translation.
 */
export function tunnelled(
  destinations: readonly Destination[],
  port: number,
  isNodeAddress: (address: IpAddress) => boolean,
): readonly Destination[] {
  return destinations.map(destination =>
    canTunnel(destination, port, isNodeAddress) ? { ...destination, forwarding: 'tunnel' } : destination,
  );
}

export function canTunnel(destination: Destination, port: number, isNodeAddress: (address: IpAddress) => boolean): boolean {
  return destination.port === port && !isNodeAddress(destination.address);
}

/** One sentence a port, whatever the number of endpoints. */
export function translatedDiagnostic(
  owner: ObjectRef,
  port: number,
  destinations: readonly Destination[],
  isNodeAddress: (address: IpAddress) => boolean,
): readonly Diagnostic[] {
  const other = destinations.find(destination => !canTunnel(destination, port, isNodeAddress));
  if (other === undefined) return [];
  const why =
    other.port === port
      ? `endpoint ${other.address} is in its node's own network, where there is no pod to put the far end into`
      : `endpoint ${other.address} listens on port ${other.port}, and a tunnel cannot change the port: give port and targetPort the same number`;
  const message = `Service ${owner.key}, port ${port}: ${DIRECT_RETURN_ANNOTATION} (direct server return) is not possible for every endpoint: ${why}. Such endpoints are balanced with network address translation.`;
  return [{ code: 'FW_SERVICE_UNSUPPORTED', object: owner, message }];
}
