/**
 * The cluster that is routed in: all nodes on one network, so that no way needs a tunnel. Only node1 is there; the fabric has the addresses of all
 * others, and nobody speaks BGP on them.
 *
 * | what | addresses |
 * |---|---|
 * | node N | 172.20.0.0/16, host part N |
 * | the fabric: its router and the API server | 172.20.255.254 |
 * | pods of node N | a /24 of 10.64.0.0/12; with another generation of 10.80.0.0/12 |
 * | what the fabric's router tells | /24s of 10.128.0.0/9 |
 */
import type { ApiMetadata, ApiObject } from './cluster.ts';

export const NODE_NAME = 'node1';
export const NODE_ADDRESS = nodeAddress(1);
export const FABRIC_ADDRESS = '172.20.255.254';
export const NETWORK_BITS = 16;
export const FABRIC_ASN = 65_001;
/** What the daemon takes where it is told none. */
export const NODE_ASN = 64_512;

const CREATED = '2026-01-01T00:00:00Z';
/** A kubelet tells of the largest fifty at the most. */
const IMAGES = 30;

export function nodeName(number: number): string {
  return `node${number}`;
}

export function nodeAddress(number: number): string {
  return `172.20.${number >> 8}.${number & 255}`;
}

export function podCIDR(number: number, generation = 0): string {
  return `10.${(generation === 0 ? 64 : 80) + (number >> 8)}.${number & 255}.0/24`;
}

export function learnedPrefix(index: number): string {
  return `10.${128 + (index >> 8)}.${index & 255}.0/24`;
}

/** What of a Node differs from time to time. */
export interface NodeDeviations {
  readonly label?: string;
  readonly generation?: number;
  /** Counts the reports of its kubelet. */
  readonly heartbeat?: number;
}

/** As an API server sends it: most of it is what the kubelet reports. */
export function routedNode(number: number, { label = 'a', generation = 0, heartbeat = 0 }: NodeDeviations = {}): ApiObject {
  const name = nodeName(number);
  const at = new Date(Date.parse(CREATED) + heartbeat * 300_000).toISOString();
  const cidr = podCIDR(number, generation);
  const metadata: ApiMetadata & Readonly<Record<string, unknown>> = {
    name,
    creationTimestamp: CREATED,
    labels: {
      'beta.kubernetes.io/arch': 'amd64',
      'kubernetes.io/arch': 'amd64',
      'kubernetes.io/hostname': name,
      'kubernetes.io/os': 'linux',
      'node.kubernetes.io/instance-type': 'm5.xlarge',
      'topology.kubernetes.io/zone': `zone-${number % 3}`,
      pool: label,
    },
    annotations: {
      'node.alpha.kubernetes.io/ttl': '0',
      'volumes.kubernetes.io/controller-managed-attach-detach': 'true',
    },
    managedFields: [
      { manager: 'kubelet', operation: 'Update', apiVersion: 'v1', time: at, fieldsType: 'FieldsV1', subresource: 'status' },
    ],
  };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata,
    spec: { podCIDR: cidr, podCIDRs: [cidr], providerID: `cloud:///zone-${number % 3}/i-${number}` },
    status: {
      addresses: [
        { type: 'InternalIP', address: nodeAddress(number) },
        { type: 'Hostname', address: name },
      ],
      capacity: { cpu: '4', memory: '16073716Ki', pods: '110' },
      conditions: ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready'].map(type => ({
        type,
        status: type === 'Ready' ? 'True' : 'False',
        lastHeartbeatTime: at,
        lastTransitionTime: CREATED,
        reason: 'KubeletReports',
        message: 'kubelet reports on this condition',
      })),
      images: Array.from({ length: IMAGES }, (_, image) => ({
        names: [`registry.example/team/image-${image}@sha256:${String(image).padStart(64, '0')}`],
        sizeBytes: 50_000_000 + image,
      })),
      nodeInfo: { architecture: 'amd64', kernelVersion: '6.1.0', kubeletVersion: 'v1.36.0', operatingSystem: 'linux' },
    },
  };
}

/** Changes of a cluster of so many nodes, each with what takes it back. */
export const NODE_EVENTS = [
  'a Node added',
  'a Node removed',
  'a Node relabelled',
  'a pod CIDR changed',
  'a kubelet reports its status',
] as const;
export type NodeEvent = (typeof NODE_EVENTS)[number];

/** An object that is put, or the name of a Node that is deleted. */
export type NodeChange = { readonly put: ApiObject } | { readonly deleted: string };

export interface NodeScene {
  readonly event: NodeChange;
  readonly back: NodeChange;
  /** The prefix whose kernel route comes by the event, or goes, where routes are made of Nodes. */
  readonly comes?: string;
  readonly goes?: string;
}

/** @param round makes each report of a kubelet another */
export function nodeScene(what: NodeEvent, nodes: number, round: number): NodeScene {
  const [last, next] = [nodes, nodes + 1];
  const usual = { put: routedNode(last) };
  switch (what) {
    case 'a Node added':
      return { event: { put: routedNode(next) }, back: { deleted: nodeName(next) }, comes: podCIDR(next) };
    case 'a Node removed':
      return { event: { deleted: nodeName(last) }, back: usual, goes: podCIDR(last) };
    case 'a Node relabelled':
      return { event: { put: routedNode(last, { label: 'b' }) }, back: usual };
    case 'a pod CIDR changed':
      return { event: { put: routedNode(last, { generation: 1 }) }, back: usual, comes: podCIDR(last, 1) };
    case 'a kubelet reports its status':
      return { event: { put: routedNode(last, { heartbeat: round + 1 }) }, back: usual };
  }
}
