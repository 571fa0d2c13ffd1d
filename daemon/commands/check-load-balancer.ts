/** What `fairway check` looks at for load-balancer addresses: who we are in the election, the pools, the links to announce on. */
import { readFile } from 'node:fs/promises';
import { poolsPlaceOf } from '../cluster/pools-place.ts';
import { ResourceRequests } from '../cluster/resource-requests.ts';
import { type Resource, resourceOf } from '../cluster/resources.ts';
import type { ApiTransport } from '../cluster/transport.ts';
import { type Config, isEnabled } from '../config/config.ts';
import type { CommandRunner } from '../kernel/command.ts';
import type { Clock } from '../net/clock.ts';
import { kindsRead, type Module } from '../reconcile/module.ts';
import { addressPoolsExaminer, type PoolsPlace } from './examine/address-pools.ts';
import { allocatorRights, electionExaminer } from './examine/allocator.ts';
import { announcementExaminer } from './examine/announcement.ts';
import type { Examiner } from './examine/finding.ts';
import type { Right } from './examine/write-rights.ts';

export interface LoadBalancerCheck {
  readonly config: Config;
  readonly nodeName: string;
  readonly runner: CommandRunner;
  readonly clock: Clock;
  /** Undefined where no API server is named. */
  readonly open: (() => Promise<ApiTransport>) | undefined;
}

/** Key of the ConfigMap under which the pools stand. */
const POOLS_KEY = 'pools.yaml';
/** Milliseconds that an answer may take. */
const LIMIT_MS = 10_000;

export function loadBalancerExaminers(options: LoadBalancerCheck): readonly Examiner[] {
  const { config, nodeName, runner, open } = options;
  const { podName } = config.environment;
  const pools = poolsPlace(options);
  return [
    ...(isEnabled('lb-allocator', config) && open !== undefined ? [electionExaminer({ podName, nodeName })] : []),
    ...(pools === undefined ? [] : [addressPoolsExaminer(pools)]),
    ...(isEnabled('lan-announcer', config) ? [announcementExaminer({ runner, links: config.announceInterfaces })] : []),
  ];
}

/** Where the kinds that these modules read are listed and watched. */
export function resourcesRead(modules: readonly Module[], config: Config): readonly Resource[] {
  const place = poolsPlaceOf(config.loadbalancerPools);
  // A file of pools is no business of the API server.
  const kinds = kindsRead(modules).filter(kind => kind !== 'ConfigMap' || place?.in === 'ConfigMap');
  return kinds.map(kind => resourceOf(kind, place?.in === 'ConfigMap' ? place.configMap : undefined));
}

/** What the modules of this configuration write to the API server. */
export function rightsWanted(config: Config): readonly Right[] {
  return isEnabled('lb-allocator', config) ? allocatorRights(config.environment.podNamespace ?? 'kube-system') : [];
}

/** Undefined where none are configured, or they stand in the folder of --manifests. */
function poolsPlace({ config, clock, open }: LoadBalancerCheck): PoolsPlace | undefined {
  const name = config.loadbalancerPools;
  const place = poolsPlaceOf(name);
  if (place === undefined) return undefined;
  if (place.in === 'file') {
    const metadata = { name: 'pools', namespace: 'file' };
    return { name, read: async () => ({ metadata, data: { [POOLS_KEY]: await readFile(place.path, 'utf8') } }) };
  }
  if (open === undefined) return undefined;
  const resource = resourceOf('ConfigMap', place.configMap);
  return {
    name,
    read: async signal => {
      const transport = await open();
      const timings = { headersMs: LIMIT_MS, idleMs: LIMIT_MS };
      const requests = new ResourceRequests({ resource, transport, clock, timings });
      try {
        return await requests.open('list', { limit: '1' }, signal, firstItem);
      } finally {
        transport.close();
      }
    },
  };
}

async function firstItem(body: AsyncIterable<Buffer>): Promise<object | undefined> {
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(piece);
  const { items } = JSON.parse(Buffer.concat(pieces).toString('utf8')) as { readonly items?: readonly object[] };
  return items?.[0];
}
