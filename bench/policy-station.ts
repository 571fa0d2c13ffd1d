/**
 * The rest of the cluster, as a process outside of the node: it holds the API server, makes events and sends packets as a pod of another
 * node until they fare otherwise than before. Its clock is the only one that is used.
 *
 * It carries out {@link PolicyOperation}s, as `obey.ts` says.
 */
import { createSocket } from 'node:dgram';
import { setTimeout as pause } from 'node:timers/promises';
import { FakeApiServer } from '../test/fakes/api-server.ts';
import type { ApiObject } from './cluster.ts';
import { obeyInput } from './obey.ts';
import {
  NODE_ADDRESS,
  namespaceObject,
  namespaceOf,
  OUTSIDE_ADDRESS,
  type PolicyClusterSize,
  PROBE_PORT,
  podAddress,
  podObject,
  policyClusterObjects,
  policyObject,
  tierOf,
} from './policy-cluster.ts';
import { processorTimeOf } from './processor-time.ts';
import { scrape } from './scrape.ts';

export type PolicyOperation =
  /** Starts the API server with a cluster; answers with the kubeconfig's path. */
  | { readonly op: 'serve'; readonly size: PolicyClusterSize; readonly directory: string }
  /** Answers with the time (milliseconds since the epoch) at which a packet that no policy allows is refused. */
  | { readonly op: 'awaitRefusal' }
  | { readonly op: 'scrape'; readonly port: number }
  /** {@link EventFigures} of so many events, to and fro, of a daemon. */
  | { readonly op: 'events'; readonly what: PolicyEvent; readonly count: number; readonly pid: number };

export type PolicyEvent =
  | 'pod elsewhere relabelled'
  | 'new pod on the node, of a group that is there'
  | 'new pod on the node, the first of its group'
  | 'policy edited'
  | 'namespace relabelled';

/** Milliseconds. There may be fewer than asked for, {@link MOST_SWEPT}. */
export interface EventFigures {
  /** From before the event until a packet fares otherwise; of every other event, since the way back is not looked at. */
  readonly took: readonly number[];
  /** Processor time of the daemon's threads, of every event. */
  readonly cpu: readonly number[];
}

/** Who sends probes to whom. */
export interface Cast {
  /** An api pod of the node, in the first namespace. */
  readonly server: number;
  /** A web pod elsewhere, in the second namespace. */
  readonly client: number;
  /** The node's last pod; nothing lets the client in. In its namespace the node has one api pod. */
  readonly newcomer: number;
}

export const FURTHER_PORT = PROBE_PORT + 1;
/** After an event and before the next: the daemon's rounds do not touch each other, and all that one costs is counted to it. */
const SETTLE_MS = 200;
/** By then the daemon has cleared away what nothing uses any more, which it leaves for a while (`LINGER_MS` of daemon.ts). */
const SWEPT_MS = 6000;
/** Of events before each of which that is waited for. */
const MOST_SWEPT = 8;
const BETWEEN_PROBES_MS = 1;
const PROBE_LIMIT_MS = 250;
const EVENT_LIMIT_MS = 30_000;

export function castOf(size: PolicyClusterSize): Cast {
  for (let pod = size.localPods; pod < size.pods; pod++) {
    if (namespaceOf(pod, size) === 1 && tierOf(pod, size) === 'web')
      return { server: 0, client: pod, newcomer: size.localPods - 1 };
  }
  throw new RangeError('the cluster is too small: no web pod of the second namespace is on another node');
}

/** What happens and what shows it. */
interface Scene {
  readonly to: string;
  readonly port: number;
  /** How the probe fares after the event. */
  readonly outcome: Fate;
  readonly event: () => void;
  readonly back: () => void;
  /** Milliseconds after the way back until nothing is left of the event. */
  readonly settleMs: number;
  /** Events at the most; as many as asked for unless told. */
  readonly most?: number;
}

/** What became of a datagram; `lost` is neither answered nor refused. */
type Fate = 'answered' | 'refused' | 'lost';

class PolicyStation {
  #server: FakeApiServer | undefined;
  #size: PolicyClusterSize = { localPods: 0, pods: 0, namespaces: 0, policies: 0 };

