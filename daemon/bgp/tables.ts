/** The drivers of the tables behind BGP: server, policies, paths, peers. Each change is a call or two to the speaker. */
import { asFairwayError, FairwayError } from '../errors.ts';
import { prefixFamily } from '../net/prefix.ts';
import type { ApplyResult, Change, TableDriver } from '../reconcile/driver.ts';
import type { BgpActions, BgpPath, BgpPeer, BgpPolicy, BgpServer, PrefixRange } from '../reconcile/routing-tables.ts';
import { TABLES } from '../reconcile/tables.ts';
import { AUDIENCE_MARKS, communityText } from './audience.ts';
import type { Speaker } from './speaker.ts';

export interface BgpTablesOptions {
  /** The one that answers now; throws FW_BGP_UNREACHABLE while there is none. */
  speaker(): Speaker;
  /** Whether neighbours that are added now are to hear that we restart with our routes kept. */
  isRestarting(): boolean;
  /** The server was stopped and started: it has neither policies nor paths nor peers now. */
  restarted(): void;
  /** Of the port that neighbours call: closed, nobody new is heard. */
  readonly gate: { close(): Promise<void>; open(): Promise<void> };
}

export function bgpServerDriver(options: BgpTablesOptions): TableDriver<BgpServer> {
  return {
    async read(expected, signal) {
      const found = await heard(expected, undefined, () => options.speaker().server(signal));
      if (found === undefined) return new Map();
      const key = TABLES.bgpServer.key(found);
      const wanted = expected.get(key);
      return new Map([[key, wanted !== undefined && TABLES.bgpServer.same(found, wanted) ? wanted : found]]);
    },
    apply: (changes, signal) =>
      oneByOne(changes, signal, async change => {
        const speaker = options.speaker();
        try {
          if (change.op !== 'create') await speaker.stopServer(signal);
          // A gobgpd hangs up on neighbours that it does not know yet, and a GoBGP that is hung up on drops what it kept of us (RFC 4724).
          if (options.isRestarting()) await options.gate.close();
          if (change.op !== 'delete') await speaker.startServer(change.to, signal);
        } finally {
          if (change.op !== 'create') options.restarted();
        }
      }),
    render: changes => lines(changes, renderedServer),
  };
}

function renderedServer(change: Change<BgpServer>): string {
  const stop = change.op === 'create' ? [] : ['gobgp global del all'];
  if (change.op === 'delete') return stop.join('\n');
  const { asn, routerId, port, listenAddresses } = change.to;
  const listening =
    listenAddresses.length === 0 ? 'listen-port -1' : `listen-port ${port} listen-addresses ${listenAddresses.join(',')}`;
  return [...stop, `gobgp global as ${asn} router-id ${routerId} ${listening}`].join('\n');
}

export function bgpPolicyDriver(options: BgpTablesOptions): TableDriver<BgpPolicy> {
  return {
    async read(expected, signal) {
      const found = await heard(expected, [], () => options.speaker().policies(signal));
      return new Map(
        found.map(policy => {
          const key = TABLES.bgpPolicy.key(policy);
          const wanted = expected.get(key);
          return [key, wanted !== undefined && isSamePolicy(policy, wanted) ? wanted : policy];
        }),
      );
    },
    apply: (changes, signal) =>
      oneByOne(changes, signal, change =>
        change.op === 'delete'
          ? options.speaker().deletePolicy(change.from.direction, signal)
          : options.speaker().setPolicy(change.to, signal),
      ),
    render: changes =>
      lines(changes, change => {
        if (change.op === 'delete') return `gobgp global policy ${change.from.direction} del`;
        const { direction, statements, otherwise } = change.to;
        return [
          `gobgp global policy ${direction} set fairway-${direction} default ${otherwise}`,
          ...statements.map(statement => `  ${JSON.stringify(statement)}`),
        ].join('\n');
      }),
  };
}

/** Sets have no order, and what is rejected is not acted on. */
function isSamePolicy(actual: BgpPolicy, desired: BgpPolicy): boolean {
  return TABLES.bgpPolicy.same(normalized(actual), normalized(desired));
}

const UNCHANGED: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };

function normalized({ direction, statements, otherwise }: BgpPolicy): BgpPolicy {
  return {
    direction,
    otherwise,
    statements: statements.map(statement => ({
      ...statement,
      neighbors: statement.neighbors?.toSorted(),
      prefixes: statement.prefixes?.toSorted((one, other) => (rangeText(one) < rangeText(other) ? -1 : 1)),
      actions: statement.verdict === 'reject' ? UNCHANGED : statement.actions,
    })),
  };
}

function rangeText({ prefix, minLength, maxLength }: PrefixRange): string {
  return `${prefix} ${minLength} ${maxLength}`;
}

