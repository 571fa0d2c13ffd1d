/** Whether the API server can be reached, knows us, and lets us list and watch what the enabled modules read, and write what they write. */
import { type Query, ResourceRequests } from '../../cluster/resource-requests.ts';
import type { Resource } from '../../cluster/resources.ts';
import type { ApiTransport } from '../../cluster/transport.ts';
import type { Verb } from '../../cluster/trouble.ts';
import { messageOf } from '../../errors.ts';
import type { Clock } from '../../net/clock.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';
import { examineRights, type Right } from './write-rights.ts';

export interface ApiOptions {
  /** Rejects with FW_CONFIG_KUBECONFIG where the credentials cannot be used as they are. */
  readonly open: () => Promise<ApiTransport>;
  readonly reads: readonly Resource[];
  readonly writes: readonly Right[];
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

export function apiExaminer({ open, reads, writes, remarks, clock }: ApiOptions): Examiner {
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
        const read = await Promise.all(reads.map(resource => examineResource(transport, resource, clock, signal)));
        const written = await examineRights(transport, writes, signal);
        return [...remarked, ...distinct([...read.flat(), ...written])];
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
