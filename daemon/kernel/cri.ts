/** Which sandbox of the container runtime has an address, and where its network namespace is: asked over the CRI, the socket that the kubelet uses. */
import { stat } from 'node:fs/promises';
import type { Client, requestCallback, ServiceError } from '@grpc/grpc-js';
import { FairwayError, messageOf } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { Clock } from '../net/clock.ts';
import { inParallel } from '../net/in-parallel.ts';
import {
  CRI_METHODS,
  decodeListResponse,
  decodeStatusResponse,
  encodeListRequest,
  encodeStatusRequest,
  type ListedSandbox,
  type SandboxStatus,
} from './cri-messages.ts';

/** A pod as the container runtime knows it. */
export interface PodSandbox {
  readonly id: string;
  /** Where its network namespace may be found, the best first; empty where the runtime does not say. */
  readonly namespacePaths: readonly string[];
}

/** Sandboxes that are ready, by each of their addresses. Throws a FairwayError where the runtime cannot be asked. */
export type Sandboxes = (signal: AbortSignal) => Promise<ReadonlyMap<IpAddress, PodSandbox>>;

export interface CriOptions {
  /** `unix:///PATH` or `/PATH`; empty for the first of {@link WELL_KNOWN_SOCKETS} that answers. */
  readonly socket: string;
  /** Limits run by it: gRPC's own deadlines are points of the wall clock, which may be set. */
  readonly clock: Clock;
}

export const WELL_KNOWN_SOCKETS = [
  '/run/containerd/containerd.sock',
  '/run/crio/crio.sock',
  '/var/run/cri-dockerd.sock',
] as const;

/** Milliseconds for one answer: a runtime that pulls images and starts pods takes its time. */
const LIMIT_MS = 10_000;
/** Statuses asked for at once: at the start that is every pod of the node. */
const AT_ONCE = 4;
/** Codes of gRPC (its module is not there until the first call). */
const CODE = { cancelled: 1, unimplemented: 12, unavailable: 14 } as const;

interface KnownSandbox {
  readonly sandbox: PodSandbox;
  readonly ips: readonly IpAddress[];
}

type Grpc = typeof import('@grpc/grpc-js');
interface Connection {
  readonly grpc: Grpc;
  readonly client: Client;
  readonly path: string;
}

/** Each call lists the sandboxes; the status of each, which does not change, is asked for once. Nothing is opened before the first call. */
export function sandboxesOf(options: CriOptions): Sandboxes {
  const connections = new Map<string, Connection>();
  let known: ReadonlyMap<string, KnownSandbox> = new Map();

  const connect = async (path: string): Promise<Connection> => {
    const open = connections.get(path);
    if (open !== undefined) return open;
    // A tenth of the daemon's memory, for nodes with direct server return only.
    const grpc = await import('@grpc/grpc-js');
    const client = new grpc.Client(`unix://${path}`, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': -1,
      // A runtime that is being restarted is tried again at once, not in two minutes.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
    });
    const connection = { grpc, client, path };
    connections.set(path, connection);
    return connection;
  };

  const call = <R>(
    { grpc, client, path }: Connection,
    method: string,
    request: Buffer,
    decode: (bytes: Uint8Array) => R,
    signal: AbortSignal,
  ): Promise<R> => {
    signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const callback: requestCallback<R> = (error, answer) => {
        stop();
        signal.removeEventListener('abort', cancel);
        if (signal.aborted) reject(signal.reason as Error);
        else if (error !== null) reject(new CallError(path, error));
        else resolve(answer as R);
      };
      const cancel = (): void => started.cancel();
      const stop = options.clock.after(LIMIT_MS, cancel);
      signal.addEventListener('abort', cancel, { once: true });
      const started = client.makeUnaryRequest(method, bytes => bytes, decode, request, new grpc.Metadata(), {}, callback);
    });
  };

  /** Undefined for one that went in between, or that the runtime cannot speak of: that is no matter of other pods. */
  const statusOf = async (connection: Connection, id: string, signal: AbortSignal): Promise<SandboxStatus | undefined> => {
    try {
      return await call(connection, CRI_METHODS.podSandboxStatus, encodeStatusRequest(id), decodeStatusResponse, signal);
    } catch (thrown) {
      if (thrown instanceof CallError && !thrown.isSilence) return undefined;
      throw thrown;
    }
  };

  const ask = async (path: string, signal: AbortSignal): Promise<ReadonlyMap<IpAddress, PodSandbox>> => {
    const connection = await connect(path);
    const listed = await call(connection, CRI_METHODS.listPodSandbox, encodeListRequest(), decodeListResponse, signal);
    const next = new Map<string, KnownSandbox>();
    await inParallel(listed, AT_ONCE, async ({ id }) => {
      const before = known.get(id);
      const status = before === undefined ? await statusOf(connection, id, signal) : undefined;
      if (before !== undefined) next.set(id, before);
      else if (status !== undefined && isSettled(status)) next.set(id, knownOf(id, status));
    });
    // What is no longer listed is forgotten.
    known = next;
    return byAddress(listed, next);
  };

  return async signal => {
    const paths = await socketsOf(options.socket);
    for (const [index, path] of paths.entries()) {
      try {
        return await ask(path, signal);
      } catch (thrown) {
        if (!(thrown instanceof CallError)) throw thrown;
        // Docker's containerd has a socket of that name and no CRI on it.
        if (index === paths.length - 1 || !thrown.isForeign) throw thrown.inOurWords();
      }
    }
    throw noSocket(options.socket);
  };
}

