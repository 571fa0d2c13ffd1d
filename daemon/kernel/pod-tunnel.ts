/** The driver of direct server return's tunnels in pods: ip-link(8) and ip-address(8) within their network namespaces, by nsenter(1). */
import { asFairwayError, FairwayError } from '../errors.ts';
import type { IpAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { inParallel } from '../net/in-parallel.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type PodTunnel, podTunnelKey } from '../reconcile/service-tables.ts';
import type { CommandRunner } from './command.ts';
import { type PodSandbox, type Sandboxes, sandboxesOf } from './cri.ts';
import { isStillThere, namespaceOf, type PodNamespace } from './pod-namespace.ts';
import { bringAbout, type PodTask } from './pod-tunnel-apply.ts';
import { type PodVips, podOf, renderChanges } from './pod-tunnel-lines.ts';
import { type PodTunnelRecord, readRecords, renderRecords, writeRecords } from './pod-tunnel-record.ts';
import { lookInto, type PodState } from './pod-tunnel-state.ts';
import type { StateFile } from './state-file.ts';

export interface PodTunnelOptions {
  readonly runner: CommandRunner;
  readonly clock: Clock;
  /** The container runtime's: `unix:///PATH` or `/PATH`; empty for the usual ones. */
  readonly criSocket: string;
  /** Of what is set up in which pod; kept over restarts of the daemon, not over those of the machine. */
  readonly records: StateFile;
  /** In place of the container runtime, for tests. */
  readonly sandboxes?: Sandboxes;
}

/** Pods looked into or changed at once. */
const AT_ONCE = 4;

type Records = ReadonlyMap<IpAddress, PodTunnelRecord>;

/** What the driver sees of one pod, and the record it is to have from now on. */
interface Seen {
  readonly entry?: PodVips;
  readonly record?: PodTunnelRecord;
}

/** What is asked of one pod at once. */
interface PodRequest {
  readonly pod: IpAddress;
  readonly added: ReadonlySet<IpAddress>;
  readonly removed: ReadonlySet<IpAddress>;
}

/**
 * A pod is found by its address at the container runtime; a namespace that does not have the address is never touched. What is set up is recorded before a
 * pod is touched: tunnels of pods that nobody wants one in are known by the record alone. A tunnel that kube-router made in a pod that wants one is taken over.
 *
 * One that is wanted counts as missing while it is not as we make it, down, filtered (rp_filter), or in another namespace than the one the runtime has
 * under the address now; creating brings about what is missing. A pod that is gone has nothing to be deleted.
 */
export function podTunnelDriver(options: PodTunnelOptions): TableDriver<PodTunnel> {
  const { runner, clock, criSocket, records: file } = options;
  const sandboxes = options.sandboxes ?? sandboxesOf({ socket: criSocket, clock });

  const readPod = async (
    pod: IpAddress,
    wanted: PodVips | undefined,
    record: PodTunnelRecord | undefined,
    runtime: ReadonlyMap<IpAddress, PodSandbox>,
    signal: AbortSignal,
  ): Promise<Seen> => {
    const known = record !== undefined && (await isStillThere(record.namespace)) ? record : undefined;
    if (wanted === undefined) return known === undefined ? {} : await readLeftover(known, signal);
    const sandbox = runtime.get(pod);
    const namespace = (sandbox && (await namespaceOf(sandbox).catch(ifFairway))) ?? known?.namespace;
    const state = namespace && (await lookInto(runner, namespace, pod, signal).catch(unlessToolMissing));
    const kept = known === undefined ? {} : { record: known };
    if (namespace === undefined || state === undefined || !isSound(state)) return kept;
    const entry = { pod, vips: state.tunnel.vips };
    const isRecorded = known?.namespace.inode === namespace.inode;
    return {
      entry,
      // kube-router's from here on is ours. How the filters were before it nobody knows.
      record: isRecorded ? known : { pod, namespace, vips: entry.vips, rpFilter: {} },
    };
  };

  /** Of a pod that wants nothing (any more): told while its namespace is there, so that filters are put back even where the link was never made. */
  const readLeftover = async (record: PodTunnelRecord, signal: AbortSignal): Promise<Seen> => {
    const { pod, namespace } = record;
    const state = await lookInto(runner, namespace, pod, signal).catch(unlessToolMissing);
    if (state !== undefined && !state.hasPodAddress) return {};
    const vips = state !== undefined && typeof state.tunnel !== 'string' ? state.tunnel.vips : [];
    return { entry: { pod, vips: vips.length > 0 ? vips : record.vips }, record };
  };

  /** Looks at the pod; undefined where it is gone and nothing is wanted of it. Throws a FairwayError that names the reason. */
  const taskFor = async (
    request: PodRequest,
    records: Records,
    runtime: () => Promise<ReadonlyMap<IpAddress, PodSandbox>>,
    signal: AbortSignal,
  ): Promise<PodTask | undefined> => {
    const { pod, added } = request;
    const record = records.get(pod);
    const known = record !== undefined && (await isStillThere(record.namespace)) ? record : undefined;
    const isDeletion = added.size === 0;
    if (isDeletion && record !== undefined && known === undefined) return undefined;
    const namespace = isDeletion && known !== undefined ? known.namespace : await wantedNamespace(pod, known, runtime);
    if (namespace === undefined) {
      if (isDeletion) return undefined;
      throw new FairwayError('FW_COMMAND_FAILED', `no sandbox of the container runtime has the address ${pod} (yet)`);
    }
    const state = await lookInto(runner, namespace, pod, signal);
    if (!state.hasPodAddress) {
      if (isDeletion) return undefined;
      const where = `the network namespace ${namespace.path} of sandbox ${namespace.sandbox}`;
      throw new FairwayError('FW_COMMAND_FAILED', `${where} does not have the address ${pod} (yet): nothing was changed in it`);
    }
    const same = known?.namespace.inode === namespace.inode ? known : undefined;
    const change = changeFrom(same?.vips ?? vipsIn(state), request);
    return { change, namespace, state, rpFilter: { ...filtersToRestore(state), ...same?.rpFilter } };
  };

  /** Gives what failed, by pod. */
  const applyWith = async (
    requests: readonly PodRequest[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<IpAddress, FairwayError>> => {
    const failed = new Map<IpAddress, FairwayError>();
    const records = await readRecords(file);
    let asked: Promise<ReadonlyMap<IpAddress, PodSandbox>> | undefined;
    const runtime = (): Promise<ReadonlyMap<IpAddress, PodSandbox>> => (asked ??= sandboxes(signal));
    /** Undefined where it failed, as `failed` tells then, or where there is nothing to do. */
    const attempt = async <R>(pod: IpAddress, work: () => Promise<R>): Promise<R | undefined> => {
      try {
        return await work();
      } catch (thrown) {
        signal.throwIfAborted();
        failed.set(pod, asFairwayError(thrown, 'FW_COMMAND_FAILED'));
        return undefined;
      }
    };
    const tasks = await inParallel(requests, AT_ONCE, request =>
      attempt(request.pod, () => taskFor(request, records, runtime, signal)),
    );
    const due = tasks.filter(task => task !== undefined);
    const during = new Map(records);
    for (const { change, namespace, rpFilter } of due) {
      const pod = podOf(change);
      if (change.op !== 'delete') during.set(pod, { pod, namespace, vips: change.to.vips, rpFilter });
    }
    await writeIfNew(file, records, during);
    await inParallel(due, AT_ONCE, task => attempt(podOf(task.change), () => bringAbout(runner, task, signal)));
    const after = new Map(during);
    const ending = new Set(due.filter(({ change }) => change.op !== 'delete').map(({ change }) => podOf(change)));
    for (const { pod, added } of requests) if (added.size === 0 && !failed.has(pod) && !ending.has(pod)) after.delete(pod);
    await writeIfNew(file, during, after);
    return failed;
  };

  return {
    async read(expected, signal) {
      const records = await readRecords(file);
      // A runtime that does not answer makes nothing missing that the record knows to be there; where more is needed, applying says what it said.
      const runtime = expected.size === 0 ? new Map() : ((await sandboxes(signal).catch(ifFairway)) ?? new Map());
      const wanted = vipsByPod(expected.values());
      const pods = [...new Set([...records.keys(), ...wanted.keys()])];
      const seen = await inParallel(pods, AT_ONCE, pod => readPod(pod, wanted.get(pod), records.get(pod), runtime, signal));
      const kept = new Map(seen.flatMap(({ record }) => (record === undefined ? [] : [[record.pod, record]])));
      await writeIfNew(file, records, kept);
      const found = seen.flatMap(({ entry }) => entry?.vips.map((vip): PodTunnel => ({ pod: entry.pod, vip })) ?? []);
      return new Map(found.map(tunnel => [podTunnelKey(tunnel), expected.get(podTunnelKey(tunnel)) ?? tunnel]));
    },
    async apply(changes, signal) {
      if (changes.length === 0) return { failed: new Map() };
      const failedOf = (byPod: ReadonlyMap<IpAddress, FairwayError>): ReadonlyMap<string, FairwayError> =>
        new Map(changes.flatMap(change => [[change.key, byPod.get(tunnelOf(change).pod)] as const]).filter(isGiven));
      const requests = requestsOf(changes);
      try {
        return { failed: failedOf(await applyWith(requests, signal)) };
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        return { failed: failedOf(new Map(requests.map(({ pod }) => [pod, thrown]))) };
      }
    },
    render: changes => renderChanges(requestsOf(changes).map(request => changeFrom([...request.removed], request))),
  };
}

function isGiven<K, V>(pair: readonly [K, V | undefined]): pair is readonly [K, V] {
  return pair[1] !== undefined;
}

function tunnelOf(change: Change<PodTunnel>): PodTunnel {
  return change.op === 'delete' ? change.from : change.to;
}

function vipsByPod(tunnels: Iterable<PodTunnel>): ReadonlyMap<IpAddress, PodVips> {
  const byPod = new Map<IpAddress, IpAddress[]>();
  for (const { pod, vip } of tunnels) byPod.set(pod, [...(byPod.get(pod) ?? []), vip]);
  return new Map([...byPod].map(([pod, vips]) => [pod, { pod, vips: vips.sort() }]));
}

function requestsOf(changes: readonly Change<PodTunnel>[]): readonly PodRequest[] {
  const isDeletion = ({ op }: Change<PodTunnel>): boolean => op === 'delete';
  const added = vipsByPod(changes.filter(change => !isDeletion(change)).map(tunnelOf));
  const removed = vipsByPod(changes.filter(isDeletion).map(tunnelOf));
  return [...new Set([...added.keys(), ...removed.keys()])].map(pod => ({
    pod,
    added: new Set(added.get(pod)?.vips),
    removed: new Set(removed.get(pod)?.vips),
  }));
}

/** What becomes of a pod that has these addresses. Without any, it has no tunnel. */
function changeFrom(there: readonly IpAddress[], { pod, added, removed }: PodRequest): Change<PodVips> {
  const kept = there.filter(vip => !removed.has(vip) && !added.has(vip));
  const to: PodVips = { pod, vips: [...kept, ...added].sort() };
  const from: PodVips = { pod, vips: there };
  if (to.vips.length === 0) return { op: 'delete', key: pod, from };
  return there.length === 0 ? { op: 'create', key: pod, to } : { op: 'update', key: pod, from, to };
}

function vipsIn({ tunnel }: PodState): readonly IpAddress[] {
  return typeof tunnel === 'string' ? [] : tunnel.vips;
}

/** Where the runtime has the pod now; where it does not answer, or does not know the pod, where it was. */
async function wantedNamespace(
  pod: IpAddress,
  known: PodTunnelRecord | undefined,
  runtime: () => Promise<ReadonlyMap<IpAddress, PodSandbox>>,
): Promise<PodNamespace | undefined> {
  try {
    const sandbox = (await runtime()).get(pod);
    return sandbox === undefined ? known?.namespace : await namespaceOf(sandbox);
  } catch (thrown) {
    if (known === undefined || !(thrown instanceof FairwayError)) throw thrown;
    return known.namespace;
  }
}

/** A tunnel that takes packets in and lets them through. */
function isSound(state: PodState): state is PodState & { readonly tunnel: Exclude<PodState['tunnel'], string> } {
  const { hasPodAddress, tunnel, rpFilter } = state;
  if (!hasPodAddress || typeof tunnel === 'string') return false;
  return tunnel.isAsMade && tunnel.isUp && tunnel.vips.length > 0 && [...rpFilter.values()].every(value => value === 0);
}

/** Those that are on. The tunnel's own goes with it. */
function filtersToRestore({ rpFilter }: PodState): Readonly<Record<string, number>> {
  return Object.fromEntries([...rpFilter].filter(([name, value]) => (name === 'all' || name === 'eth0') && value !== 0));
}

async function writeIfNew(file: StateFile, before: Records, after: Records): Promise<void> {
  if (renderRecords(before) !== renderRecords(after)) await writeRecords(file, after);
}

/** One pod that cannot be looked into stops no other; applying names it. */
function ifFairway(thrown: unknown): undefined {
  if (!(thrown instanceof FairwayError)) throw thrown;
}

/** Without nsenter or ip no pod can be looked into: that is a matter of the table. */
function unlessToolMissing(thrown: unknown): undefined {
  if (!(thrown instanceof FairwayError) || thrown.code === 'FW_CAPABILITY_TOOL_MISSING') throw thrown;
}
