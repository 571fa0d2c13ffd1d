/** Where the cluster's objects come from: the API server, or a folder of manifests. */
import { readFile } from 'node:fs/promises';
import { ApiSource } from '../cluster/api-source.ts';
import type { ClusterSource, Kind } from '../cluster/kinds.ts';
import { openCredentials } from '../cluster/kubeconfig.ts';
import { ManifestSource } from '../cluster/manifests.ts';
import type { ReflectorObserver } from '../cluster/reflector.ts';
import { Transport } from '../cluster/transport.ts';
import type { Config } from '../config/config.ts';
import type { Clock } from '../net/clock.ts';
import { VERSION } from '../version.ts';

export interface SourceOptions {
  readonly config: Config;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly kinds: readonly Kind[];
  readonly clock: Clock;
  readonly observer: ReflectorObserver;
}

/** Rejects with FW_CONFIG_KUBECONFIG where the credentials cannot be used as they are. */
export async function openSource(options: SourceOptions): Promise<ClusterSource> {
  const { config, environment, kinds, clock, observer } = options;
  if (config.manifests !== '') return new ManifestSource({ directory: config.manifests, kinds, clock });
  const credentials = await openCredentials({
    kubeconfig: config.kubeconfig,
    master: config.master,
    environment,
    readFile: path => readFile(path),
  });
  const transport = new Transport({ credentials, clock, userAgent: `fairway/${VERSION}` });
  return new ApiSource({ kinds, transport, clock, random: Math.random, observer });
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
