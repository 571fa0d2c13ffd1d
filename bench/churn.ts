/** The bench of steady change, in the lab: hundreds of Services change each second for a minute; is there a backlog, and how long does one event take meanwhile? */
import { Lab } from '../test/lab/lab.ts';
import { TARGET_PORT } from './cluster.ts';
import { Station, startDaemon } from './guest.ts';
import { growth, quantileBound } from './metrics.ts';
import { atMost, median, megabytes, milliseconds, percent, plain, printResults, quantile, type Result } from './results.ts';
import type { Churned } from './station.ts';

export interface ChurnBench {
  readonly services: number;
  readonly perSecond: number;
  readonly seconds: number;
}

const TIME_LIMIT_MS = 1_800_000;
const READY_LIMIT_MS = 300_000;
const GUEST_MEMORY_MIB = 3072;
/** An audit of every table would come once in this minute, and once in many otherwise. */
const NO_AUDIT = '--audit-period=1h';
const P99_MS = 1000;
/** A backlog that grows makes later events slower: the last third's median beside the first third's. */
const GROWTH = 2;

/** Once as it is by default, once with removed endpoints that drain. */
export async function benchChurn(churn: ChurnBench): Promise<void> {
  const lab = await Lab.start({ nodes: 2, podsPerNode: 2, memoryMiB: GUEST_MEMORY_MIB, timeLimitMs: TIME_LIMIT_MS });
  try {
    const node = lab.node(1);
    const endpoints = lab.node(2).pods.map(pod => pod.addresses.ipv4);
    for (const pod of lab.node(2).pods) await lab.probe(pod).serve('tcp', '0.0.0.0', TARGET_PORT, pod.name);
    const station = await Station.start(lab, node);
    const addresses = lab.nodes.map(({ addresses: { ipv4 } }) => ipv4);
    const kubeconfig = await station.serve(churn.services, addresses, endpoints);
    for (const draining of [[], ['--ipvs-graceful-termination']]) {
      const flags = [`--kubeconfig=${kubeconfig}`, NO_AUDIT, ...draining];
      const { daemon } = await startDaemon(lab, node, { flags, environment: {}, limitMs: READY_LIMIT_MS });
      await station.change(endpoints, 2);
      const before = await station.scrape();
      const churned = await station.churn({ ...churn, endpoints });
      const after = await station.scrape();
      const cpu = after.sum('process_cpu_seconds_total') - before.sum('process_cpu_seconds_total');
      const title = `churn: ${churn.services} Services, ${churn.perSecond} of them change each second for ${churn.seconds} s${draining.map(flag => `, ${flag}`).join('')}`;
      printResults(title, [
        atMost(
          'event to kernel, 99th percentile (the first event of each round)',
          1000 * quantileBound('fairway_programming_latency_seconds', 0.99, before, after),
          P99_MS,
          milliseconds,
          " by the daemon's own metric, a bucket's upper bound",
        ),
        ...resultsOf(churned, churn),
        plain('processor time of the daemon', percent(cpu / churned.seconds)),
        plain(
          'entries written a change',
          (sumOf(growth('fairway_changes_total', 'table', before, after)) / churned.changes).toFixed(2),
        ),
        plain(
          'processes a change',
          (sumOf(growth('fairway_spawns_total', 'command', before, after)) / churned.changes).toFixed(2),
        ),
        plain('resident memory then', megabytes((await station.memory()).resident)),
      ]);
      await daemon.stop();
    }
    await station.stop();
  } finally {
    await lab.close();
  }
}

function resultsOf({ took, changes, seconds }: Churned, { perSecond }: ChurnBench): readonly Result[] {
  const third = Math.ceil(took.length / 3);
  const [early, late] = [median(took.slice(0, third)), median(took.slice(-third))];
  return [
    plain(
      'changes a second that were made',
      (changes / seconds).toFixed(0),
      `${perSecond} asked for; the station shares the guest's processor`,
    ),
    plain(
      `event at the API server to first connection, 99th percentile of ${took.length}`,
      milliseconds(quantile(took, 0.99)),
      'also the way through a watch, and a connection that waits for its turn of the processor',
    ),
    plain('  median', milliseconds(median(took))),
    atMost(
      'median of the last third as a multiple of the first',
      late / early,
      GROWTH,
      value => value.toFixed(2),
      ': no backlog grows',
    ),
  ];
}

function sumOf(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((total, count) => total + count, 0);
}
