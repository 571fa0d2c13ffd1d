/**
 * The API server of the load-balancer bench, as a process of its own: it makes Services, sees when each has its address, and counts what it is asked.
 * Its clock is the only one that is used.
 *
 * It carries out {@link BalancerOperation}s, as `obey.ts` says.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { FakeApiServer } from '../test/fakes/api-server.ts';
import { balancerObject, balancerObjects } from './balancer-cluster.ts';
import { nodeObject, serviceName } from './cluster.ts';
import { obeyInput } from './obey.ts';
import { processorTimeOf } from './processor-time.ts';

export type BalancerOperation =
  /** Starts the API server with so many Services without address; answers with the kubeconfig's path. */
  | { readonly op: 'serve'; readonly services: number; readonly directory: string }
  /** Answers with the time (milliseconds since the epoch) at which so many Services have an address. */
  | { readonly op: 'awaitAddressed'; readonly count: number }
  /** {@link BalancerFigures} of so many events of a daemon. */
  | { readonly op: 'events'; readonly what: BalancerEvent; readonly count: number; readonly pid: number }
  /** Processor time of a daemon, and the requests meanwhile. */
  | { readonly op: 'rest'; readonly ms: number; readonly pid: number }
  /** Answers with the time at which the Lease is another's than this one's; one Service goes and another comes then. */
  | { readonly op: 'awaitSuccessor'; readonly former: string }
  /** Counts of requests since the last time, by `VERB RESOURCE`. */
  | { readonly op: 'requests' };

export type BalancerEvent =
  | 'one more'
  /** All addresses are taken and one Service waits; another one goes. */
  | 'relief';

export type RequestCounts = Readonly<Record<string, number>>;

/** Milliseconds, one figure an event. */
export interface BalancerFigures {
  /** From before the event until the API server has the address. */
  readonly took: readonly number[];
  /** Processor time of the daemon's threads, until a moment later. */
  readonly cpu: readonly number[];
  readonly requests: RequestCounts;
}

export interface RestFigures {
  readonly cpu: number;
  readonly requests: RequestCounts;
}

const NAMESPACE = 'default';
/** After an event and before the next: the daemon has seen what it wrote, and all that it costs is counted to this event. */
const SETTLE_MS = 300;

class BalancerStation {
  #server: FakeApiServer | undefined;
  readonly #addressed = new Set<string>();
  readonly #awaited = new Set<() => void>();
  #made = 0;
  #gone = 0;
  #counted = 0;

  async obey(operation: BalancerOperation): Promise<unknown> {
    switch (operation.op) {
      case 'serve':
        return await this.#serve(operation.services, operation.directory);
      case 'awaitAddressed':
        await this.#until(() => this.#addressed.size >= operation.count);
        return now();
      case 'events':
        return await this.#events(operation.what, operation.count, operation.pid);
      case 'rest':
        return await this.#rest(operation.ms, operation.pid);
      case 'awaitSuccessor':
        await this.#until(() => !['', operation.former].includes(this.#holder()));
        this.#deleteOne();
        this.#makeOne();
        return now();
      case 'requests':
        return this.#requests();
    }
  }

  async #serve(services: number, directory: string): Promise<string> {
    const server = await FakeApiServer.start({ directory });
    this.#server = server;
    // They go out at their own slow pace for minutes after a first start, beside whatever else is measured.
    server.behaviour.forbidden.add('create events');
    server.put(nodeObject(1, '192.168.1.11'), ...balancerObjects(services));
    this.#made = services;
    server.store.onChange((resource, { type, stored }) => {
      if (resource === 'services') {
        if (type !== 'DELETED' && stored.json.includes('"ingress":[{')) this.#addressed.add(stored.key);
        else this.#addressed.delete(stored.key);
      }
      for (const look of this.#awaited) look();
    });
    return server.writeKubeconfig();
  }

  async #events(what: BalancerEvent, count: number, pid: number): Promise<BalancerFigures> {
    const [took, cpu]: [number[], number[]] = [[], []];
    this.#requests();
    for (let event = 0; event < count; event++) {
      let name = what === 'relief' ? this.#makeOne() : '';
      if (what === 'relief') await pause(SETTLE_MS);
      const before = processorTimeOf(pid);
      const begin = now();
      if (what === 'relief') this.#deleteOne();
      else name = this.#makeOne();
      await this.#until(() => this.#addressed.has(`${NAMESPACE}/${name}`));
      took.push(now() - begin);
      await pause(SETTLE_MS);
      cpu.push(processorTimeOf(pid) - before);
    }
    return { took, cpu, requests: this.#requests() };
  }

  async #rest(ms: number, pid: number): Promise<RestFigures> {
    this.#requests();
    const before = processorTimeOf(pid);
    await pause(ms);
    return { cpu: processorTimeOf(pid) - before, requests: this.#requests() };
  }

  #makeOne(): string {
    const service = this.#made++;
    this.#api.put(balancerObject(service));
    return serviceName(service);
  }

  #deleteOne(): void {
    this.#api.delete('Service', NAMESPACE, serviceName(this.#gone++));
  }

  #holder(): string {
    const [lease] = this.#api.store.list('leases');
    return lease === undefined ? '' : (/"holderIdentity":"([^"]*)"/.exec(lease.json)?.[1] ?? '');
  }

  #until(isThere: () => boolean): Promise<void> {
    return new Promise(resolve => {
      const look = (): void => {
        if (!isThere()) return;
        this.#awaited.delete(look);
        resolve();
      };
      this.#awaited.add(look);
      look();
    });
  }

  #requests(): RequestCounts {
    const counts: Record<string, number> = {};
    for (const { verb, resource } of this.#api.requests.slice(this.#counted)) {
      const name = `${verb} ${resource}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
    this.#counted = this.#api.requests.length;
    return counts;
  }

  get #api(): FakeApiServer {
    if (this.#server === undefined) throw new TypeError('the API server is not started');
    return this.#server;
  }
}

function now(): number {
  return performance.timeOrigin + performance.now();
}

const station = new BalancerStation();
await obeyInput(operation => station.obey(operation as BalancerOperation));
