/** Which annotations are kept: only those the daemon may read. */

/** MetalLB's (the second one is its older) ask for load-balancer addresses in other words. */
const PREFIXES = ['kube-router.io/', 'fairway.dev/', 'metallb.io/', 'metallb.universe.tf/'];

/** True for the annotations under kube-router's prefix, our own and MetalLB's. */
export function ownAnnotation(key: string): boolean {
  return PREFIXES.some(prefix => key.startsWith(prefix));
}
