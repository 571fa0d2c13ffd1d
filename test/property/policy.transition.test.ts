import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { ClusterObject } from '../../daemon/cluster/kinds.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { entry } from '../../daemon/reconcile/fragment.ts';
import { Reconciler } from '../../daemon/reconcile/reconciler.ts';
import { policyModule } from '../../modules/policy/module.ts';
import type { PolicyOptions } from '../../modules/policy/options.ts';
import { ManualClock } from '../fakes/clock.ts';
import { fakeTables } from '../fakes/tables.ts';
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
  subjectOf,
} from '../fixtures/policy-scene.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import { PacketTracer, type TracerPacket } from '../models/packet-tracer.ts';

const HOOK = { forwarded: 'FORWARD', 'to-node': 'INPUT', 'from-node': 'OUTPUT', balanced: 'OUTPUT' } as const;
const PACKETS = 100;
const { signal } = new AbortController();

/** What became of each packet at one time. */
interface Moment {
  readonly since: string;
  readonly passes: readonly boolean[];
}

/** The tables of a node, looked at by packets whenever a tool has run. */
class Station {
  readonly moments: Moment[] = [];
  readonly #tables = fakeTables();
  readonly #clock = new ManualClock();
  readonly #reconciler: Reconciler;
  readonly #packets: readonly TracerPacket[];

  constructor(options: PolicyOptions, packets: readonly TracerPacket[]) {
    this.#packets = packets;
    const { ipset, iptables } = this.#tables;
    const restoreSets = ipset.apply.bind(ipset);
    ipset.apply = async (changes, aborted) => {
      const result = await restoreSets(changes, aborted);
      this.look('ipset');
      return result;
    };
    const restoreChains = iptables.apply.bind(iptables);
    iptables.apply = async (changes, aborted) => {
      // Each family has a tool of its own.
      for (const family of ['ipv4', 'ipv6']) {
        const some = changes.filter(change => (change.op === 'delete' ? change.from : change.to).family === family);
        if (some.length === 0) continue;
        await restoreChains(some, aborted);
        this.look(family);
      }
      return { failed: new Map() };
    };
    this.#reconciler = new Reconciler({
      modules: [policyModule(options)],
      drivers: this.#tables,
      clock: this.#clock,
      backoff: { delay: () => 500 },
      breathe: () => Promise.resolve(),
      observer: {
        planned() {},
        planFailed(_module, error) {
          throw error;
        },
        applied() {},
        drifted() {},
        unreadable() {},
      },
      lingerMs: 1000,
    });
  }

  /** Rounds until none is due. */
  async comeToRest(snapshot: Snapshot): Promise<void> {
    for (let round = 0; ; round++) {
      assert.ok(round < 10, 'comes to no rest');
      const dueAt = await this.#reconciler.round(snapshot, signal);
      if (dueAt === undefined) return;
      await this.#clock.advance(Math.max(0, dueAt - this.#clock.now()));
    }
  }

  /** Throws where a rule asks for a set or chain that is not there: the kernel would have refused something. */
  look(since: string): void {
    const { ipset, iptables } = this.#tables;
    const sets = [...ipset.state.values()].map(value => entry('ipset', value));
    const chains = [...iptables.state.values()].map(value => entry('iptables', value));
    const tracer = new PacketTracer([...sets, ...chains], HOST_ADDRESSES);
    const passes = this.#packets.map(packet => ['accept', 'fall through'].includes(tracer.walk(packet).verdict));
    this.moments.push({ since, passes });
  }
}

/** A policy with another content changes its chain and its sets, which are two tools' work: in between it is the old one of these and the new one of those. */
function isOfOneTool(event: PolicyEvent, { networkPolicies }: Snapshot): boolean {
  return !('put' in event && event.put.kind === 'NetworkPolicy' && networkPolicies.has(subjectOf(event)));
}

async function assertTransitions(
  objects: readonly ClusterObject[],
  events: readonly PolicyEvent[],
  { options, seed, crowd }: { options: PolicyOptions; seed: number; crowd: number },
): Promise<number> {
  const packets = packetsOf(seed, PACKETS, crowd).map(([{ path, ...packet }]): TracerPacket => ({ hook: HOOK[path], ...packet }));
  const scene = new PolicyScene(objects);
  const station = new Station(options, packets);
  await station.comeToRest(scene.snapshot());
  let changed = 0;
  for (const event of events) {
    const isExact = isOfOneTool(event, scene.snapshot());
    scene.happen(event);
    const before = station.moments.at(-1);
    station.moments.length = 0;
    await station.comeToRest(scene.snapshot());
    station.look('the end');
    const after = station.moments.at(-1);
    for (const [index, packet] of packets.entries()) {
      const ends = [before?.passes[index], after?.passes[index]];
      if (ends[0] !== ends[1]) changed++;
      for (const { since, passes } of isExact ? station.moments : []) {
        if (ends.includes(passes[index])) continue;
        const moments = station.moments.map(moment => `${moment.since}: ${String(moment.passes[index])}`).join(', ');
        assert.fail(`after ${since} of ${JSON.stringify(event)}: ${JSON.stringify(packet)}: ${String(ends[0])}, then ${moments}`);
      }
    }
  }
  return changed;
}

describe('while a change of network policy comes into force', function () {
  const run = propertyRun(this.title, 60);
  // Each case traces all packets after every run of a tool; a busy machine takes its time.
  this.timeout(120_000 + run.numRuns * 1500);

  for (const [title, cluster, event, crowd] of [
    [
      'every packet is treated as before or as after, and no tool is asked for what it would refuse',
      arbitraryCluster,
      arbitraryEvent,
      0,
    ],
    [
      'likewise where groups become many or few',
      arbitraryCrowd,
      fc.oneof({ weight: 1, arbitrary: arbitraryEvent }, { weight: 3, arbitrary: arbitraryCrowdEvent }),
      CROWD,
    ],
  ] as const) {
    it(title, async () => {
      let changed = 0;
      await fc.assert(
        fc.asyncProperty(
          arbitraryOptions,
          cluster,
          fc.array(event, { minLength: 1, maxLength: 10 }),
          fc.nat(),
          async (options, objects, events, seed) => {
            changed += await assertTransitions(objects, events, { options, seed, crowd });
          },
        ),
        run,
      );
      assert.ok(changed > run.numRuns, `${changed} packets were treated otherwise after an event`);
    });
  }
});
