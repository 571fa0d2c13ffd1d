/** The driver of routes: ip-route(8), those of the table `local` on our links that are not the kernel's own. */
import { FairwayError } from '../errors.ts';
import { familyOf, type IpAddress, parseAddress } from '../net/address.ts';
import { hostPrefix, prefixAddress, prefixFamily } from '../net/prefix.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type LinkAddress, LOCAL_TABLE, type Route, TABLES } from '../reconcile/tables.ts';
import { additionOf, hostAddressOf, type IpDriverOptions } from './ip.ts';
import { applyBatch, withUsableLinks } from './ip-batch.ts';

/**
 * For every address on a link the kernel has a route of type local. In IPv4 it names the address itself as the source; that is how it is
 * told from ours and kube-router's, which replace it. In IPv6 it has metric 0, which no one else can give: other routes are asked
 * after it, so that the kernel's own must go for ours to be in force. When an address goes, the kernel takes away its own route only.
 */
export function routeDriver({ runner, ownLinks }: IpDriverOptions): TableDriver<Route> {
  const read = async (expected: ReadonlyMap<string, Route>, signal: AbortSignal): Promise<ReadonlyMap<string, Route>> => {
    const found = new Map<string, Route>();
    for (const link of ownLinks) {
      const { ours, kernels } = await readRoutes(link, signal);
      // Asked only where there is something of ours, which is hardly ever.
      const addresses = ours.length === 0 ? NO_ADDRESSES : await readAddresses(link, signal);
      for (const { destination, source } of ours) {
        const standsFor = addresses.has(destination) && !kernels.has(destination) ? 'address' : 'nothing';
        const route = localRoute(destination, link, source, standsFor);
        const key = TABLES.route.key(route);
        const known = expected.get(key);
        found.set(key, known !== undefined && TABLES.route.same(route, known) ? known : route);
      }
    }
    return found;
  };

  const readRoutes = async (link: string, signal: AbortSignal): Promise<LocalRoutes> => {
    const ours: LocalRouteLine[] = [];
    const kernels = new Set<IpAddress>();
    await linesOfLink(
      ['ip', '-o', 'route', 'show', 'table', 'all', 'dev', link, 'type', 'local'],
      line => {
        const route = localRouteOf(line);
        if (route?.madeBy === 'kernel') kernels.add(route.destination);
        else if (route !== undefined) ours.push(route);
      },
      signal,
    );
    return { ours, kernels };
  };

  const readAddresses = async (link: string, signal: AbortSignal): Promise<ReadonlySet<IpAddress>> => {
    const addresses = new Set<IpAddress>();
    await linesOfLink(
      ['ip', '-o', 'addr', 'show', 'dev', link],
      line => {
        const entry = hostAddressOf(line, link, NO_ENTRIES);
        if (entry !== undefined) addresses.add(entry.address);
      },
      signal,
    );
    return addresses;
  };

  const linesOfLink = async (
    argv: readonly [string, ...string[]],
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<void> => {
    const result = await runner.lines({ argv }, onLine, signal);
    if (result.status !== 0 && !/does not exist|Cannot find device/.test(result.stderr)) {
      throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    }
  };

  const readAnew = (signal: AbortSignal): Promise<ReadonlyMap<string, Route>> => read(new Map<string, Route>(), signal);

  return {
    read,
    /** What a delete must leave is a matter of what is there at that moment, so that is looked at first. */
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, route => route.link);
      if (usable.length === 0) return { failed };
      let there: ReadonlyMap<string, Route>;
      try {
        there = await readAnew(signal);
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        for (const change of usable) failed.set(change.key, thrown);
        return { failed };
      }
      const due = usable.flatMap(change => changeFrom(there.get(change.key), change));
      const batch = { runner, nameOf, read: readAnew };
      const first = await applyBatch(
        { ...batch, linesOf: change => stepsOf(change).first, isDone: isFirstStepDone },
        due,
        signal,
      );
      const further = due.filter(change => !first.failed.has(change.key) && stepsOf(change).last.length > 0);
      const last = await applyBatch({ ...batch, linesOf: change => stepsOf(change).last, isDone: isInForce }, further, signal);
      return { failed: new Map([...failed, ...first.failed, ...last.failed]) };
    },
    render(changes) {
      const steps = changes.map(stepsOf);
      const lines = [...steps.flatMap(({ first }) => first), ...steps.flatMap(({ last }) => last)];
      return lines.map(line => `${line}\n`).join('');
    },
  };
}

function nameOf({ destination, link }: Route): string {
  return `local route ${destination} on '${link}'`;
}

const NO_ADDRESSES: ReadonlySet<IpAddress> = new Set();
const NO_ENTRIES: ReadonlyMap<string, LinkAddress> = new Map();

/** A host route of the table `local` as `ip -o route` prints it. */
interface LocalRouteLine {
  readonly destination: IpAddress;
  readonly source: IpAddress | undefined;
  /** The kernel for an address, or a program in its place (metric 1024 is what the kernel gives an IPv6 route that asks for none). */
  readonly madeBy: 'kernel' | 'program';
}

