/**
 * The few messages of the container runtime interface that we send and read (package runtime.v1 of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto). Written by
 * hand: of a service with 30 calls we make two, and of their answers we need five fields. Numbers below are those of the fields.
 */
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';

/** Paths of the calls in HTTP/2. */
export const CRI_METHODS = {
  listPodSandbox: '/runtime.v1.RuntimeService/ListPodSandbox',
  podSandboxStatus: '/runtime.v1.RuntimeService/PodSandboxStatus',
} as const;

/** What we read of a PodSandbox in a list. */
export interface ListedSandbox {
  readonly id: string;
  /** Nanoseconds since 1970, rounded to what a number holds: good for telling which of two is newer. */
  readonly createdAt: number;
}

/** What we read of a PodSandboxStatusResponse. */
export interface SandboxStatus {
  /** As the runtime writes them; none where the pod uses the node's network, or has none yet. */
  readonly ips: readonly string[];
  readonly isOnHostNetwork: boolean;
  /** Value of `info["info"]`: JSON whose shape is the runtime's own; empty where it gives none. */
  readonly info: string;
}

/** NamespaceMode NODE. */
const NODE = 2;

/** A ListPodSandboxRequest: all that are ready. The state must be written though it is 0, since the message around it says that there is a filter. */
export function encodeListRequest(): Buffer {
  const writer = new BinaryWriter();
  // filter = 1, its state = 2 (PodSandboxStateValue), its state = 1: SANDBOX_READY = 0.
  writer.uint32(tag(1, 2)).fork();
  writer.uint32(tag(2, 2)).fork();
  writer.uint32(tag(1, 0)).int32(0);
  writer.join().join();
  return Buffer.from(writer.finish());
}

/** A PodSandboxStatusRequest with `verbose`. */
export function encodeStatusRequest(id: string): Buffer {
  return Buffer.from(new BinaryWriter().uint32(tag(1, 2)).string(id).uint32(tag(2, 0)).bool(true).finish());
}

/** A ListPodSandboxResponse. Throws where the bytes are none. */
export function decodeListResponse(bytes: Uint8Array): readonly ListedSandbox[] {
  const sandboxes: ListedSandbox[] = [];
  eachField(bytes, (field, reader) => {
    if (field !== 1) return false;
    let id = '';
    let createdAt = 0;
    eachField(reader.bytes(), (inner, within) => {
      if (inner === 1) id = within.string();
      else if (inner === 4) createdAt = Number(within.int64());
      else return false;
      return true;
    });
    sandboxes.push({ id, createdAt });
    return true;
  });
  return sandboxes;
}

/** A PodSandboxStatusResponse. Throws where the bytes are none. */
export function decodeStatusResponse(bytes: Uint8Array): SandboxStatus {
  const ips: string[] = [];
  let info = '';
  let isOnHostNetwork = false;
  eachField(bytes, (field, reader) => {
    if (field === 1) {
      const status = reader.bytes();
      // network = 5 with ip = 1 and additional_ips = 2, each with ip = 1.
      for (const network of messagesIn(status, 5)) ips.push(...textsIn(network, 1), ...additionalIps(network));
      // linux = 6, its namespaces = 1, their options = 2, their network = 1.
      for (const linux of messagesIn(status, 6)) isOnHostNetwork ||= networkModeOf(linux) === NODE;
    } else if (field === 2) {
      // An entry of a map is a message with key = 1 and value = 2.
      const entry = reader.bytes();
      if (textsIn(entry, 1).at(-1) === 'info') info = textsIn(entry, 2).at(-1) ?? '';
    } else {
      return false;
    }
    return true;
  });
  return { ips: ips.filter(ip => ip !== ''), isOnHostNetwork, info };
}

function additionalIps(network: Uint8Array): readonly string[] {
  return messagesIn(network, 2).flatMap(podIp => textsIn(podIp, 1));
}

function networkModeOf(linux: Uint8Array): number {
  let mode = 0;
  for (const options of messagesIn(linux, 1).flatMap(namespaces => messagesIn(namespaces, 2))) {
    eachField(options, (field, reader) => {
      if (field !== 1) return false;
      mode = reader.int32();
      return true;
    });
  }
  return mode;
}

function textsIn(message: Uint8Array, wanted: number): readonly string[] {
  return messagesIn(message, wanted).map(bytes => Buffer.from(bytes).toString('utf8'));
}

/** All of one field whose wire type is a length and bytes. */
function messagesIn(message: Uint8Array, wanted: number): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  eachField(message, (field, reader) => {
    if (field !== wanted) return false;
    found.push(reader.bytes());
    return true;
  });
  return found;
}

/** Calls `take` for each field; one it returns false for is skipped. */
function eachField(bytes: Uint8Array, take: (field: number, reader: BinaryReader) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!take(field, reader)) reader.skip(wireType, field);
  }
}

function tag(field: number, wireType: number): number {
  return (field << 3) | wireType;
}
