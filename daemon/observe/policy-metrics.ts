/** Packets that network policy denied, as the kernel's rules count them; read at each scrape. */
import { Counter, type Registry } from 'prom-client';
import type { Family } from '../net/address.ts';

export interface PolicyMetricsOptions {
  readonly registry: Registry;
  /** By family; one that cannot be asked is absent. Never rejects. */
  readonly read: () => Promise<ReadonlyMap<Family, number>>;
}

export function registerPolicy({ registry, read }: PolicyMetricsOptions): void {
  new Counter({
    name: 'fairway_policy_denied_packets_total',
    help: 'Packets that network policy denied, by family; begins anew when the rule that denies is written anew',
    labelNames: ['family'],
    registers: [registry],
    async collect() {
      const counts = await read();
      // It is the kernel that counts.
      this.reset();
      for (const [family, packets] of counts) this.inc({ family }, packets);
    },
  });
}
