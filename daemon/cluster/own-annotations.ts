/** Which annotations are kept: only those the daemon may read. */

const PREFIXES = ['kube-router.io/', 'fairway.dev/'];

/** True for the annotations under kube-router's prefix and our own. */
export function ownAnnotation(key: string): boolean {
  return PREFIXES.some(prefix => key.startsWith(prefix));
}