/** All changes at once; where that is refused, each for itself, so that one bad path stops no other. */
export function bgpPathDriver(options: BgpTablesOptions): TableDriver<BgpPath> {
  const write = async (changes: readonly Change<BgpPath>[], signal: AbortSignal): Promise<void> => {
    await options.speaker().deletePaths(
      changes.flatMap(change => (change.op === 'delete' ? [change.from.prefix] : [])),
      signal,
    );
    await options.speaker().addPaths(
      changes.flatMap(change => (change.op === 'delete' ? [] : [change.to])),
      signal,
    );
  };
  return {
    async read(expected, signal) {
      const found = await heard(expected, [], () => options.speaker().localPaths(signal));
      return new Map(
        found.map(path => {
          const wanted = expected.get(path.prefix);
          return [path.prefix, wanted !== undefined && TABLES.bgpPath.same(path, wanted) ? wanted : path];
        }),
      );
    },
    async apply(changes, signal) {
      try {
        await write(changes, signal);
        return { failed: new Map() };
      } catch (thrown) {
        if (signal.aborted || changes.length === 1 || isUnreachable(thrown)) return failedWith(changes, thrown, signal);
        return oneByOne(changes, signal, change => write([change], signal));
      }
    },
    render: changes => lines(changes, renderedPath),
  };
}

function renderedPath(change: Change<BgpPath>): string {
  const { prefix, nextHop, audience } = change.op === 'delete' ? change.from : change.to;
  const rib = `gobgp global rib -a ${prefixFamily(prefix)}`;
  if (change.op === 'delete') return `${rib} del ${prefix}`;
  return `${rib} add ${prefix} nexthop ${nextHop} community ${communityText(AUDIENCE_MARKS[audience])}`;
}

export function bgpPeerDriver(options: BgpTablesOptions): TableDriver<BgpPeer> {
  return {
    async read(expected, signal) {
      const found = await heard(expected, [], () => options.speaker().peers(signal));
      return new Map(
        found.map(peer => {
          const wanted = expected.get(peer.address);
          return [peer.address, wanted !== undefined && TABLES.bgpPeer.same(peer, wanted) ? wanted : peer];
        }),
      );
    },
    async apply(changes, signal) {
      try {
        return await oneByOne(changes, signal, change => {
          switch (change.op) {
            case 'create':
              return options.speaker().addPeer(change.to, { isRestarting: options.isRestarting() }, signal);
            case 'update':
              return options.speaker().updatePeer(change.from, change.to, signal);
            case 'delete':
              return options.speaker().deletePeer(change.from.address, signal);
          }
        });
      } finally {
        await options.gate.open();
      }
    },
    render: changes => lines(changes, renderedPeer),
  };
}

function renderedPeer(change: Change<BgpPeer>): string {
  if (change.op === 'delete') return `gobgp neighbor del ${change.from.address}`;
  const { address, asn, localAddress, port, password, holdSeconds, multihopTtl, families } = change.to;
  const { gracefulRestart, reflectorClusterId } = change.to;
  return [
    `gobgp neighbor ${change.op === 'create' ? 'add' : 'update'} ${address} as ${asn} port ${port}`,
    ...(localAddress === undefined ? [] : [`local-address ${localAddress}`]),
    `family ${families.map(family => `${family}-unicast`).join(',')} hold-time ${holdSeconds}`,
    ...(multihopTtl === 0 ? [] : [`multihop-ttl ${multihopTtl}`]),
    ...(gracefulRestart === undefined ? [] : [`graceful-restart ${gracefulRestart.restartSeconds}`]),
    ...(reflectorClusterId === undefined ? [] : [`route-reflector-client ${reflectorClusterId}`]),
    ...(password.reveal() === '' ? [] : ['auth-password [hidden]']),
  ].join(' ');
}

function lines<T>(changes: readonly Change<T>[], line: (change: Change<T>) => string): string {
  return changes.map(change => `${line(change)}\n`).join('');
}

/** What the speaker says; where there is none, and nothing is wanted of it, there is nothing: a node without BGP starts none. */
async function heard<T>(expected: ReadonlyMap<string, unknown>, nothing: T, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (thrown) {
    if (expected.size === 0 && isUnreachable(thrown)) return nothing;
    throw thrown;
  }
}

/** One refused entry never stops another; where nobody answers, none is waited for after the first. */
async function oneByOne<T>(
  changes: readonly Change<T>[],
  signal: AbortSignal,
  write: (change: Change<T>) => Promise<void>,
): Promise<ApplyResult> {
  const failed = new Map<string, FairwayError>();
  let silence: FairwayError | undefined;
  for (const change of changes) {
    try {
      if (silence === undefined) await write(change);
      else failed.set(change.key, silence);
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      const error = asFairwayError(thrown, 'FW_BGP_REFUSED');
      failed.set(change.key, error);
      if (isUnreachable(error)) silence = error;
    }
  }
  return { failed };
}

function failedWith<T>(changes: readonly Change<T>[], thrown: unknown, signal: AbortSignal): ApplyResult {
  if (signal.aborted) throw thrown;
  return { failed: new Map(changes.map(({ key }) => [key, asFairwayError(thrown, 'FW_BGP_REFUSED')])) };
}

function isUnreachable(thrown: unknown): boolean {
  return thrown instanceof FairwayError && thrown.code === 'FW_BGP_UNREACHABLE';
}