/** With all addresses it will have. */
function isSettled({ ips, isOnHostNetwork }: SandboxStatus): boolean {
  return ips.length > 0 || isOnHostNetwork;
}

function knownOf(id: string, { ips, isOnHostNetwork, info }: SandboxStatus): KnownSandbox {
  return {
    sandbox: { id, namespacePaths: namespacePathsOf(info) },
    ips: isOnHostNetwork ? [] : ips.flatMap(ip => parseAddress(ip) ?? []),
  };
}

/** Of two with one address (the older is being ended) the newer. */
function byAddress(
  listed: readonly ListedSandbox[],
  known: ReadonlyMap<string, KnownSandbox>,
): ReadonlyMap<IpAddress, PodSandbox> {
  const oldestFirst = [...listed].sort((one, other) => one.createdAt - other.createdAt);
  return new Map(
    oldestFirst.flatMap(({ id }) => {
      const { sandbox, ips = [] } = known.get(id) ?? {};
      return sandbox === undefined ? [] : ips.map(ip => [ip, sandbox] as const);
    }),
  );
}

/**
 * Where a network namespace may be found, from the JSON of a verbose status: the path that the runtime gave to its own tool (containerd and CRI-O: a file in
 * /run/netns), then that of the sandbox's first process. Empty where the JSON names neither.
 */
export function namespacePathsOf(info: string): readonly string[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(info);
  } catch {
    return [];
  }
  const namespaces = fieldOf(fieldOf(fieldOf(parsed, 'runtimeSpec'), 'linux'), 'namespaces');
  const list: readonly unknown[] = Array.isArray(namespaces) ? namespaces : [];
  const path = fieldOf(
    list.find(each => fieldOf(each, 'type') === 'network'),
    'path',
  );
  const pid = fieldOf(parsed, 'pid');
  return [
    ...(typeof path === 'string' && path.startsWith('/') ? [path] : []),
    ...(typeof pid === 'number' && Number.isSafeInteger(pid) && pid > 0 ? [`/proc/${pid}/ns/net`] : []),
  ];
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined;
}

/** Sockets that are there, of the one that is configured or those that are usual. */
async function socketsOf(configured: string): Promise<readonly string[]> {
  const paths = configured === '' ? WELL_KNOWN_SOCKETS : [configured.replace(/^unix:(\/\/)?/, '')];
  const isThere = async (path: string): Promise<boolean> => {
    try {
      return (await stat(path)).isSocket();
    } catch {
      return false;
    }
  };
  const found = await Promise.all(paths.map(isThere));
  return paths.filter((_, index) => found[index]);
}

function noSocket(configured: string): FairwayError {
  const where =
    configured === ''
      ? `none of ${WELL_KNOWN_SOCKETS.join(', ')} is a socket: name the container runtime's with --runtime-endpoint`
      : `${configured} is no socket: correct --runtime-endpoint`;
  return new FairwayError(
    'FW_COMMAND_FAILED',
    `the container runtime cannot be asked for pods' namespaces: ${where}, and mount it`,
  );
}

/** What gRPC says of a call. */
class CallError extends Error {
  override readonly name = 'CallError';
  readonly #path: string;
  readonly #said: ServiceError;
  readonly #code: number;

  constructor(path: string, said: ServiceError) {
    super(messageOf(said), { cause: said });
    this.#path = path;
    this.#said = said;
    this.#code = said.code;
  }

  /** It does not answer, or not in time. */
  get isSilence(): boolean {
    return this.#code === CODE.unavailable || this.#code === CODE.cancelled;
  }

  /** What listens there is no container runtime of the kubelet's. */
  get isForeign(): boolean {
    return this.#code === CODE.unimplemented;
  }

  inOurWords(): FairwayError {
    // Cancelled where the signal was not: by our limit of time.
    const why = this.#code === CODE.cancelled ? `no answer within ${LIMIT_MS / 1000} s` : this.#said.details;
    const text = this.isForeign
      ? `what listens at ${this.#path} does not speak the CRI (runtime.v1): name the kubelet's socket with --runtime-endpoint`
      : `the container runtime at ${this.#path} does not say which pods it runs: ${why} (another socket can be named with --runtime-endpoint)`;
    return new FairwayError('FW_COMMAND_FAILED', text, { cause: this.#said });
  }
}
