/** Where the cluster's objects come from: the API server, or a folder of manifests; named pools perhaps from a file of their own. */
import { readFile } from 'node:fs/promises';
import { ApiSource } from '../cluster/api-source.ts';
import { JoinedSource } from '../cluster/joined-source.ts';
import type { ClusterSource, Kind } from '../cluster/kinds.ts';
import { openCredentials } from '../cluster/kubeconfig.ts';
import { ManifestSource } from '../cluster/manifests.ts';
import { PoolsFileSource } from '../cluster/pools-file.ts';
import { poolsPlaceOf } from '../cluster/pools-place.ts';
import { RecentCredentials } from '../cluster/recent-credentials.ts';
import type { ReflectorObserver } from '../cluster/reflector.ts';
import { type ApiTransport, Transport } from '../cluster/transport.ts';
import type { Config } from '../config/config.ts';
import { parseAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { anyPrefixContains } from '../net/prefix.ts';
import { VERSION } from '../version.ts';

export interface SourceOptions {
  readonly config: Config;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly kinds: readonly Kind[];
  readonly clock: Clock;
  readonly observer: ReflectorObserver;
  /** Told what an operator should know of where the objects come from. */
  readonly onRemark: (message: string) => void;
}

/** The source, and what else the daemon has to do with the API server. */
export interface Cluster {
  readonly source: ClusterSource;
  /** Undefined where the objects come from a folder. Closed by the source. */
  readonly transport: ApiTransport | undefined;
}

/** Rejects with FW_CONFIG_KUBECONFIG where the credentials cannot be used as they are. */
export async function openCluster(options: SourceOptions): Promise<Cluster> {
  const { config, kinds, clock, observer } = options;
  const pools = poolsPlaceOf(config.loadbalancerPools);
  const ofCluster = pools?.in === 'file' ? kinds.filter(kind => kind !== 'ConfigMap') : kinds;
  const configMap = pools?.in === 'ConfigMap' ? pools.configMap : undefined;
  const transport = config.manifests === '' ? await openTransport(options) : undefined;
  const source =
    transport === undefined
      ? new ManifestSource({ directory: config.manifests, kinds: ofCluster, configMap, clock })
      : new ApiSource({ kinds: ofCluster, configMap, transport, clock, random: Math.random, observer });
  if (pools?.in !== 'file' || !kinds.includes('ConfigMap')) return { source, transport };
  return { source: new JoinedSource([source, new PoolsFileSource({ path: pools.path, clock })]), transport };
}

/** Likewise, for whoever asks the API server itself. */
export async function openTransport({
  config,
  environment,
  clock,
  onRemark,
}: Pick<SourceOptions, 'config' | 'environment' | 'clock' | 'onRemark'>): Promise<Transport> {
  let isInCluster = config.kubeconfig === '';
  const credentials = await openCredentials({
    kubeconfig: config.kubeconfig,
    master: config.master,
    environment,
    readFile: path => readFile(path),
    onReplaced: message => {
      isInCluster = true;
      onRemark(message);
    },
  });
  const remark = isInCluster ? ownAddressRemark(config, environment) : undefined;
  if (remark !== undefined) onRemark(remark);
  return new Transport({ credentials: new RecentCredentials(credentials, clock), clock, userAgent: `fairway/${VERSION}` });
}

/**
 * A ClusterIP is served by us, and only after we have read Services from there: beside another proxy it works, and no more once that is gone and the node
 * was rebooted. Undefined where that is no danger.
 */
function ownAddressRemark(config: Config, environment: SourceOptions['environment']): string | undefined {
  const host = parseAddress(environment['KUBERNETES_SERVICE_HOST'] ?? '');
  if (
    config.master !== '' ||
    !config.runServiceProxy ||
    host === undefined ||
    !anyPrefixContains(config.serviceClusterIpRange, host)
  )
    return undefined;
  return `the API server is called at ${host}, a ClusterIP that this daemon is to serve itself: once no other program does, a node that was rebooted cannot start. Give the server's own address (README of manifests/: ConfigMap fairway-api-server)`;
}

/** For commands that look once and count nothing. */
export const UNOBSERVED: ReflectorObserver = {
  listed: () => undefined,
  watching: () => undefined,
  event: () => undefined,
  bookmark: () => undefined,
  relist: () => undefined,
  failed: () => undefined,
};
