/** Gauges of how things stand, asked for at each scrape. */
import { Gauge, type Registry } from 'prom-client';
import type { ModuleHealth } from './health.ts';

export interface MetricsStatus {
  readonly tables: readonly TableCounts[];
  /** By code. */
  readonly diagnostics: ReadonlyMap<string, number>;
  readonly modules: ReadonlyMap<string, ModuleStatus>;
  /** Chains and sets that network policy wants and that are there. */
  readonly policyChains: number;
  readonly policySets: number;
  readonly servicesWithoutEndpoints: number;
  readonly drainingEndpoints: number;
}

export interface TableCounts {
  readonly table: string;
  /** Believed to be there. */
  readonly entries: number;
  readonly wanted: number;
  readonly failures: number;
}

export interface ModuleStatus {
  readonly state: ModuleHealth['state'];
  /** Milliseconds since a round last ended with all as the module wants it; undefined before the first. */
  readonly successAgeMs: number | undefined;
}

const STATES: readonly ModuleHealth['state'][] = ['starting', 'ok', 'degraded'];

/** @param wallNow milliseconds since the epoch, by which Prometheus compares timestamps */
export function registerState(registry: Registry, status: () => MetricsStatus, wallNow: () => number): void {
  registerTables(registry, status);
  registerModules(registry, status, wallNow);
  registerCounts(registry, status);
}

function registerTables(registry: Registry, status: () => MetricsStatus): void {
  const registers = [registry];
  const labelNames = ['table'] as const;
  new Gauge({
    name: 'fairway_table_entries',
    help: 'Entries believed to be there, by table',
    labelNames,
    registers,
    collect() {
      for (const { table, entries } of status().tables) this.set({ table }, entries);
    },
  });
  new Gauge({
    name: 'fairway_table_wanted_entries',
    help: 'Entries that the modules want, by table',
    labelNames,
    registers,
    collect() {
      for (const { table, wanted } of status().tables) this.set({ table }, wanted);
    },
  });
  new Gauge({
    name: 'fairway_table_failing_entries',
    help: 'Entries that could not be brought in and are tried again, by table',
    labelNames,
    registers,
    collect() {
      for (const { table, failures } of status().tables) this.set({ table }, failures);
    },
  });
}

function registerModules(registry: Registry, status: () => MetricsStatus, wallNow: () => number): void {
  const registers = [registry];
  new Gauge({
    name: 'fairway_module_state',
    help: '1 for the state that a module is in, 0 for the others: starting, ok, degraded',
    labelNames: ['module', 'state'],
    registers,
    collect() {
      for (const [module, now] of status().modules)
        for (const state of STATES) this.set({ module, state }, state === now.state ? 1 : 0);
    },
  });
  new Gauge({
    name: 'fairway_sync_last_success_timestamp_seconds',
    help: 'When a round last ended with all as a module wants it',
    labelNames: ['module'],
    registers,
    collect() {
      for (const [module, { successAgeMs }] of status().modules)
        if (successAgeMs !== undefined) this.set({ module }, (wallNow() - successAgeMs) / 1000);
    },
  });
}

function registerCounts(registry: Registry, status: () => MetricsStatus): void {
  const registers = [registry];
  const entriesOf = (wanted: string): number => status().tables.find(({ table }) => table === wanted)?.entries ?? 0;
  const gauge = (name: string, help: string, value: () => number): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  };
  gauge('kube_router_controller_ipvs_services', 'IPVS services of this daemon', () => entriesOf('virtualServer'));
  gauge('kube_router_host_routes_synced', 'Routes of the host to pods and addresses elsewhere', () => entriesOf('unicastRoute'));
  gauge('kube_router_controller_policy_chains', 'Chains of network policy, both families', () => status().policyChains);
  gauge('kube_router_controller_policy_ipsets', 'Sets of network policy, both families', () => status().policySets);
  gauge(
    'fairway_services_without_endpoints',
    'Services that refuse because nobody is ready behind them, on this node or anywhere',
    () => status().servicesWithoutEndpoints,
  );
  gauge(
    'fairway_draining_endpoints',
    'Endpoints that get nothing new and keep their connections',
    () => status().drainingEndpoints,
  );
  new Gauge({
    name: 'fairway_diagnostics',
    help: 'Diagnostics about objects, by code',
    labelNames: ['code'],
    registers,
    collect() {
      this.reset();
      for (const [code, count] of status().diagnostics) this.set({ code }, count);
    },
  });
}
