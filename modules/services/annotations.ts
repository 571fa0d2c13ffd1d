/** Annotations of a Service that change who serves it, and features that are accepted but not built yet. */
import type { Service } from '../../daemon/cluster/kinds.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { TrafficPolicies } from './vips.ts';

const LOCAL = 'kube-router.io/service.local';
const DSR = 'kube-router.io/service.dsr';

/** The Service's traffic policies; `kube-router.io/service.local: "true"` makes both Local, as its documentation says. */
export function policiesOf(service: Service, owner: ObjectRef, diagnostics: Diagnostic[]): TrafficPolicies {
  const local = service.annotations[LOCAL]?.trim() ?? '';
  if (local === 'true') return { internal: 'Local', external: 'Local' };
  if (local !== '' && local !== 'false') {
    diagnostics.push({
      code: 'FW_SERVICE_ANNOTATION',
      object: owner,
      message: `Service ${owner.key}: ${LOCAL} is '${local}', which is neither "true" nor "false"; the Service's own traffic policies stand.`,
    });
  }
  return { internal: service.internalTrafficPolicy, external: service.externalTrafficPolicy };
}

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
