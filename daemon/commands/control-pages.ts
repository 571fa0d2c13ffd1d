/** What the running daemon answers its commands, page by page. */
import type { Config } from '../config/config.ts';
import type { Daemon } from '../daemon.ts';
import { FairwayError, messageOf } from '../errors.ts';
import { explain } from '../explain/explain.ts';
import { parseQuestion } from '../explain/question.ts';
import type { Clock } from '../net/clock.ts';
import { type Page, respond } from '../observe/http.ts';
import { profilePages } from '../observe/profile.ts';
import { iso, type LoadBalancerLines, type NeighborLine, type StatusReport } from '../observe/status.ts';
import { VERSION } from '../version.ts';
import { daemonBundle, writeBundle } from './bundle.ts';
import type { Planned } from './plan.ts';

export interface ControlPagesOptions {
  /** Undefined while it is not made yet. */
  readonly daemon: () => Daemon | undefined;
  readonly config: Config;
  /** Flags that were given. */
  readonly explicit: ReadonlySet<string>;
  readonly clock: Clock;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  /** The BGP neighbours; undefined where no BGP is spoken. Rejects while the speaker does not answer. */
  readonly neighbors: () => Promise<readonly NeighborLine[]> | undefined;
  /** Undefined where no allocator of load-balancer addresses runs. */
  readonly loadBalancer: () => LoadBalancerLines | undefined;
  /** What else an operator should know. */
  readonly remarks: () => readonly string[];
  /** The last lines of the log. */
  readonly recentLog: () => readonly string[];
}

export function controlPages(options: ControlPagesOptions): ReadonlyMap<string, Page> {
  return new Map<string, Page>([
    ...profilePages(options.clock),
    [
      '/status',
      async (_query, response) => {
        respond(response, 200, `${JSON.stringify(await statusOf(options), undefined, 2)}\n`);
      },
    ],
    [
      '/plan',
      async (_query, response) => {
        const daemon = made(options);
        const planned: Planned = {
          tables: await daemon.examine(),
          complaints: daemon.diagnostics().map(({ message }) => message),
        };
        respond(response, 200, JSON.stringify(planned));
      },
    ],
    [
      '/why',
      (query, response) => {
        const view = made(options).view();
        const question = parseQuestion(query.getAll('word'), view.snapshot);
        respond(response, 200, JSON.stringify('error' in question ? question : explain(question, view)));
      },
    ],
    [
      '/snapshot',
      async (_query, response) => {
        const { config, explicit, recentLog } = options;
        const { snapshot, tables } = made(options).view();
        const status = await statusOf(options);
        response.end(writeBundle(daemonBundle({ config, explicit, snapshot, tables, status, log: recentLog() })));
      },
    ],
  ]);
}

function made({ daemon }: ControlPagesOptions): Daemon {
  const there = daemon();
  if (there === undefined) throw new FairwayError('FW_DAEMON_REFUSED', 'the daemon starts: it is still looking at the host');
  return there;
}

async function statusOf(options: ControlPagesOptions): Promise<StatusReport> {
  const { startedAt, neighbors, remarks } = options;
  const bgp = neighbors();
  const loadBalancer = options.loadBalancer();
  return {
    version: VERSION,
    pid: process.pid,
    startedAt: iso(startedAt),
    ...made(options).status(),
    bgp: bgp === undefined ? undefined : await asked(bgp),
    ...(loadBalancer === undefined ? {} : { loadBalancer }),
    remarks: remarks(),
  };
}

function asked(neighbors: Promise<readonly NeighborLine[]>): Promise<NonNullable<StatusReport['bgp']>> {
  return neighbors.then(
    list => ({ neighbors: list, trouble: undefined }),
    (thrown: unknown) => ({ neighbors: [], trouble: messageOf(thrown) }),
  );
}
