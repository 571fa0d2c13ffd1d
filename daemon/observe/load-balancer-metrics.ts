/** Metrics of load-balancer addresses, asked for at each scrape: what is handed out, who waits, and what this node answers for on the local network. */
import { Gauge, type Registry } from 'prom-client';
import type { AllocatorSummary, PoolUsage } from '../reconcile/allocator-summary.ts';

export interface LoadBalancerPicture {
  /** Undefined where no allocator runs. */
  readonly isLeader: boolean | undefined;
  /** Pools, and the number of Services that wait. Undefined where another allocator hands out addresses: it is the one who knows. */
  readonly allocated: AllocatorSummary | undefined;
  /** Undefined where none are announced on the local network. */
  readonly lanAddresses: number | undefined;
}

export interface LoadBalancerMetricsOptions {
  readonly registry: Registry;
  readonly read: () => LoadBalancerPicture;
}

export function registerLoadBalancer({ registry, read }: LoadBalancerMetricsOptions): void {
  registerPools(registry, read);
  const gauge = (name: string, help: string, value: (picture: LoadBalancerPicture) => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const now = value(read());
        if (now === undefined) this.remove();
        else this.set(now);
      },
    });
  };
  gauge(
    'fairway_load_balancer_waiting_services',
    'Services that wait for a load-balancer address; no value where another allocator hands them out',
    ({ allocated }) => allocated?.waiting,
  );
  gauge(
    'fairway_load_balancer_leader',
    'Whether it is here that load-balancer addresses are handed out; no value where no allocator runs',
    ({ isLeader }) => (isLeader === undefined ? undefined : Number(isLeader)),
  );
  gauge(
    'fairway_lan_addresses',
    'Load-balancer addresses that this node answers for on the local network; no value where none are announced',
    ({ lanAddresses }) => lanAddresses,
  );
}

function registerPools(registry: Registry, read: LoadBalancerMetricsOptions['read']): void {
  const ofPool = (name: string, help: string, value: (pool: PoolUsage) => number): void => {
    new Gauge({
      name,
      help,
      labelNames: ['pool'],
      registers: [registry],
      collect() {
        // A pool that is gone, or another leader's, is not told of any more.
        this.reset();
        for (const pool of read().allocated?.pools ?? []) this.set({ pool: pool.name }, value(pool));
      },
    });
  };
  ofPool(
    'fairway_load_balancer_pool_addresses',
    'Addresses that a pool has to hand out, told by the allocator that does',
    ({ addresses }) => addresses,
  );
  ofPool(
    'fairway_load_balancer_pool_addresses_in_use',
    'Addresses of a pool that are in use, told by the allocator that hands them out',
    ({ inUse }) => inUse,
  );
}
