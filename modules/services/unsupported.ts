/** Features of a Service that are accepted but not built yet. */
import type { Service } from '../../daemon/cluster/kinds.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';

const DSR = 'kube-router.io/service.dsr';

/** What the Service asks for and does not get, with what happens instead. */
export function unsupportedFeatures(service: Service, owner: ObjectRef): readonly Diagnostic[] {
  const found: Diagnostic[] = [];
  const dsr = service.annotations[DSR]?.trim() ?? '';
  if (dsr === 'tunnel') {
    found.push({
      code: 'FW_SERVICE_UNSUPPORTED',
      object: owner,
      message: `Service ${owner.key}: ${DSR} (direct server return) is not built yet; its addresses are balanced with network address translation, and replies go back through this node.`,
    });
  } else if (dsr !== '') {
    found.push({
      code: 'FW_SERVICE_ANNOTATION',
      object: owner,
      message: `Service ${owner.key}: ${DSR} is '${dsr}'; only "tunnel" means something, so that it is left out of account.`,
    });
  }
  if (service.loadBalancerSourceRanges.length > 0 && service.loadBalancerIPs.length > 0) {
    found.push({
      code: 'FW_SERVICE_UNSUPPORTED',
      object: owner,
      message: `Service ${owner.key}: spec.loadBalancerSourceRanges is not enforced yet; its load-balancer addresses answer every client. Filter in front of the node.`,
    });
  }
  return found;
}
