/** Metrics of each Service's traffic, with the names, labels and types of kube-router's. */
import { asFairwayError, type FairwayError } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { ServiceTraffic } from '../reconcile/service-traffic.ts';
import { type Listener, listenerKey } from '../reconcile/tables.ts';
import type { BulkMetrics } from './metrics.ts';

export interface ServiceMetricsOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** Asks IPVS; throws a FairwayError where it cannot be asked. */
  readonly read: () => Promise<readonly ServiceTraffic[]>;
  /** `namespace/name` of the Service that a listener is of, by `listenerKey`; undefined where it is nobody's. */
  readonly serviceOf: (listenerKey: string) => string | undefined;
  /** Lets other work have its turn: ten thousand Services are a hundred thousand lines. */
  readonly breathe: () => Promise<void>;
  /** Milliseconds that a reading took. */
  readonly onRead: (milliseconds: number) => void;
  /** Why there are none of these metrics at the moment, told once a reason; undefined when there are again. */
  readonly onTrouble: (error: FairwayError | undefined) => void;
}

/** The traffic under one set of labels. */
interface Series {
  /** As it stands on the page: `{svc_namespace="default",...}`. */
  readonly labels: string;
  readonly traffic: Readonly<Record<Column, number>>;
}

type Column = Exclude<keyof ServiceTraffic, 'listener'>;

interface Definition {
  readonly column: Column;
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
}

export const SERVICE_LABELS = ['svc_namespace', 'service_name', 'service_vip', 'protocol', 'port'] as const;

/** Names and help of kube-router's pkg/metrics; `bps` are bytes, not bits. */
export const SERVICE_METRICS: readonly Definition[] = [
  {
    column: 'connections',
    type: 'counter',
    name: 'kube_router_service_total_connections',
    help: 'Total incoming connections made',
  },
  { column: 'packetsIn', type: 'counter', name: 'kube_router_service_packets_in', help: 'Total incoming packets' },
  { column: 'packetsOut', type: 'counter', name: 'kube_router_service_packets_out', help: 'Total outgoing packets' },
  { column: 'bytesIn', type: 'counter', name: 'kube_router_service_bytes_in', help: 'Total incoming bytes' },
  { column: 'bytesOut', type: 'counter', name: 'kube_router_service_bytes_out', help: 'Total outgoing bytes' },
  { column: 'packetRateIn', type: 'gauge', name: 'kube_router_service_pps_in', help: 'Incoming packets per second' },
  { column: 'packetRateOut', type: 'gauge', name: 'kube_router_service_pps_out', help: 'Outgoing packets per second' },
  { column: 'connectionRate', type: 'gauge', name: 'kube_router_service_cps', help: 'Service connections per second' },
  { column: 'byteRateIn', type: 'gauge', name: 'kube_router_service_bps_in', help: 'Incoming bytes per second' },
  { column: 'byteRateOut', type: 'gauge', name: 'kube_router_service_bps_out', help: 'Outgoing bytes per second' },
];

/** Series between two breaths: a millisecond of work. */
const STRIDE = 2000;

/**
 * Reads when it is scraped and keeps no number between scrapes, so that a Service that is gone is gone here too. Where IPVS cannot be asked (ipvsadm
 * is not installed) the metrics have no values and the page is served all the same.
 */
export class ServiceMetrics implements BulkMetrics {
  readonly #options: ServiceMetricsOptions;
  #reading: Promise<readonly Series[]> | undefined;
  #trouble: string | undefined;
  /** Labels as they were written last, by listener: making them is most of the work of a page. */
  #labels: ReadonlyMap<string, { readonly service: string; readonly text: string }> = new Map();

  constructor(options: ServiceMetricsOptions) {
    this.#options = options;
  }

  async *pieces(): AsyncIterable<string> {
    const all = await this.#collect();
    for (const { column, type, name, help } of SERVICE_METRICS) {
      let text = `\n# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
      let count = 0;
      for (const { labels, traffic } of all) {
        text += `${name}${labels} ${traffic[column]}\n`;
        if (++count % STRIDE !== 0) continue;
        yield text;
        text = '';
        await this.#options.breathe();
      }
      yield text;
    }
  }

  /** The traffic now. Scrapes that overlap share one reading. Never rejects. */
  #collect(): Promise<readonly Series[]> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<readonly Series[]> {
    const { clock, read, onRead } = this.#options;
    const start = clock.now();
    try {
      const traffic = await read();
      onRead(clock.now() - start);
      await this.#options.breathe();
      const series = this.#seriesOf(traffic);
      this.#tell(undefined);
      return series;
    } catch (thrown) {
      this.#tell(asFairwayError(thrown, 'FW_COMMAND_FAILED'));
      return [];
    }
  }

  #tell(error: FairwayError | undefined): void {
    if (error?.message === this.#trouble) return;
    this.#trouble = error?.message;
    this.#options.onTrouble(error);
  }

  /** Several marks of one Service have equal labels, and Prometheus takes each set of labels once: they are summed. */
  #seriesOf(all: readonly ServiceTraffic[]): readonly Series[] {
    const known = this.#labels;
    const labels = new Map<string, { readonly service: string; readonly text: string }>();
    const series: Series[] = [];
    const ofMarks = new Map<string, Series>();
    for (const traffic of all) {
      const { listener } = traffic;
      const key = listenerKey(listener);
      const service = this.#options.serviceOf(key);
      if (service === undefined) continue;
      let label = known.get(key);
      if (label?.service !== service) label = { service, text: labelText(service, listener) };
      labels.set(key, label);
      if (listener.by === 'address') series.push({ labels: label.text, traffic });
      else ofMarks.set(service, { labels: label.text, traffic: sumOf(traffic, ofMarks.get(service)?.traffic) });
    }
    this.#labels = labels;
    return [...series, ...ofMarks.values()];
  }
}

/** Nothing in names, addresses and ports of Services needs quoting. */
function labelText(service: string, listener: Listener): string {
  const slash = service.indexOf('/');
  const where =
    listener.by === 'mark' ? ['', 'fwmark', ''] : [listener.address, listener.protocol.toLowerCase(), String(listener.port)];
  const values = [service.slice(0, slash), service.slice(slash + 1), ...where];
  return `{${SERVICE_LABELS.map((label, index) => `${label}="${values[index] ?? ''}"`).join(',')}}`;
}

function sumOf(one: Series['traffic'], other: Series['traffic'] | undefined): Series['traffic'] {
  if (other === undefined) return one;
  const sums = SERVICE_METRICS.map(({ column }) => [column, one[column] + other[column]] as const);
  return { ...one, ...Object.fromEntries(sums) };
}
