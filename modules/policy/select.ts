/** Which namespaces a selection of peers reaches into. */
import type { Namespace } from '../../daemon/cluster/kinds.ts';
import { matchesNamespace } from '../../daemon/cluster/selectors.ts';
import type { Members } from './program.ts';

/** Whether pods of this namespace can be members at all. */
export function includesNamespace(members: Members, name: string, namespace: Namespace | undefined): boolean {
  return members.in === 'namespace' ? members.namespace === name : matchesNamespace(members.namespaceSelector, name, namespace);
}
