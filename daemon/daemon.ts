/**
 * The daemon at work: sources fill the store, the scheduler runs rounds, the reconciler converges. All parts come through the
 * constructor, so that scenarios run it on fakes with a clock moved by hand.
 */
import type { Disturbance } from './cluster/disturbance.ts';
import { Heartbeats } from './cluster/heartbeats.ts';
import type { Kind } from './cluster/kinds.ts';
import { NodeViewer } from './cluster/node-view.ts';
import { patched } from './cluster/patched-map.ts';
import { COUNTED_AS } from './cluster/resources.ts';
import { type HostFacts, type LearnedRoute, NO_ALLOCATION, NO_RIB, type Rib, type Snapshot } from './cluster/snapshot.ts';
import { Store } from './cluster/store.ts';
import { FairwayError, messageOf } from './errors.ts';
import type { IpAddress } from './net/address.ts';
import { type Instant, instantOf } from './net/instant.ts';
import type { IpPrefix } from './net/prefix.ts';
import { Degradations } from './observe/degradations.ts';
import { type Health, isReady, type ModuleHealth } from './observe/health.ts';
import { Reporter } from './observe/reporter.ts';
import { diagnosticLines, failureLines, iso, moduleLines, type StatusReport, tableLines } from './observe/status.ts';
import type { DaemonParts, DaemonView } from './parts.ts';
import { Audits } from './reconcile/audits.ts';
import type { Claim } from './reconcile/claims.ts';
import type { Diagnostic } from './reconcile/fragment.ts';
import { kindsRead } from './reconcile/module.ts';
import { Reconciler, type TableStatus } from './reconcile/reconciler.ts';
import { Scheduler } from './reconcile/scheduler.ts';
import type { TableName } from './reconcile/tables.ts';
import type { TableChanges } from './reconcile/view.ts';
import { sourceEvents } from './source-events.ts';
import { storeDiagnostics } from './store-diagnostics.ts';

/** Tables behind the BGP speaker: all are another's when the speaker is. */
const BGP_TABLES: readonly TableName[] = ['bgpServer', 'bgpPolicy', 'bgpPath', 'bgpPeer'];

/** What goes with what: a link takes its addresses and the routes that lead over it. */
const DISTURBED_TABLES: Readonly<Record<Disturbance, readonly TableName[]>> = {
  hostLinks: ['link', 'bridgePort', 'lanAddress', 'unicastRoute', 'rule'],
  ownLinks: ['link', 'address', 'route', 'unicastRoute'],
  routes: ['unicastRoute'],
  rules: ['rule', 'markDelivery'],
  lanAddresses: ['lanAddress'],
};

/** Sets and chains that nothing uses any more go along with other changes, or after this many milliseconds: they need no process of their own. */
const LINGER_MS = 5000;
/** A round that lasts longer than this, in milliseconds, is taken for wedged: liveness fails. */
const WEDGED_MS = 10 * 60_000;
/** When a round failed as a whole (a defect), the next try comes after this many milliseconds. */
const DEFECT_PAUSE_MS = 1000;

export class Daemon {
  readonly #parts: DaemonParts;
  readonly #store: Store;
  readonly #heartbeats: Heartbeats;
  readonly #reconciler: Reconciler;
  readonly #scheduler: Scheduler;
  readonly #audits: Audits;
  readonly #reporter: Reporter;
  readonly #abort = new AbortController();
  readonly #degradations: Degradations;
  /** When a round last ended with all as a module wants it. */
  readonly #succeededAt = new Map<string, Instant>();
  #host: HostFacts;
  #rib: Rib;
  #cancelOverdue: (() => void) | undefined;
  #hasConverged = false;
  #roundSince: Instant | undefined;
  /** Who waits for the end of a round to look. */
  readonly #looks: PromiseWithResolvers<readonly TableChanges[]>[] = [];