  async obey(operation: PolicyOperation): Promise<unknown> {
    switch (operation.op) {
      case 'serve':
        return await this.#serve(operation.size, operation.directory);
      case 'awaitRefusal': {
        const { newcomer } = castOf(this.#size);
        await this.#until('refused', this.#address(newcomer), PROBE_PORT);
        return performance.timeOrigin + performance.now();
      }
      case 'scrape':
        return await scrape(NODE_ADDRESS, operation.port);
      case 'events':
        return await this.#events(this.#scene(operation.what), operation.count, operation.pid);
    }
  }

  async #serve(size: PolicyClusterSize, directory: string): Promise<string> {
    this.#size = size;
    const server = await FakeApiServer.start({ directory, host: OUTSIDE_ADDRESS });
    this.#server = server;
    for (const object of policyClusterObjects(size)) server.put(object);
    // The log of changes would be replayed to nobody; a real server's is in etcd.
    server.store.compact();
    return server.writeKubeconfig();
  }

  #scene(what: PolicyEvent): Scene {
    const size = this.#size;
    const { server, client, newcomer } = castOf(size);
    const put = (object: ApiObject): void => this.#server?.put(object);
    const toServer = { to: this.#address(server), port: PROBE_PORT, outcome: 'answered', settleMs: SETTLE_MS } as const;
    switch (what) {
      case 'pod elsewhere relabelled':
        return {
          ...toServer,
          event: () => put(podObject(client, size)),
          back: () => put(podObject(client, size, { tier: 'job' })),
        };
      case 'namespace relabelled':
        return {
          ...toServer,
          event: () => put(namespaceObject(1)),
          back: () => put(namespaceObject(1, 'nobody')),
        };
      case 'policy edited':
        return {
          ...toServer,
          port: FURTHER_PORT,
          event: () => put(policyObject('neighbours', 0, size, { ports: [FURTHER_PORT] })),
          back: () => put(policyObject('neighbours', 0, size)),
        };
      case 'new pod on the node, of a group that is there':
        return this.#newcomer(podObject(newcomer, size, { tier: 'api' }));
      case 'new pod on the node, the first of its group':
        // A chain that is still there makes it one of a group that is there.
        return { ...this.#newcomer(podObject(newcomer, size, { tier: 'job' })), settleMs: SWEPT_MS, most: MOST_SWEPT };
    }
  }

  /** Until the pod is known nothing keeps packets from its address. */
  #newcomer(pod: ApiObject): Scene {
    return {
      to: this.#address(castOf(this.#size).newcomer),
      port: PROBE_PORT,
      outcome: 'refused',
      settleMs: SETTLE_MS,
      event: () => this.#server?.put(pod),
      back: () => this.#server?.delete(pod.kind, pod.metadata.namespace ?? '', pod.metadata.name),
    };
  }

  async #events(scene: Scene, count: number, pid: number): Promise<EventFigures> {
    const took: number[] = [];
    const cpu: number[] = [];
    const rounds = Math.min(count, scene.most ?? count);
    for (let round = 0; round < rounds; round++) {
      let before = processorTimeOf(pid);
      scene.back();
      await pause(scene.settleMs);
      await this.#until(scene.outcome === 'answered' ? 'refused' : 'answered', scene.to, scene.port);
      cpu.push(processorTimeOf(pid) - before);
      before = processorTimeOf(pid);
      const begin = performance.now();
      scene.event();
      await this.#until(scene.outcome, scene.to, scene.port);
      took.push(performance.now() - begin);
      await pause(SETTLE_MS);
      cpu.push(processorTimeOf(pid) - before);
    }
    return { took, cpu };
  }

  /** Each datagram is the first of a flow: packets of a flow that was let in pass whatever policies say later. */
  async #until(fate: Fate, to: string, port: number): Promise<void> {
    const from = this.#address(castOf(this.#size).client);
    const begin = performance.now();
    while ((await probe(from, to, port)) !== fate) {
      if (performance.now() - begin > EVENT_LIMIT_MS)
        throw new Error(`no packet to ${to}:${port} is ${fate} within ${EVENT_LIMIT_MS} ms`);
      // Leaves the processor to the daemon.
      await pause(BETWEEN_PROBES_MS);
    }
  }

  #address(pod: number): string {
    return podAddress(pod, this.#size);
  }
}

function probe(from: string, to: string, port: number): Promise<Fate> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const end = (fate: Fate): void => {
      clearTimeout(timer);
      socket.close();
      resolve(fate);
    };
    const timer = setTimeout(() => end('lost'), PROBE_LIMIT_MS);
    socket.once('message', () => end('answered'));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') end('refused');
      else reject(error);
    });
    socket.bind({ address: from }, () => {
      // What a sink of policy-packets.pl answers.
      socket.connect(port, to, () => socket.send('H'));
    });
  });
}

if (import.meta.main) {
  const station = new PolicyStation();
  await obeyInput(operation => station.obey(operation as PolicyOperation));
}
