/** Where the Lease of the allocators is, and who we are in it: as kube-router looks for both, and on where it would give up. */

/** kube-router's, so that a mixed cluster has one allocator. */
export const LEASE_NAME = 'kube-router-lballoc';
const NAMESPACE_FILE = '/var/run/secrets/kubernetes.io/serviceaccount/namespace';
const NAMESPACE = 'kube-system';

/** As `daemon/config/environment.ts` reads it. */
interface Environment {
  readonly podName: string | undefined;
  readonly podNamespace: string | undefined;
}

export async function leasePlace(
  { podNamespace }: Pick<Environment, 'podNamespace'>,
  readFile: (path: string) => Promise<string>,
): Promise<{ readonly namespace: string; readonly name: string }> {
  const namespace = podNamespace ?? (await readFile(NAMESPACE_FILE).catch(() => '')).trim();
  return { namespace: namespace || NAMESPACE, name: LEASE_NAME };
}

/** A pod's name is of one pod alone, and a node runs one daemon (FW_HOST_SECOND_DAEMON). */
export function leaseIdentity({ podName }: Pick<Environment, 'podName'>, nodeName: string): string {
  return podName ?? nodeName;
}
