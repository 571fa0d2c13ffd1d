/** Connections to Services and how they are to end, all at once and compared as lines, so that a failure shows the whole table. */
import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import { SILENCE_MS } from './describe-services.ts';
import type { Lab } from './lab.ts';
import type { Family } from './objects.ts';
import type { Reply, Target, Transport } from './probe.ts';

/** Where a client may be, towards a Service with an endpoint on node1 that node1 balances. */
export const POSITIONS = {
  ext: 'a host outside the cluster',
  'pod-1-2': 'a pod on the node that balances',
  'pod-2-2': 'a pod on another node',
  node1: 'the node that balances',
  'pod-1-1': 'the endpoint itself',
} as const;
export type Position = keyof typeof POSITIONS;
export const CLIENTS = Object.keys(POSITIONS) as readonly Position[];

export interface Look {
  readonly from: string;
  /** What is looked at, as a table calls it. */
  readonly at: string;
  readonly target: Target;
  /**
   * The servers that answer, sorted, all of them and no other: `pod-1-1 pod-2-1`; with `sees`, each with the host it takes for its client:
   * `pod-1-1 sees ext`. Or `refused` (a reset or an ICMP error), `timeout` (silence).
   */
  readonly expected: string;
  readonly sees?: boolean;
}

/** Every look is of `count` fresh connections or datagrams, one if the first is not answered. */
export async function verifyLooks(lab: Lab, looks: readonly Look[], count = 4): Promise<void> {
  const seen = await Promise.all(looks.map(async look => line(look, await outcomeOf(lab, look, count))));
  assert.deepEqual(
    seen,
    looks.map(look => line(look, expectedBy(look))),
  );
}

async function outcomeOf(lab: Lab, { from, target, sees = false }: Look, count: number): Promise<string> {
  const probe = lab.probe(hostOf(lab, from));
  const first = await probe.connect({ timeoutMs: SILENCE_MS, ...target });
  const rest = first.outcome === 'answer' ? await probe.burst({ timeoutMs: SILENCE_MS, ...target }, count - 1) : [];
  const outcomes = [first, ...rest].map(reply => describeReply(lab, reply, sees));
  return [...new Set(outcomes)].sort().join(sees ? ', ' : ' ');
}

function describeReply(lab: Lab, reply: Reply, sees: boolean): string {
  if (reply.outcome !== 'answer') return reply.outcome;
  return sees ? `${reply.server} sees ${nameOf(lab, reply.peer)}` : reply.server;
}

/** The kernel tells a UDP sender of the node's own at once that its datagram was dropped or refused, with EPERM. */
function expectedBy({ from, target, expected }: Look): string {
  const isSilent = expected === 'refused' || expected === 'timeout';
  return from.startsWith('node') && target.transport === 'udp' && isSilent ? 'failed' : expected;
}

function line({ from, at, target }: Look, outcome: string): string {
  return `${from} -> ${at}, ${target.transport} over ${familyOf(target.address)}: ${outcome}`;
}

export function familyOf(address: string): Family {
  return address.includes(':') ? 'ipv6' : 'ipv4';
}

export function tcp(address: string, port: number): Target {
  return to('tcp', address, port);
}

export function to(transport: Transport, address: string, port: number): Target {
  return { transport, address, port };
}

/** A host of the lab by its name. */
export function hostOf(lab: Lab, name: string): LabHost {
  const host = [...lab.nodes, ...lab.pods, lab.ext].find(one => one.name === name);
  assert.ok(host !== undefined, name);
  return host;
}

/** The host with an address; the address where it is nobody's. */
function nameOf(lab: Lab, address: string): string {
  const host = [...lab.nodes, ...lab.pods, lab.ext].find(one => Object.values(one.addresses).includes(address));
  return host?.name ?? address;
}
