/**
 * The metrics of kube-router's that time or count its passes over everything, filled with what means the same here, so that its dashboards and alerts show
 * something true. kube-router times whole passes on a timer; here there is one observation for each time that something was to be done.
 */
import { Counter, Histogram, type Registry } from 'prom-client';
import type { Applied } from '../reconcile/outcome.ts';
import type { TableName } from '../reconcile/tables.ts';
import { SECONDS } from './buckets.ts';

/** What kube-router counts as told to its BGP neighbours. */
export type Advertisement = 'pod-route' | 'advertise-vip' | 'withdraw-vip';

/** A tool that ended. */
export interface ToolRun {
  readonly argv: readonly string[];
  readonly stdin?: string;
}

/** What one module had planned in a round. */
interface Share {
  readonly planMs: number;
  /** In which it wants something else than before. */
  readonly tables: readonly TableName[];
}

export class KubeRouterMetrics {
  readonly #ofTable: Readonly<Partial<Record<TableName, Histogram>>>;
  readonly #ofModule: ReadonlyMap<string, Histogram>;
  readonly #policyChains: Histogram;
  readonly #ofTool: Readonly<Record<`${'ipv4' | 'ipv6'} ${'save' | 'restore' | 'sets'}`, Histogram>>;
  readonly #ipvsExport: Histogram;
  readonly #routesAdded: Counter;
  readonly #routesRemoved: Counter;
  readonly #received: Counter;
  readonly #sent: Counter<'type'>;
  #shares = new Map<string, Share>();
  #batches = new Map<TableName, number>();

  constructor(registry: Registry) {
    const registers = [registry];
    const timing = (name: string, help: string): Histogram => new Histogram({ name, help, buckets: [...SECONDS], registers });
    const count = (name: string, help: string): Counter => new Counter({ name, help, registers });
    this.#ofTable = {
      virtualServer: timing('kube_router_controller_ipvs_services_sync_time', 'A batch of changes to IPVS'),
      bgpPeer: timing('kube_router_controller_bgp_internal_peers_sync_time', 'A batch of changes to BGP neighbours'),
      unicastRoute: timing('kube_router_host_routes_sync_time', 'A batch of changes to routes of the host'),
    };
    this.#ofModule = new Map([
      ['policy', timing('kube_router_controller_iptables_sync_time', 'What network policy had to do in a round')],
      ['routing', timing('kube_router_controller_routes_sync_time', 'What pod routing had to do in a round')],
    ]);
    this.#policyChains = timing(
      'kube_router_controller_policy_chains_sync_time',
      'Changes to chains in a round, where network policy wanted some',
    );
    this.#ofTool = {
      'ipv4 save': timing('kube_router_controller_iptables_v4_save_time', 'A run of iptables-save'),
      'ipv6 save': timing('kube_router_controller_iptables_v6_save_time', 'A run of ip6tables-save'),
      'ipv4 restore': timing('kube_router_controller_iptables_v4_restore_time', 'A run of iptables-restore'),
      'ipv6 restore': timing('kube_router_controller_iptables_v6_restore_time', 'A run of ip6tables-restore'),
      'ipv4 sets': timing('kube_router_controller_policy_ipset_v4_restore_time', 'A run of ipset restore with IPv4 sets'),
      'ipv6 sets': timing('kube_router_controller_policy_ipset_v6_restore_time', 'A run of ipset restore with IPv6 sets'),
    };
    this.#ipvsExport = timing('kube_router_controller_ipvs_metrics_export_time', 'Reading what IPVS counts, for a scrape');
    this.#routesAdded = count('kube_router_host_routes_added', 'Routes of the host added or changed');
    this.#routesRemoved = count('kube_router_host_routes_removed', 'Routes of the host removed');
    this.#received = count(
      'kube_router_controller_bgp_advertisements_received',
      'Prefixes to which BGP neighbours told of another way, or of none any more',
    );
    this.#sent = new Counter({
      name: 'kube_router_controller_bgp_advertisements_sent',
      help: 'Paths handed to gobgpd for its neighbours: pod-route, advertise-vip, withdraw-vip',
      labelNames: ['type'],
      registers,
    });
  }

  planned(module: string, milliseconds: number, changed: readonly TableName[]): void {
    if (changed.length > 0 && this.#ofModule.has(module)) this.#shares.set(module, { planMs: milliseconds, tables: changed });
  }

  applied({ table, creates, updates, deletes, milliseconds }: Applied): void {
    this.#batches.set(table, (this.#batches.get(table) ?? 0) + milliseconds);
    this.#ofTable[table]?.observe(milliseconds / 1000);
    if (table !== 'unicastRoute') return;
    this.#routesAdded.inc(creates + updates);
    this.#routesRemoved.inc(deletes);
  }

  /** A round is over: its plans and batches are the modules' shares of it. */
  roundEnded(): void {
    for (const [module, { planMs, tables }] of this.#shares) {
      const batches = tables.reduce((sum, table) => sum + (this.#batches.get(table) ?? 0), 0);
      this.#ofModule.get(module)?.observe((planMs + batches) / 1000);
      const chains = this.#batches.get('iptables');
      if (module === 'policy' && tables.includes('iptables') && chains !== undefined) this.#policyChains.observe(chains / 1000);
    }
    this.#shares = new Map();
    this.#batches = new Map();
  }

  ran({ argv: [program = '', command], stdin = '' }: ToolRun, milliseconds: number): void {
    const seconds = milliseconds / 1000;
    if (program === 'ipset' && command === 'restore') {
      // One run for both families, in place of kube-router's two.
      if (stdin.includes(' inet6:')) this.#ofTool['ipv6 sets'].observe(seconds);
      if (/^\w+ (?!inet6:)/m.test(stdin)) this.#ofTool['ipv4 sets'].observe(seconds);
      return;
    }
    const [, six, what] = /^ip(6?)tables(?:-nft|-legacy)?-(save|restore)$/.exec(program) ?? [];
    if (what === 'save' || what === 'restore') this.#ofTool[`${six === '6' ? 'ipv6' : 'ipv4'} ${what}`].observe(seconds);
  }

  /** What IPVS counts was read. */
  exported(milliseconds: number): void {
    this.#ipvsExport.observe(milliseconds / 1000);
  }

  learned(prefixes: number): void {
    this.#received.inc(prefixes);
  }

  advertised(type: Advertisement, count: number): void {
    this.#sent.inc({ type }, count);
  }
}
