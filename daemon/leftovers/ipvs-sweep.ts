/** Virtual services of a predecessor, and the dummy link with their addresses. While our service proxy is at work both are its, or the addresses must be on its link first. */
import { FairwayError, messageOf } from '../errors.ts';
import { connectionsOf } from '../kernel/ipvs-connections.ts';
import { ipvsDriver } from '../kernel/ipvsadm.ts';
import type { ReadLines } from '../kernel/text-lines.ts';
import { parseAddress } from '../net/address.ts';
import type { VirtualServer } from '../reconcile/tables.ts';
import { KUBE_PROXY } from './kube-proxy.ts';
import { KUBE_ROUTER } from './kube-router.ts';
import type { Ground, Swept } from './sweeping.ts';
import type { Ours, StandingAddress, Traces } from './traces.ts';

type Servers = ReadonlyMap<string, VirtualServer>;

export interface IpvsSweepOptions {
  readonly ground: Ground;
  readonly traces: Traces;
  readonly ours: Ours;
  /** Of virtual services of direct server return. */
  readonly marks: ReadonlySet<number>;
  readonly readLines: ReadLines;
}

/** Gives the marks whose virtual services stay. */
export async function sweepIpvs(options: IpvsSweepOptions, swept: Swept, signal: AbortSignal): Promise<ReadonlySet<number>> {
  const { ground, traces, ours } = options;
  const driver = ipvsDriver({ ...ground, readLines: options.readLines });
  const servers = await driver.read(new Map(), signal).catch((thrown: unknown): Servers => {
    if (signal.aborted || !isAbsent(thrown)) throw thrown;
    return new Map();
  });
  const addresses = await addressesOf(ground, signal);
  const used = await markedServersInUse(options, servers, swept, signal);
  const isMarked = ({ listener }: VirtualServer): boolean => listener.by === 'mark' && options.marks.has(listener.mark);
  const doomed = new Set([
    ...[...servers].flatMap(([key, server]) => (isMarked(server) && !used.has(key) ? [key] : [])),
    ...(ours.services ? [] : addressServers(traces, servers, addresses)),
  ]);
  const deletes = [...servers].flatMap(([key, from]) => (doomed.has(key) ? [{ op: 'delete' as const, key, from }] : []));
  if (deletes.length > 0) {
    const { failed } = await driver.apply(deletes, signal);
    swept.removed('virtual services', deletes.length - failed.size);
    for (const [key, error] of failed) swept.remains(`virtual service ${key}: ${error.message}`);
  }
  if (!ours.services) await removeDummy(ground, traces, swept, signal);
  else if (traces.dummy !== OURS) await handOver(ground, traces, servers, addresses, swept, signal);
  return new Set(used.values());
}

/** The dummy link that our service proxy uses, which is kube-router's by name. */
const OURS = KUBE_ROUTER.dummy;

/**
 * Virtual services by mark that somebody uses, with their marks. A connection ends with the service that it belongs to; so they stay as long as it lasts,
 * where our service proxy delivers its packets. No new connection comes to them: no rule sets their marks any more.
 */
async function markedServersInUse(
  { marks, ours, readLines }: IpvsSweepOptions,
  servers: Servers,
  swept: Swept,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const used = new Map<string, number>();
  if (!ours.services || marks.size === 0) return used;
  const connections = await connectionsOf(readLines, new Set(servers.keys()), signal);
  for (const [key, { listener }] of servers) {
    if (listener.by !== 'mark' || !marks.has(listener.mark)) continue;
    // One that the kernel does not list with its endpoints is not known to have no connections.
    const listed = connections.get(key);
    const count = [...(listed?.values() ?? [])].reduce((sum, each) => sum + each, 0);
    if (listed !== undefined && count === 0) continue;
    if (listed === undefined && servers.get(key)?.destinations.length === 0) continue;
    used.set(key, listener.mark);
    const how = listed === undefined ? 'its connections could not be counted' : `${count} connections go on by it`;
    swept.remains(`virtual service ${key}: ${how}; try again when they have ended`);
  }
  return used;
}

/** Those on addresses of their dummy link; those of node ports, unless the other predecessor's link is there as well. */
function addressServers(traces: Traces, servers: Servers, addresses: readonly StandingAddress[]): readonly string[] {
  const on = (link: string): ReadonlySet<string> =>
    new Set(addresses.flatMap(standing => (standing.link === link ? [standing.address] : [])));
  const virtual = on(traces.dummy);
  const others = on(traces === KUBE_ROUTER ? KUBE_PROXY.dummy : KUBE_ROUTER.dummy);
  if (virtual.size === 0) return [];
  const all = new Set(addresses.map(({ address }) => String(address)));
  const isTheirs = (address: string): boolean => virtual.has(address) || (others.size === 0 && all.has(address));
  return [...servers].flatMap(([key, { listener }]) => (listener.by === 'address' && isTheirs(listener.address) ? [key] : []));
}

/** Their link goes when all of its addresses that anybody serves are on ours: the host has each at every moment. */
async function handOver(
  ground: Ground,
  traces: Traces,
  servers: Servers,
  addresses: readonly StandingAddress[],
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  const served = new Set([...servers.values()].flatMap(({ listener }) => (listener.by === 'address' ? [listener.address] : [])));
  const held = new Set(addresses.flatMap(({ link, address }) => (link === OURS ? [address] : [])));
  const missing = addresses.filter(({ link, address }) => link === traces.dummy && served.has(address) && !held.has(address));
  const [first] = missing;
  if (first === undefined) await removeDummy(ground, traces, swept, signal);
  else
    swept.remains(
      `link ${traces.dummy}: ${missing.length} of its addresses (${first.address}) are not on ${OURS} yet: Fairway's service proxy must run here first`,
    );
}

async function removeDummy({ runner }: Ground, traces: Traces, swept: Swept, signal: AbortSignal): Promise<void> {
  const { status, stderr } = await runner.run({ argv: ['ip', 'link', 'delete', 'dev', traces.dummy, 'type', 'dummy'] }, signal);
  if (status === 0) swept.removed('links', 1);
  else if (!/Cannot find device|does not exist/.test(stderr)) swept.remains(`link ${traces.dummy}: ${messageOf(stderr)}`);
}

/** Every address of the host. */
async function addressesOf({ runner }: Ground, signal: AbortSignal): Promise<readonly StandingAddress[]> {
  const found: StandingAddress[] = [];
  const onLine = (line: string): void => {
    const [, link = '', text = ''] = /^[0-9]+: ([^\s:@]+)\s+inet6? ([0-9a-f.:]+)/.exec(line) ?? [];
    const address = parseAddress(text);
    if (address !== undefined) found.push({ link, address });
  };
  const argv = ['ip', '-o', 'addr', 'show'] as const;
  const { status, stderr } = await runner.lines({ argv }, onLine, signal);
  if (status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${stderr.trim()}`);
  return found;
}

function isAbsent(thrown: unknown): boolean {
  return (
    thrown instanceof FairwayError && (thrown.code === 'FW_CAPABILITY_KERNEL' || thrown.code === 'FW_CAPABILITY_TOOL_MISSING')
  );
}
