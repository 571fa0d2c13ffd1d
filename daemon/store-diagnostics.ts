/** What is wrong with the cluster's objects before any module looks at them. */
import type { Complaint, ObjectKey } from './cluster/kinds.ts';
import type { HostFacts } from './cluster/snapshot.ts';
import type { Store } from './cluster/store.ts';
import type { Diagnostic } from './reconcile/fragment.ts';

export interface StoreFacts {
  readonly store: Store;
  readonly nodeName: string;
  readonly host: HostFacts;
  /** `--loadbalancer-pools`: the key of the one ConfigMap that is read, or the path of a file. */
  readonly poolsKey: ObjectKey;
}

export function storeDiagnostics(facts: StoreFacts): readonly Diagnostic[] {
  return [...facts.store.complaints().map(diagnosticOf), ...unknownNode(facts), ...absentPools(facts)];
}

function diagnosticOf({ kind, key, message }: Complaint): Diagnostic {
  const object = { kind, key, since: 0 };
  if (kind !== 'ConfigMap') return { code: 'FW_OBJECT_FIELD', object, message: `${kind} ${key}: ${message}` };
  return { code: 'FW_LB_POOL', object, message: `${key.startsWith('/') ? 'Pools file' : kind} ${key}: ${message}` };
}

/** Without any Node object this is bare metal; where there are others, a name is wrong: a host that was renamed, a flag with a slip of the pen. */
function unknownNode({ store, nodeName, host }: StoreFacts): readonly Diagnostic[] {
  const others = store.size('Node');
  if (others === 0 || store.nodeView(host).fromCluster) return [];
  const effect = "its pod CIDR and annotations are not known, and no endpoint counts as this node's";
  const remedy = 'correct --hostname-override or NODE_NAME (kubectl get nodes shows the names)';
  const message = `No Node object is named ${nodeName}, though there are ${others} others: ${effect}; ${remedy}.`;
  return [{ code: 'FW_NODE_UNKNOWN', object: { kind: 'Node', key: nodeName, since: 0 }, message }];
}

/** A file that is not there is a trouble of its source. */
function absentPools({ store, poolsKey }: StoreFacts): readonly Diagnostic[] {
  if (!store.isListed('ConfigMap') || store.size('ConfigMap') > 0) return [];
  const effect = 'nothing is handed out of named pools, and of their addresses only those are served that were handed out before';
  const remedy = 'create it with the pools under the key pools.yaml ("pools: []" for none), or correct the flag';
  const message = `There is no ConfigMap ${poolsKey}, which --loadbalancer-pools names: ${effect}; ${remedy}.`;
  return [{ code: 'FW_LB_POOL', object: { kind: 'ConfigMap', key: poolsKey, since: 0 }, message }];
}
