/** Which Services have virtual addresses that are ours to serve and to announce. */
import type { Service } from './kinds.ts';

/** Values of `service.kubernetes.io/service-proxy-name` that are ours. */
const OUR_PROXY_NAMES: readonly string[] = ['', 'kube-router', 'fairway'];

/** Services without virtual addresses, and those another proxy serves, are none of ours. */
export function isServed(service: Service): boolean {
  return service.type !== 'ExternalName' && !service.headless && OUR_PROXY_NAMES.includes(service.proxyName);
}
