/** Why listing or watching stopped, and what the reflector does about it. */
import { type ErrorCode, FairwayError, messageOf } from '../errors.ts';
import type { ApiStatus } from './api-status.ts';
import type { Resource } from './resources.ts';

/**
 * - `gone`: our resourceVersion is too old (410): list again.
 * - `throttled`: the server named a time to come back (429, 503).
 * - `forbidden`: RBAC (403): somebody has to change a ClusterRole, so try again slowly.
 * - `unsupported`: the server does not know WatchList: page through the list instead.
 * - `refused`: any other answer that is not 200.
 * - `broken`: the connection, or what came over it.
 */
export type TroubleKind = 'gone' | 'throttled' | 'forbidden' | 'unsupported' | 'refused' | 'broken';

export class Trouble extends Error {
  override readonly name = 'Trouble';
  readonly kind: TroubleKind;
  readonly code: ErrorCode;
  /** 0 where the server named no time. */
  readonly retryAfterMs: number;

  constructor(kind: TroubleKind, code: ErrorCode, message: string, retryAfterMs = 0) {
    super(message);
    this.kind = kind;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What the server sends is not its API: the connection is made anew. */
export function protocolTrouble(message: string): Trouble {
  return new Trouble('broken', 'FW_API_PROTOCOL', message);
}

/** Lists have to be paged here. */
export function watchListUnsupported(message: string): Trouble {
  return new Trouble('unsupported', 'FW_API_PROTOCOL', `WatchList: ${message}`);
}

/** Anything thrown while listing or watching. */
export function troubleOf(thrown: unknown): Trouble {
  if (thrown instanceof Trouble) return thrown;
  if (thrown instanceof FairwayError) return new Trouble('broken', thrown.code, thrown.message);
  return new Trouble('broken', 'FW_API_UNREACHABLE', messageOf(thrown));
}

/** Longest Retry-After that is believed (milliseconds). */
const RETRY_AFTER_LIMIT_MS = 300_000;

export type Verb = 'list' | 'watch';

/** What a Status of a list, of a watch or of an ERROR event means. */
export function troubleOfStatus(status: ApiStatus, verb: Verb, resource: Resource): Trouble {
  const said = `${verb} ${resource.name}: ${status.code} ${status.message}`.trim();
  if (status.code === 410) return new Trouble('gone', 'FW_API_PROTOCOL', said);
  if (status.code === 403) return forbidden(status, verb, resource);
  // The server names a time here too, but where its storage was restored from a backup that time never comes.
  const isAhead = status.message.includes('Too large resource version');
  if (status.retryAfterSeconds !== undefined && !isAhead) {
    const retryAfterMs = Math.min(status.retryAfterSeconds * 1000, RETRY_AFTER_LIMIT_MS);
    return new Trouble(
      'throttled',
      'FW_API_UNREACHABLE',
      `${said} (asked to come back in ${retryAfterMs / 1000} s)`,
      retryAfterMs,
    );
  }
  const code = status.code >= 500 || status.code === 429 ? 'FW_API_UNREACHABLE' : 'FW_API_PROTOCOL';
  return new Trouble('refused', code, said);
}

function forbidden(status: ApiStatus, verb: Verb, resource: Resource): Trouble {
  const rule = `apiGroups: ["${resource.group}"], resources: ["${resource.name}"], verbs: ["list", "watch"]`;
  const remedy = `our identity lacks the verb "${verb}" on "${resource.name}"; add to its ClusterRole the rule ${rule}`;
  return new Trouble('forbidden', 'FW_API_DENIED', `${verb} ${resource.name}: 403: ${remedy} (${status.message})`);
}