  constructor(parts: DaemonParts) {
    this.#parts = parts;
    this.#host = parts.host;
    this.#rib = parts.bgp === undefined ? NO_RIB : { ...NO_RIB, isSettled: false };
    this.#degradations = new Degradations(parts.clock);
    this.#reporter = new Reporter(parts.log, parts.metrics, parts.clock);
    this.#store = new Store({
      kinds: kindsRead(parts.modules),
      nodeViewer: new NodeViewer(parts.nodeName),
      onChange: () => {
        this.#changed();
      },
    });
    this.#heartbeats = new Heartbeats({
      clock: parts.clock,
      onChange: () => {
        this.#changed();
      },
    });
    this.#reconciler = new Reconciler({ ...parts, observer: this.#reporter, lingerMs: LINGER_MS });
    this.#scheduler = new Scheduler({ clock: parts.clock, round: () => this.#round() });
    this.#audits = new Audits({
      reconciler: this.#reconciler,
      clock: parts.clock,
      periodMs: parts.auditPeriodMs,
      pace: parts.auditPace,
      onDue: () => {
        this.#scheduler.request();
      },
    });
  }

  start(): void {
    this.#parts.source.start(
      sourceEvents({
        store: this.#store,
        heartbeats: this.#heartbeats,
        reporter: this.#reporter,
        onSight: this.#parts.onSight ?? (() => undefined),
      }),
    );
    this.#audits.start();
    this.#cancelOverdue = this.#parts.clock.after(this.#parts.cacheSyncTimeoutMs, () => {
      this.#tellOverdue();
    });
  }

  /** Addresses or links of the host are now others. */
  hostChanged(facts: HostFacts): void {
    // Where more works than before, what failed for want of it need not wait for its time.
    if (facts.capabilities !== this.#host.capabilities)
      for (const table of this.#reconciler.tables) this.#reconciler.renew(table);
    this.#host = facts;
    this.#changed();
  }

  /**
   * Something on the host may have taken entries of ours with it: they are read back, not believed. Routes that were seen to go (`goneRoutes`, by
   * their keys) may have gone by our own hand, and are then not missed.
   */
  disturbed(what: Disturbance, goneRoutes?: ReadonlySet<string>): void {
    for (const table of DISTURBED_TABLES[what]) {
      if (!this.#reconciler.tables.includes(table)) continue;
      if (what === 'hostLinks') this.#reconciler.renew(table);
      else if (goneRoutes !== undefined) this.#reconciler.suspect(table, goneRoutes);
      else this.#reconciler.audit(table);
    }
    this.#scheduler.request();
  }

  /** What BGP neighbours tell is now other: prefixes with their routes, undefined for none. */
  ribChanged(changes: ReadonlyMap<IpPrefix, LearnedRoute | undefined>, isSettled: boolean): void {
    this.#rib = { routes: patched(this.#rib.routes, changes), isSettled };
    this.#parts.metrics.kubeRouter.learned(changes.size);
    this.#changed();
  }

  /** Somebody else hands out load-balancer addresses, or what was handed over fared otherwise than thought. */
  allocationChanged(): void {
    this.#changed();
  }

  /** We hand out load-balancer addresses from now on: what another one wrote meanwhile is to be read. */
  elected(): void {
    if (this.#reconciler.tables.includes('serviceStatus')) this.#reconciler.renew('serviceStatus');
    this.#changed();
  }

  /** An announced address is on its link no more, since another host answers for it; or may be again. */
  lanMoved(): void {
    this.#reconciler.renew('lanAddress');
    this.#scheduler.request();
  }

  /** The BGP speaker is another one, or answers again: nothing that was known of it counts. */
  speakerChanged(): void {
    for (const table of BGP_TABLES) if (this.#reconciler.tables.includes(table)) this.#reconciler.renew(table);
    this.#changed();
  }

  /** Whether the first round is in: what is wanted and what is there is known. */
  get hasConverged(): boolean {
    return this.#hasConverged;
  }

  /** Entries wanted in a table. */
  wanted(table: TableName): number {
    return this.#reconciler.statusOf(table).wanted;
  }

  /** Whether the kernel has routes of ours to others. */
  hasRoutes(): boolean {
    return this.#reconciler.statusOf('unicastRoute').entries > 0;
  }

  /** Finishes the round under way and leaves the data path in place. */
  async stop(): Promise<void> {
    this.#audits.stop();
    this.#cancelOverdue?.();
    await Promise.all([this.#parts.source.stop(), this.#scheduler.stop()]);
    this.#heartbeats.stop();
    this.#abort.abort();
  }

  health(): Health {
    const { clock } = this.#parts;
    const isLive = this.#roundSince === undefined || clock.now() - this.#roundSince < WEDGED_MS;
    const { isLeaving } = this.#store.nodeView(this.#host);
    return { isLive, isNodeLeaving: isLeaving, modules: this.#moduleHealth() };
  }

  #moduleHealth(): ReadonlyMap<string, ModuleHealth> {
    return this.#degradations.judge({
      modules: this.#parts.modules.map(({ name }) => name),
      hasConverged: this.#hasConverged,
      awaited: this.#awaited(),
      planErrors: this.#reconciler.planErrors(),
      tables: this.#reconciler.status(),
      sources: this.#store.degradations(),
    });
  }

  /** `namespace/name` of the Service that has this virtual server, by `listenerKey`; undefined where there is none. */
  serviceOf(listener: string): string | undefined {
    const owner = this.#reconciler.ownerOf('virtualServer', listener);
    return owner?.kind === 'Service' ? owner.key : undefined;
  }

  /** Milliseconds that the pod with this address may take to end; undefined where none is known to have it. */
  terminationGrace(address: IpAddress): number | undefined {
    const seconds = this.#store.podsAt(address).map(({ terminationGracePeriodSeconds }) => terminationGracePeriodSeconds);
    return seconds.length === 0 ? undefined : Math.max(...seconds) * 1000;
  }

  tables(): readonly TableStatus[] {
    return this.#reconciler.status();
  }

  services(): Snapshot['services'] {
    return this.#store.services();
  }

  /** What a command may look at: the cluster and the host as the last event left them, and what is wanted and believed to be there. */
  view(): DaemonView {
    const moduleNames = this.#parts.modules.map(({ name }) => name);
    return { snapshot: this.#snapshot(), tables: this.#reconciler, diagnostics: this.diagnostics(), moduleNames };
  }

  /** What a round would do now. Looks between two rounds, reads every table back and changes nothing. Rejects before the first round. */
  examine(): Promise<readonly TableChanges[]> {
    if (!this.#hasConverged) {
      const reason = this.#awaited() ?? 'the first round is not in yet';
      return Promise.reject(new FairwayError('FW_DAEMON_REFUSED', `nothing is planned yet: ${reason}`));
    }
    const look = Promise.withResolvers<readonly TableChanges[]>();
    this.#looks.push(look);
    this.#scheduler.request();
    return look.promise;
  }

  /** Of the process and of BGP others know. */
  status(): Omit<StatusReport, 'version' | 'pid' | 'startedAt' | 'bgp' | 'remarks'> {
    const health = this.health();
    const tables = this.tables();
    return {
      node: this.#parts.nodeName,
      at: iso(this.#parts.clock.now()),
      isReady: isReady(health),
      isLive: health.isLive,
      isNodeLeaving: health.isNodeLeaving,
      modules: moduleLines(health),
      cluster: kindsRead(this.#parts.modules).map(kind => ({
        kind,
        objects: this.#count(kind),
        isListed: !this.#store.unlisted().includes(kind),
        trouble: this.#store.degradations().get(kind),
      })),
      rounds: this.#reporter.history.rounds,
      tables: tableLines(tables),
      failures: failureLines(tables),
      drift: this.#reporter.history.drift,
      diagnostics: diagnosticLines(this.diagnostics()),
    };
  }

  #snapshot(): Snapshot {
    const beside = { silentNodes: this.#heartbeats.silent, allocation: this.#parts.allocation?.state() ?? NO_ALLOCATION };
    return this.#store.snapshot(this.#parts.clock.now(), this.#host, this.#rib, beside);
  }

  /** Of what is wanted of a table and is there, that which is meant. */
  inForce(table: TableName, isMeant: (claim: Claim) => boolean): readonly Claim[] {
    return [...this.#reconciler.inForce(table, isMeant)];
  }

  /** When a round last ended with all as this module wants it. */
  succeededAt(module: string): Instant | undefined {
    return this.#succeededAt.get(module);
  }

  /** What is wrong with users' objects: the modules' diagnostics and what projection complained of. */
  diagnostics(): readonly Diagnostic[] {
    const { nodeName, poolsKey } = this.#parts;
    const facts = { store: this.#store, nodeName, host: this.#host, poolsKey };
    return [...storeDiagnostics(facts), ...this.#reconciler.diagnostics()];
  }

  #changed(): void {
    this.#parts.metrics.latency.changed();
    this.#scheduler.request();
  }

  /** kube-router exits here; a node with its data path in place is better served by going on trying. */
  #tellOverdue(): void {
    const awaited = this.#awaited();
    if (awaited !== undefined)
      this.#parts.log.error(`${awaited}: nothing is changed before; still trying`, { code: 'FW_API_UNREACHABLE' });
  }

  /** All modules wait for all kinds: routes and Services that came before policies would open pods. */
  #awaited(): string | undefined {
    const awaited = this.#store.unlisted();
    if (awaited.length === 0) return undefined;
    const reasons = new Set(this.#store.degradations().values());
    return `no full list of ${awaited.join(', ')} yet${reasons.size === 0 ? '' : ` (${[...reasons].join('; ')})`}`;
  }

  async #round(): Promise<Instant | undefined> {
    const { clock, log, metrics } = this.#parts;
    // The start barrier: no plan before every list is full, or a restart would delete what it has not heard of yet.
    if (!this.#store.isSynced()) {
      metrics.latency.forget();
      return undefined;
    }
    const begun = clock.now();
    metrics.latency.begin();
    this.#roundSince = begun;
    this.#parts.allocation?.seen(this.services());
    try {
      const dueAt = await this.#reconciler.round(this.#snapshot(), this.#abort.signal);
      metrics.roundEnded(clock.now() - begun);
      this.#settled();
      this.#parts.onSettled?.();
      this.#lookAfterBgp();
      this.#reporter.history.round(begun, clock.now());
      await this.#answerLooks();
      return dueAt;
    } catch (thrown) {
      if (!this.#abort.signal.aborted) log.error(`a round failed as a whole: ${messageOf(thrown)}`, { code: 'FW_PLAN_FAILED' });
      return instantOf(clock.now() + DEFECT_PAUSE_MS);
    } finally {
      this.#roundSince = undefined;
    }
  }

  async #answerLooks(): Promise<void> {
    const waiting = this.#looks.splice(0);
    if (waiting.length === 0) return;
    const changes = this.#reconciler.examine(this.#abort.signal);
    for (const { resolve } of waiting) resolve(changes);
    await changes.catch(() => undefined);
  }

  #count(kind: Kind): number {
    return kind === 'Lease' ? this.#heartbeats.size : this.#store.size(kind);
  }

  /** Without a session wanted there is nothing to hear: what an earlier run learned is not waited for. */
  #lookAfterBgp(): void {
    if (this.#parts.bgp === undefined) return;
    if (this.wanted('bgpServer') > 0) this.#parts.bgp.need();
    else if (!this.#rib.isSettled) this.ribChanged(new Map(), true);
  }

  #settled(): void {
    const status = this.#reconciler.status();
    const unreadable = status.flatMap(table => (table.unreadable === undefined ? [] : [table.unreadable]));
    const failures = status.flatMap(table => table.failures);
    this.#reporter.settled(failures, unreadable, this.diagnostics());
    this.#parts.metrics.latency.end({
      isComplete:
        this.#reconciler.planErrors().size === 0 &&
        status.every(table => table.unreadable === undefined || table.readAt !== undefined),
      failing: failures,
    });
    const isFirst = !this.#hasConverged;
    this.#hasConverged = true;
    for (const [name, { state }] of this.#moduleHealth())
      if (state === 'ok') this.#succeededAt.set(name, this.#parts.clock.now());
    if (!isFirst) return;
    this.#parts.allocation?.start();
    const entries = status.reduce((sum, table) => sum + table.entries, 0);
    this.#parts.log.info('ready: the first round is in', {
      ...Object.fromEntries(kindsRead(this.#parts.modules).map(kind => [COUNTED_AS[kind], this.#count(kind)])),
      entries,
      ms: Math.round(this.#parts.clock.now() - (this.#roundSince ?? this.#parts.clock.now())),
      failing: failures.length + unreadable.length,
    });
  }
}
