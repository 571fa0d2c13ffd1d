/** What a module wants, in pieces a reconciler can compare by identity: one fragment per owning object. */
import type { Instant } from '../net/instant.ts';
import { TABLES, type TableName, type TableTypes } from './tables.ts';

/** The object of the user's (or the daemon itself) that an entry or a diagnostic is about. */
export interface ObjectRef {
  /** `Service`, `Node` ...; `Module` for what a module wants on its own account. */
  readonly kind: string;
  /** `namespace/name`, or `name`. */
  readonly key: string;
  /** Milliseconds since the epoch: of two owners who want one key differently, the older wins. */
  readonly since: number;
}

/** One wanted entry with its key, computed once. */
export type Entry = {
  readonly [K in TableName]: { readonly table: K; readonly key: string; readonly value: TableTypes[K] };
}[TableName];

export function entry<K extends TableName>(table: K, value: TableTypes[K]): Entry {
  // The mapped union cannot be built generically; table and value belong together by the signature.
  return { table, key: TABLES[table].key(value), value } as unknown as Entry;
}

/** A value about a user's object: logged once per change, shown by `status`, counted. */
export interface Diagnostic {
  /** `FW_` and upper case, stable: what an alert matches on. */
  readonly code: DiagnosticCode;
  readonly object: ObjectRef;
  /** Names the object, what is wrong and the remedy. */
  readonly message: string;
}

export const DIAGNOSTIC_CODES = {
  FW_OBJECT_FIELD: 'A field of an object cannot be used; the rest of the object is.',
  FW_CLAIM_LOST: 'Two objects want one entry differently; the older one has it.',
  FW_SERVICE_ADDRESS_RANGE: 'An external or load-balancer address is outside the ranges the operator allowed.',
  FW_SERVICE_SCHEDULER: 'A scheduler or scheduler flag does not exist; rr is used.',
  FW_SERVICE_ANNOTATION: 'An annotation has a value we cannot use.',
  FW_SERVICE_UNSUPPORTED: 'A feature of the Service is not built yet.',
  FW_POLICY_UNUSABLE: 'A direction of a NetworkPolicy cannot be used; the pods it selects are closed in it.',
  FW_NODE_UNKNOWN: 'There are Node objects, and none has our name.',
  FW_NODE_ADDRESS: 'The node has no usable address of a family.',
  FW_NODE_ROUTING: 'An annotation or a pod CIDR of a Node cannot be used for routing; the rest of the Node is.',
  FW_LB_EXHAUSTED: 'No address is free in the pools that may serve a Service.',
  FW_LB_TAKEN: 'The address that a Service asks for is in use.',
  FW_LB_OUTSIDE: 'The address that a Service asks for, or has, is in no pool that may serve it.',
  FW_LB_FAMILY: 'No pool that may serve a Service has addresses of a family that it needs.',
  FW_LB_REQUEST: 'What a Service asks of the allocation of its address cannot be read.',
  FW_LB_CONFLICT:
    'Two Services have one address without sharing it, and the later one gets another; or a Node has the address of a Service as well.',
  FW_LB_STATUS: 'The status of a Service says something else than what was allocated, and that stays so for now.',
  FW_LB_POOL: 'A pool of load-balancer addresses cannot be used as it is written; the others are.',
  FW_LAN_UNANNOUNCED: 'A load-balancer address cannot be announced on the local network.',
  FW_HOST_CAPABILITY: 'The host lacks a facility; what needs it is left out.',
} as const;
export type DiagnosticCode = keyof typeof DIAGNOSTIC_CODES;

/** All that one owner wants of a module. Same inputs, same fragment (`===`). */
export interface Fragment {
  readonly owner: ObjectRef;
  readonly entries: readonly Entry[];
  readonly diagnostics: readonly Diagnostic[];
  /** When the plan must be looked at again although no event comes; undefined for never. */
  readonly wakeAt?: Instant;
}

/** `Service default/web`: unique among the owners of one module. */
export type OwnerKey = string;

export function ownerKey(owner: ObjectRef): OwnerKey {
  return `${owner.kind} ${owner.key}`;
}
