/** Metrics of each Service's traffic, with the names, labels and types of kube-router's. */
import { Counter, Gauge, type MetricObjectWithValues, type MetricValue, type Registry } from 'prom-client';
import { asFairwayError, type FairwayError } from '../errors.ts';
import type { ServiceTraffic } from '../reconcile/service-traffic.ts';
import { type Listener, listenerKey } from '../reconcile/tables.ts';

export interface ServiceMetricsOptions {
  readonly registry: Registry;
  /** Asks IPVS; throws a FairwayError where it cannot be asked. */
  readonly read: () => Promise<readonly ServiceTraffic[]>;
  /** `namespace/name` of the Service that a listener is of, by `listenerKey`; undefined where it is nobody's. */
  readonly serviceOf: (listenerKey: string) => string | undefined;
  /** Lets other work have its turn: ten thousand Services are a hundred thousand lines. */
  readonly breathe: () => Promise<void>;
  /** Why there are none of these metrics at the moment, told once a reason; undefined when there are again. */
  readonly onTrouble: (error: FairwayError | undefined) => void;
}

type LabelName = (typeof LABELS)[number];
type Labels = Readonly<Record<LabelName, string>>;
type Value = MetricValue<LabelName>;

const LABELS = ['svc_namespace', 'service_name', 'service_vip', 'protocol', 'port'] as const;

/** The traffic under one set of labels. */
interface Series {
  readonly labels: Labels;
  readonly traffic: Readonly<Record<Column, number>>;
}

type Column = Exclude<keyof ServiceTraffic, 'listener'>;

interface Definition {
  readonly column: Column;
  readonly type: 'counter' | 'gauge';
  readonly name: string;
  readonly help: string;
}

/** Names and help of kube-router's pkg/metrics; `bps` are bytes, not bits. */
const DEFINITIONS: readonly Definition[] = [
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

/**
 * Reads when it is scraped and keeps nothing between scrapes, so that a Service that is gone is gone here too. Where IPVS cannot be asked (ipvsadm
 * is not installed) the metrics have no values and the page is served all the same.
 */
export class ServiceMetrics {
  readonly #options: ServiceMetricsOptions;
  #reading: Promise<readonly Series[]> | undefined;
  #trouble: string | undefined;

  constructor(options: ServiceMetricsOptions) {
    this.#options = options;
    for (const definition of DEFINITIONS) this.#register(definition);
  }

  /** The traffic now. All metrics of a scrape, and of scrapes that overlap, share one reading. Never rejects. */
  collect(): Promise<readonly Series[]> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<readonly Series[]> {
    const { read, serviceOf } = this.#options;
    try {
      const series = seriesOf(await read(), serviceOf);
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

  #register({ column, type, name, help }: Definition): void {
    const values = (): Promise<Value[]> => this.#valuesOf(column);
    const configuration = { name, help, labelNames: LABELS, registers: [this.#options.registry] };
    if (type === 'counter') new ReadCounter(configuration, values);
    else new ReadGauge(configuration, values);
  }

  async #valuesOf(column: Column): Promise<Value[]> {
    const series = await this.collect();
    // One metric after another is made text, with other work in between.
    for (let place = DEFINITIONS.findIndex(each => each.column === column); place > 0; place--) await this.#options.breathe();
    return series.map(({ labels, traffic }) => ({ labels, value: traffic[column] }));
  }
}

type Configuration = Readonly<{ name: string; help: string; labelNames: readonly LabelName[]; registers: Registry[] }>;
type WithValues = MetricObjectWithValues<Value>;

/** A counter that somebody else counts: its values are whatever is read. All metrics of a scrape ask at once, and so get one reading. */
class ReadCounter extends Counter<LabelName> {
  readonly #values: () => Promise<Value[]>;

  constructor(configuration: Configuration, values: () => Promise<Value[]>) {
    super({ ...configuration, labelNames: [...configuration.labelNames] });
    this.#values = values;
  }

  override get(): Promise<WithValues> {
    return withValues(super.get(), this.#values());
  }
}

class ReadGauge extends Gauge<LabelName> {
  readonly #values: () => Promise<Value[]>;

  constructor(configuration: Configuration, values: () => Promise<Value[]>) {
    super({ ...configuration, labelNames: [...configuration.labelNames] });
    this.#values = values;
  }

  override get(): Promise<WithValues> {
    return withValues(super.get(), this.#values());
  }
}

async function withValues(own: Promise<WithValues>, values: Promise<Value[]>): Promise<WithValues> {
  return { ...(await own), values: await values };
}

/** Several marks of one Service have equal labels, and Prometheus takes each set of labels once: they are summed. */
function seriesOf(all: readonly ServiceTraffic[], serviceOf: (key: string) => string | undefined): readonly Series[] {
  const series: Series[] = [];
  const ofMarks = new Map<string, Series>();
  for (const traffic of all) {
    const service = serviceOf(listenerKey(traffic.listener));
    if (service === undefined) continue;
    const labels = labelsOf(service, traffic.listener);
    if (traffic.listener.by === 'address') series.push({ labels, traffic });
    else ofMarks.set(service, { labels, traffic: sumOf(traffic, ofMarks.get(service)?.traffic) });
  }
  return [...series, ...ofMarks.values()];
}

function labelsOf(service: string, listener: Listener): Labels {
  const slash = service.indexOf('/');
  const names = { svc_namespace: service.slice(0, slash), service_name: service.slice(slash + 1) };
  if (listener.by === 'mark') return { ...names, service_vip: '', protocol: 'fwmark', port: '' };
  return { ...names, service_vip: listener.address, protocol: listener.protocol.toLowerCase(), port: `${listener.port}` };
}

function sumOf(one: Series['traffic'], other: Series['traffic'] | undefined): Series['traffic'] {
  if (other === undefined) return one;
  const sums = DEFINITIONS.map(({ column }) => [column, one[column] + other[column]] as const);
  return { ...one, ...Object.fromEntries(sums) };
}
