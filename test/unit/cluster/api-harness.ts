/** A fake API server over real TLS with the real source in front of it, both with short times. */
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiSource } from '../../../daemon/cluster/api-source.ts';
import type { Kind } from '../../../daemon/cluster/kinds.ts';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import type { ReflectorTimings } from '../../../daemon/cluster/reflector.ts';
import { Transport, type TransportOptions } from '../../../daemon/cluster/transport.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { FakeApiServer, type FakeApiServerOptions } from '../../fakes/api-server.ts';
import type { ApiObject } from '../../fakes/object-store.ts';
import { Recorder } from '../../fakes/recorder.ts';

/** Everything in milliseconds rather than seconds; the proportions are those of production. */
const QUICK: Partial<ReflectorTimings> = { firstRetryMs: 20, longestRetryMs: 100, forbiddenRetryMs: 60, initialEventsMs: 150 };

export interface HarnessOptions {
  readonly server?: Omit<FakeApiServerOptions, 'directory'>;
  readonly kinds?: readonly Kind[];
  readonly timings?: Partial<ReflectorTimings>;
  readonly transport?: Partial<TransportOptions>;
}

export interface Harness {
  readonly directory: string;
  readonly fake: FakeApiServer;
  readonly told: Recorder;
  /** Starts the source with the kubeconfig that the fake wrote, or with another one. */
  start(kubeconfig?: string): Promise<void>;
  relist(kind: Kind): Promise<void>;
  stopSource(): Promise<void>;
  stop(): Promise<void>;
}

export async function apiHarness(options: HarnessOptions = {}): Promise<Harness> {
  const directory = mkdtempSync(join(tmpdir(), 'fake-api-'));
  const fake = await FakeApiServer.start({ directory, ...options.server });
  const told = new Recorder();
  const clock = systemClock();
  let source: ApiSource | undefined;
  return {
    directory,
    fake,
    told,
    async start(kubeconfig = fake.writeKubeconfig()) {
      const credentials = await openCredentials({ kubeconfig, master: '', environment: {}, readFile: path => readFile(path) });
      const transport = new Transport({ credentials, clock, userAgent: 'fairway/0.0.0-test', ...options.transport });
      const timings = { ...QUICK, ...options.timings };
      const kinds = options.kinds ?? ['Service'];
      source = new ApiSource({ kinds, transport, clock, random: () => 0.5, observer: told, timings });
      source.start(told);
    },
    relist: kind => source?.relist(kind) ?? Promise.reject(new Error('not started')),
    stopSource: async () => await source?.stop(),
    async stop() {
      await source?.stop();
      fake.stop();
      rmSync(directory, { recursive: true });
    },
  };
}

export function service(name: string, spec: object = {}): ApiObject {
  const metadata = { namespace: 'shop', name, uid: `uid-of-${name}`, creationTimestamp: '2026-01-02T03:04:05Z' };
  return { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: '10.96.0.10', ports: [{ port: 80 }], ...spec } };
}

/** A slice of a Service with that many ready endpoints. */
export function slice(
  owner: string,
  count: number,
  changes: { readonly labels?: object; readonly index?: number } = {},
): ApiObject {
  const { index = 0, labels = {} } = changes;
  const name = `${owner}-${index}`;
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'shop', name, labels: { 'kubernetes.io/service-name': owner, ...labels } },
    addressType: 'IPv4',
    ports: [{ name: '', protocol: 'TCP', port: 8080 }],
    endpoints: Array.from({ length: count }, (_, endpoint) => ({
      addresses: [`10.${(endpoint >> 16) & 255}.${(endpoint >> 8) & 255}.${endpoint & 255}`],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `node-${endpoint % 50}`,
      zone: `zone-${endpoint % 3}`,
    })),
  };
}

/** A running pod with one address. */
export function pod(
  name: string,
  address: string,
  changes: { readonly phase?: string; readonly labels?: object } = {},
): ApiObject {
  const { phase = 'Running', labels = { app: 'web' } } = changes;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name, labels: { ...labels } },
    spec: { nodeName: 'node-1', containers: [{ ports: [{ name: 'http', containerPort: 8080 }] }] },
    status: { phase, podIP: address, podIPs: [{ ip: address }], hostIP: '192.168.1.1' },
  };
}
