import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ClusterObject } from '../../daemon/cluster/kinds.ts';
import type { Family } from '../../daemon/net/address.ts';
import type { Plan } from '../../daemon/reconcile/module.ts';
import { policyModule } from '../../modules/policy/module.ts';
import type { PolicyOptions } from '../../modules/policy/options.ts';
import { HOST_ADDRESSES, packetsOf } from '../fixtures/policy-packets.ts';
import {
  arbitraryCluster,
  arbitraryCrowd,
  arbitraryCrowdEvent,
  arbitraryEvent,
  arbitraryOptions,
  CROWD,
  type PolicyEvent,
  PolicyScene,
} from '../fixtures/policy-scene.ts';
import { worldOf } from '../fixtures/policy-world.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import { isWithin } from '../models/address-bits.ts';
import { type BuiltInChain, PacketTracer, type TracerPacket, type Walk } from '../models/packet-tracer.ts';
import { localPodAt, type Packet, type Path, verdictOf, type World } from '../models/policy-reference.ts';

const PACKETS_AT_A_TIME = 250;
const _FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];
const HOOK: Readonly<Record<Path, BuiltInChain>> = {
  forwarded: 'FORWARD',
  'to-node': 'INPUT',
  'from-node': 'OUTPUT',
  balanced: 'OUTPUT',
};
/** Bits of the mark that are ours. */
const OUR_MARK = 0x30000;

function tracerOf({ fragments }: Plan): PacketTracer {
  return new PacketTracer(
    [...fragments.values()].flatMap(({ entries }) => entries),
    HOST_ADDRESSES,
  );
}

function isThrough({ verdict }: Walk): boolean {
  return verdict === 'accept' || verdict === 'fall through';
}

function describePacket({ path, source, destination, transport }: Packet): string {
  return `${path} ${source} > ${destination} ${JSON.stringify(transport)}`;
}

/** What an allowed packet's walk ends with: what is forwarded from or to pods of this node is ours to accept. */
function endOf(packet: Packet, world: World): Walk['verdict'] {
  const ends = [packet.source, packet.destination];
  const isFiltered = world.families.includes(packet.source.includes(':') ? 'ipv6' : 'ipv4');
  const isOurs = ends.some(
    address => localPodAt(world, address) !== undefined || world.podCIDRs.some(cidr => isWithin(address, cidr)),
  );
  return packet.path === 'forwarded' && isFiltered && isOurs ? 'accept' : 'fall through';
}

/** How a denied packet is answered. */
function answerOf({ path, source, transport }: Packet, { denyWith }: PolicyOptions, mark: number): string {
  if (denyWith === 'drop') return 'drop ';
  // IPVS translates errors back to the client, an RST it does not; a mark that says so is believed wherever it comes from.
  const isBalanced = path === 'balanced' || (mark & 0x20000) !== 0;
  if (transport.protocol === 'TCP' && !isBalanced) return 'reject tcp-reset';
  // The one error by which Linux takes an SCTP association for refused.
  if (transport.protocol === 'SCTP' && !source.includes(':')) return 'reject icmp-proto-unreachable';
  return source.includes(':') ? 'reject icmp6-port-unreachable' : 'reject icmp-port-unreachable';
}

/** Counts what the random worlds were about, so that a generator that went stale is noticed. */
class Tally {
  readonly #counts = new Map<string, number>();

  add(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  of(kind: string): number {
    return this.#counts.get(kind) ?? 0;
  }
}

/** Every packet of the seed: tracer and model agree, and so does what follows from that. */
function assertAgreement(
  plan: Plan,
  world: World,
  { options, seed, crowd }: { options: PolicyOptions; seed: number; crowd: number },
  tally: Tally,
): void {
  const tracer = tracerOf(plan);
  for (const [packet, circumstances] of packetsOf(seed, PACKETS_AT_A_TIME, crowd)) {
    const expected = verdictOf(world, packet);
    const { path, source, destination, transport } = packet;
    const traced: TracerPacket = { hook: HOOK[path], source, destination, transport, ...circumstances };
    const walk = tracer.walk(traced);
    const check = (holds: boolean, what: string): void => {
      if (!holds)
        assert.fail([`${what}: ${describePacket(packet)}, expected: ${expected}`, ...tracer.explain(traced)].join('\n'));
    };
    check(isThrough(walk) === (expected === 'allow'), 'tracer and model differ');
    check(((walk.mark ^ circumstances.mark) & ~OUR_MARK) === 0, 'a mark of others changed');
    check(!isThrough(walk) || (walk.mark & OUR_MARK & ~circumstances.mark) === 0, 'leaves with our mark');
    if (isThrough(walk)) check(walk.verdict === endOf(packet, world) || source === destination, 'ends otherwise');
    else {
      check(`${walk.verdict} ${walk.rejectWith}` === answerOf(packet, options, circumstances.mark), 'answered otherwise');
      check(!isThrough(tracer.walk({ ...traced, state: 'INVALID' })), 'passes when it belongs to no flow');
    }
    check(isThrough(tracer.walk({ ...traced, state: 'ESTABLISHED' })), 'does not pass when established');
    tally.add(`${path} ${expected}`);
  }
}

/** A cluster and what happens to it, planned by one module from beginning to end. */
function assertHistory(
  objects: readonly ClusterObject[],
  events: readonly PolicyEvent[],
  how: { options: PolicyOptions; seed: number; crowd: number },
  tally: Tally,
): void {
  const scene = new PolicyScene(objects);
  const module = policyModule(how.options);
  const look = (): void => {
    const snapshot = scene.snapshot();
    assertAgreement(module.plan(snapshot), worldOf(snapshot, how.options), how, tally);
  };
  look();
  for (const event of events) {
    scene.happen(event);
    look();
  }
}

describe('Network policy against a naive reading of the Kubernetes documentation', function () {
  const run = propertyRun(this.title, 500);
  // A long run or a busy machine takes its time.
  this.timeout(60_000 + run.numRuns * 250);

  it('every new flow passes or is denied as the policies say, at first and after every change', () => {
    const tally = new Tally();
    fc.assert(
      fc.property(
        arbitraryOptions,
        arbitraryCluster,
        fc.array(arbitraryEvent, { maxLength: 5 }),
        fc.noBias(fc.nat()),
        (options, objects, events, seed) => assertHistory(objects, events, { options, seed, crowd: 0 }, tally),
      ),
      { ...run, plugins: [fc.unbiased()] },
    );
    for (const path of ['forwarded', 'to-node', 'balanced']) {
      for (const verdict of ['allow', 'deny']) assert.ok(tally.of(`${path} ${verdict}`) > run.numRuns, `few ${path} ${verdict}`);
    }
    assert.ok(tally.of('from-node allow') > run.numRuns);
    assert.equal(tally.of('from-node deny'), 0);
  });

  it('likewise on a node whose pods are many, no two of them with the same policies', () => {
    fc.assert(
      fc.property(
        arbitraryOptions,
        arbitraryCrowd,
        fc.array(fc.oneof(arbitraryCrowdEvent, arbitraryEvent), { maxLength: 6 }),
        fc.noBias(fc.nat()),
        (options, objects, events, seed) => assertHistory(objects, events, { options, seed, crowd: CROWD }, new Tally()),
      ),
      { seed: run.seed, numRuns: Math.ceil(run.numRuns / 10), plugins: [fc.unbiased()] },
    );
  });
});