interface LocalRoutes {
  readonly ours: readonly LocalRouteLine[];
  readonly kernels: ReadonlySet<IpAddress>;
}

const PROGRAM_METRIC = 1024;

/**
 * The route of a line of `ip -o route show table all dev LINK type local`, or undefined where it is a network's or no one's we know:
 * `local 10.96.0.1 table local proto kernel scope host src 192.168.1.11`,
 * `local fd00::1 table local proto static src fd00:1::11 metric 1024 pref medium`.
 */
export function localRouteOf(line: string): LocalRouteLine | undefined {
  const [, text, attributes] = /^local ([0-9a-f.:]+) table local (.*)$/.exec(line) ?? [];
  if (text === undefined || attributes === undefined) return undefined;
  const destination = parseAddress(text);
  if (destination === undefined) return undefined;
  const source = parseAddress(/(?:^| )src (\S+)/.exec(attributes)?.[1] ?? '');
  if (familyOf(destination) === 'ipv4') {
    if (source === undefined) return undefined;
    return { destination, source, madeBy: source === destination ? 'kernel' : 'program' };
  }
  const metric = Number(/(?:^| )metric ([0-9]+)/.exec(attributes)?.[1] ?? 0);
  if (metric !== 0 && metric !== PROGRAM_METRIC) return undefined;
  return { destination, source, madeBy: metric === 0 ? 'kernel' : 'program' };
}

function localRoute(destination: IpAddress, link: string, source: IpAddress | undefined, standsFor: Route['standsFor']): Route {
  return { type: 'local', table: LOCAL_TABLE, destination: hostPrefix(destination), link, source, standsFor };
}

/** The same change with what is there now as its start; none where a delete has nothing to do. */
function changeFrom(from: Route | undefined, change: Change<Route>): readonly Change<Route>[] {
  const { key } = change;
  if (change.op === 'delete') return from === undefined ? [] : [{ op: 'delete', key, from }];
  const { to } = change;
  return from === undefined ? [{ op: 'create', key, to }] : [{ op: 'update', key, from, to }];
}

function isInForce(change: Change<Route>, found: ReadonlyMap<string, Route>): boolean {
  const there = found.get(change.key);
  if (change.op === 'delete') return there === undefined;
  return there !== undefined && TABLES.route.same(there, change.to);
}

function isFirstStepDone(change: Change<Route>, found: ReadonlyMap<string, Route>): boolean {
  if (stepsOf(change).last.length === 0) return isInForce(change, found);
  const there = found.get(change.key);
  if (change.op === 'delete') return there === undefined || there.standsFor === 'nothing';
  return there !== undefined && there.source === change.to.source && there.link === change.to.link;
}

/** Lines of two batches: what `last` takes away must not go where `first` was refused, or the address would be without a route. */
interface Steps {
  readonly first: readonly string[];
  readonly last: readonly string[];
}

function stepsOf(change: Change<Route>): Steps {
  return change.op === 'delete' ? deleteSteps(change.from) : upsertSteps(change);
}

/** `proto static` tells our IPv6 route from the kernel's own, which a delete cannot name by its metric: 0 is any. */
function upsertSteps(change: Exclude<Change<Route>, { op: 'delete' }>): Steps {
  const { to } = change;
  const where = placeOf(to);
  const source = to.source === undefined ? '' : ` src ${to.source}`;
  // With an address, a route that stands for nothing is beside the kernel's own.
  const isBeside = change.op === 'update' && change.from.standsFor === 'nothing';
  if (prefixFamily(to.destination) === 'ipv4') {
    const removal = isBeside ? [`route del ${where} src ${prefixAddress(to.destination)}`] : [];
    return { first: [...removal, `route replace ${where} proto kernel scope host${source}`], last: [] };
  }
  return {
    first: [`route replace ${where} proto static metric ${PROGRAM_METRIC}${source}`],
    last: change.op === 'create' || isBeside ? [`route del ${where} proto kernel`] : [],
  };
}

function deleteSteps(from: Route): Steps {
  const where = placeOf(from);
  const address = prefixAddress(from.destination);
  const isIpv4 = prefixFamily(from.destination) === 'ipv4';
  const removal = `route del ${where} ${isIpv4 ? `src ${from.source ?? address}` : `metric ${PROGRAM_METRIC}`}`;
  if (from.standsFor === 'nothing') return { first: [removal], last: [] };
  if (isIpv4) return { first: [`route replace ${where} proto kernel scope host src ${address}`], last: [] };
  // Only the kernel can make its own IPv6 route, for an address that comes.
  return {
    first: [`addr del ${from.destination} dev ${from.link}`, additionOf({ address, link: from.link })],
    last: [removal],
  };
}

function placeOf({ destination, link }: Route): string {
  return `local ${destination} dev ${link} table local`;
}
