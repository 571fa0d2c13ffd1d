/** A container runtime as far as the daemon asks one: sandboxes with addresses and namespaces, over the CRI (runtime.v1) on a socket. */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { CRI_METHODS } from '../../daemon/kernel/cri-messages.ts';

export interface FakeSandbox {
  readonly id: string;
  /** None for a pod on the network of the node. */
  readonly ips: readonly string[];
  /** As containerd and CRI-O have it in the specification of the sandbox. */
  readonly netns?: string;
  /** Of the sandbox's first process. */
  readonly pid?: number;
  /** What a runtime says that cannot speak of this sandbox. */
  readonly refusal?: string;
}

export interface FakeRuntime {
  /** How often the status of each sandbox was asked for. */
  readonly statusCalls: ReadonlyMap<string, number>;
  close(): void;
}

type Unary = (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => void;

/** Answers at the socket; `sandboxes` is called for each request, the oldest sandbox first. Rejects where the socket cannot be had. */
export async function startFakeRuntime(socket: string, sandboxes: () => readonly FakeSandbox[]): Promise<FakeRuntime> {
  const statusCalls = new Map<string, number>();
  const list: Unary = (_, callback) => callback(null, listOf(sandboxes()));
  const statusOf: Unary = ({ request }, callback) => {
    const id = idIn(request);
    statusCalls.set(id, (statusCalls.get(id) ?? 0) + 1);
    const found = sandboxes().find(each => each.id === id);
    if (found === undefined) callback({ code: status.NOT_FOUND, details: `no sandbox ${id}` });
    else if (found.refusal !== undefined) callback({ code: status.UNKNOWN, details: found.refusal });
    else callback(null, statusMessage(found));
  };
  const server = new Server();
  server.addService(SERVICE, { listPodSandbox: list, podSandboxStatus: statusOf });
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${socket}`, ServerCredentials.createInsecure(), error =>
      error === null ? resolve() : reject(error),
    );
  });
  return { statusCalls, close: () => server.forceShutdown() };
}

const asIs = (bytes: Buffer): Buffer => bytes;
const unary = (path: string): ServiceDefinition[string] => ({
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
});
const SERVICE: ServiceDefinition = {
  listPodSandbox: unary(CRI_METHODS.listPodSandbox),
  podSandboxStatus: unary(CRI_METHODS.podSandboxStatus),
};

/** Field 1 of a PodSandboxStatusRequest. */
function idIn(request: Uint8Array): string {
  const reader = new BinaryReader(request);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 1) return reader.string();
    reader.skip(wireType);
  }
  return '';
}

function listOf(sandboxes: readonly FakeSandbox[]): Buffer {
  const writer = new BinaryWriter();
  for (const [index, { id }] of sandboxes.entries()) {
    // id = 1, metadata = 2 with a name = 1 (which is skipped), created_at = 4.
    writer.uint32(lengthTag(1)).fork();
    writer.uint32(lengthTag(1)).string(id);
    writer.uint32(lengthTag(2)).fork().uint32(lengthTag(1)).string(`pod-${id}`).join();
    writer.uint32(4 << 3).int64(BigInt(1_700_000_000 + index) * 1_000_000_000n);
    writer.join();
  }
  return Buffer.from(writer.finish());
}

function statusMessage({ id, ips, netns, pid }: FakeSandbox): Buffer {
  const [first, ...others] = ips;
  const writer = new BinaryWriter();
  writer.uint32(lengthTag(1)).fork();
  writer.uint32(lengthTag(1)).string(id);
  if (first !== undefined) {
    writer.uint32(lengthTag(5)).fork().uint32(lengthTag(1)).string(first);
    for (const ip of others) writer.uint32(lengthTag(2)).fork().uint32(lengthTag(1)).string(ip).join();
    writer.join();
  }
  // linux = 6, namespaces = 1, options = 2, network = 1: NODE = 2, or POD = 0.
  writer.uint32(lengthTag(6)).fork().uint32(lengthTag(1)).fork().uint32(lengthTag(2)).fork();
  writer.uint32(1 << 3).int32(first === undefined ? 2 : 0);
  writer.join().join().join();
  writer.join();
  const namespaces = [{ type: 'pid' }, { type: 'network', ...(netns === undefined ? {} : { path: netns }) }];
  const verbose = { ...(pid === undefined ? {} : { pid }), runtimeSpec: { linux: { namespaces } } };
  writer.uint32(lengthTag(2)).fork();
  writer.uint32(lengthTag(1)).string('info').uint32(lengthTag(2)).string(JSON.stringify(verbose));
  writer.join();
  return Buffer.from(writer.finish());
}

/** The tag of a field with a length and bytes. */
function lengthTag(field: number): number {
  return (field << 3) | 2;
}
