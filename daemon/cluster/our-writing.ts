/** Which statuses of Services are our own work. */

/** Field managers (`metadata.managedFields`) that are us: our own name, and kube-router's, whose work we go on with (it gives none, so
 * that the server takes its program's). */
const OUR_NAMES: readonly string[] = ['fairway', 'kube-router'];

/** By the field manager of `status.loadBalancer.ingress`; false where there is none. */
export function isWrittenByUs(loadBalancer: { readonly writtenBy: string } | undefined): boolean {
  return loadBalancer !== undefined && OUR_NAMES.includes(loadBalancer.writtenBy);
}
