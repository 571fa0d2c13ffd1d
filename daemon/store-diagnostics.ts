/** What is wrong with the cluster's objects before any module looks at them. */
import type { HostFacts } from './cluster/snapshot.ts';
import type { Store } from './cluster/store.ts';
import type { Diagnostic } from './reconcile/fragment.ts';

export function storeDiagnostics(store: Store, nodeName: string, host: HostFacts): readonly Diagnostic[] {
  const complaints = store.complaints().map(
    ({ kind, key, message }): Diagnostic => ({
      code: 'FW_OBJECT_FIELD',
      object: { kind, key, since: 0 },
      message: `${kind} ${key}: ${message}`,
    }),
  );
  return [...complaints, ...unknownNode(store, nodeName, host)];
}

/** Without any Node object this is bare metal; where there are others, a name is wrong: a host that was renamed, a flag with a slip of the pen. */
function unknownNode(store: Store, nodeName: string, host: HostFacts): readonly Diagnostic[] {
  const others = store.size('Node');
  if (others === 0 || store.nodeView(host).fromCluster) return [];
  const effect = "its pod CIDR and annotations are not known, and no endpoint counts as this node's";
  const remedy = 'correct --hostname-override or NODE_NAME (kubectl get nodes shows the names)';
  const message = `No Node object is named ${nodeName}, though there are ${others} others: ${effect}; ${remedy}.`;
  return [{ code: 'FW_NODE_UNKNOWN', object: { kind: 'Node', key: nodeName, since: 0 }, message }];
}
