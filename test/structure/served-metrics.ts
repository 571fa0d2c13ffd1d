/** Every metric that a daemon with all modules serves, as its registry has it. */
import { BgpMetrics } from '../../daemon/observe/bgp-metrics.ts';
import { registerLoadBalancer } from '../../daemon/observe/load-balancer-metrics.ts';
import { Metrics } from '../../daemon/observe/metrics.ts';
import { registerPolicy } from '../../daemon/observe/policy-metrics.ts';
import { SERVICE_LABELS, SERVICE_METRICS } from '../../daemon/observe/service-metrics.ts';
import { ManualClock } from '../fakes/clock.ts';

export interface ServedMetric {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

export function servedMetrics(): readonly ServedMetric[] {
  const clock = new ManualClock();
  const { registry } = new Metrics({
    version: 'test',
    clock,
    wallNow: () => clock.now(),
    status: () => {
      throw new Error('nobody scrapes');
    },
  });
  new BgpMetrics({ registry, clock, read: () => Promise.resolve(undefined) });
  registerPolicy({ registry, read: () => Promise.resolve(new Map()) });
  registerLoadBalancer({ registry, read: () => ({ isLeader: undefined, allocated: undefined, lanAddresses: undefined }) });
  return [
    ...registry.getMetricsAsArray().map(metric => ({
      name: metric.name,
      type: String(metric.type),
      // The types of prom-client do not tell of it.
      labels: Reflect.get(metric, 'labelNames') as readonly string[],
      help: metric.help,
    })),
    ...SERVICE_METRICS.map(({ name, type, help }) => ({ name, type, labels: SERVICE_LABELS, help })),
  ];
}
