/** Whether the API server can be reached, knows us, and lets us list and watch what the enabled modules read. */
import type { Kind } from '../../cluster/kinds.ts';
import { type Query, ResourceRequests } from '../../cluster/resource-requests.ts';
import { type ObjectPlace, type Resource, resourceOf } from '../../cluster/resources.ts';
import type { ApiTransport } from '../../cluster/transport.ts';
import type { Verb } from '../../cluster/trouble.ts';
import { messageOf } from '../../errors.ts';
import type { Clock } from '../../net/clock.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

export interface ApiOptions {
  /** Rejects with FW_CONFIG_KUBECONFIG where the credentials cannot be used as they are. */
  readonly open: () => Promise<ApiTransport>;
  readonly kinds: readonly Kind[];
  /** The one ConfigMap that is read, where that kind is. */
  readonly configMap?: ObjectPlace | undefined;
  /** What is to be known of the credentials, once they are open. */
  readonly remarks: () => readonly string[];
  readonly clock: Clock;
}

/** Milliseconds that an answer may take. */
const LIMIT_MS = 10_000;

/** What is asked: as little as shows that it may be. */
const ASKED: readonly (readonly [verb: Verb, query: Query])[] = [
  ['list', { limit: '1' }],
  ['watch', { watch: 'true', timeoutSeconds: '1', allowWatchBookmarks: 'true', resourceVersion: '' }],
];

export function apiExaminer({ open, kinds, configMap, remarks, clock }: ApiOptions): Examiner {
  return {
    title: 'API server',
    examine: async signal => {
      let transport: ApiTransport;
      try {
        transport = await open();
      } catch (thrown) {
        return [missing('credentials', messageOf(thrown))];
      }
      try {
        const remarked = remarks().map(remark => warning('credentials', remark));
        const asked = distinct(
          (await Promise.all(kinds.map(kind => examineResource(transport, resourceOf(kind, configMap), clock, signal)))).flat(),
        );
        return [...remarked, ...asked];
      } finally {
        transport.close();
      }
    },
  };
}

async function examineResource(
  transport: ApiTransport,
  resource: Resource,
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const requests = new ResourceRequests({ resource, transport, clock, timings: { headersMs: LIMIT_MS, idleMs: LIMIT_MS } });
  const refusals: Finding[] = [];
  for (const [verb, query] of ASKED) {
    try {
      await requests.open(verb, query, signal, () => Promise.resolve());
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      refusals.push(missing(resource.name, messageOf(thrown)));
    }
  }
  return refusals.length > 0 ? refusals : [ok(resource.name, 'may be listed and watched')];
}

/** What is wrong with the server or with our credentials is wrong for every kind: told once. */
function distinct(findings: readonly Finding[]): readonly Finding[] {
  const byRemark = Map.groupBy(findings, ({ remark, verdict }) => (verdict === 'ok' ? Symbol('each') : remark));
  return [...byRemark.values()].flatMap(([first, ...more]) => {
    if (first === undefined) return [];
    return [more.length === 0 ? first : { ...first, subject: 'API server' }];
  });
}
