/**
 * The bench of the data path: packets of the last of the node's pods to a host outside, through the node, under rules of different makes.
 * The machine is never quite quiet: the makes take turns, and each is compared with what was measured in its own round.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { OUTSIDE_ADDRESS, type PolicyClusterSize, PROBE_PORT, podAddress } from './policy-cluster.ts';
import { kubeRouterRules } from './policy-kube-router.ts';
import { PolicyPlace, type Program } from './policy-place.ts';
import { BARE, fairwayRules, ONE_CONNTRACK_RULE, type RuleSet, snapshotOf } from './policy-rules.ts';
import { median, plain, printResults, type Result } from './results.ts';

export interface PolicyDatapathBench {
  /** Numbers of pods of the node. */
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly flavours: readonly ('nft' | 'legacy')[];
}

const PACKETS = join(import.meta.dirname, 'policy-packets.pl');
/** Of each measure so many times in a row, of which the fastest counts: the others met somebody else's work. */
const TRIES = 4;
const MEASURES = {
  flood: { title: 'established flow, packets one way', ask: (from: string) => `flood ${from} ${OUTSIDE_ADDRESS} 32000` },
  flows: { title: 'every packet the first of a flow', ask: (from: string) => `flows ${from} 16000` },
  trips: { title: 'established flow, request and answer', ask: (from: string) => `trips ${from} ${OUTSIDE_ADDRESS} 500` },
  opens: { title: 'a flow for each request and answer', ask: (from: string) => `opens ${from} ${OUTSIDE_ADDRESS} 500` },
} as const;
type Measure = keyof typeof MEASURES;
const MEASURE_NAMES = Object.keys(MEASURES) as readonly Measure[];
/** Of the packets per second with one conntrack rule. */
const ESTABLISHED_SHARE = 0.97;
const YARDSTICK = 'one conntrack rule';
/** Datagrams that may be lost between two readings of the counter, as a share. */
const LOSS = 0.002;

export async function benchPolicyDatapath({ sizes, rounds, flavours }: PolicyDatapathBench): Promise<void> {
  for (const flavour of flavours) {
    for (const localPods of sizes) {
      const namespaces = Math.max(3, Math.round(localPods / 5));
      const size = { localPods, pods: 4 * localPods, namespaces, policies: 10 * namespaces };
      const makes = await makesOf(size);
      const addresses = Array.from({ length: localPods }, (_, pod) => podAddress(pod, size));
      const place = await PolicyPlace.open({ pods: addresses, remotePods: [] });
      try {
        const bench = await DatapathMeasurement.start(place, flavour, addresses.at(-1) ?? '');
        for (let round = 0; round < rounds; round++) {
          for (const [name, rules] of makes) await bench.measure(name, rules);
        }
        print(`policy-datapath: ${localPods} pods, iptables-${flavour}`, bench.samples, rounds);
      } finally {
        await place.close();
      }
    }
  }
}

/** By name, in the order in which they are printed and take turns. */
async function makesOf(size: PolicyClusterSize): Promise<ReadonlyMap<string, RuleSet>> {
  const selected = snapshotOf(size);
  const unselected = snapshotOf({ ...size, policies: 0 });
  return new Map([
    ['bare forwarding', BARE],
    [YARDSTICK, ONE_CONNTRACK_RULE],
    ['fairway, no pod selected', await fairwayRules(unselected)],
    ['fairway, all pods selected', await fairwayRules(selected)],
    ["kube-router's shape, no pod selected", kubeRouterRules(unselected)],
    ["kube-router's shape, all pods selected", kubeRouterRules(selected)],
  ]);
}

/** Microseconds a packet (or a request and its answer) by measure and make, one a round. */
type Samples = Readonly<Record<Measure, Map<string, number[]>>>;

class DatapathMeasurement {
  readonly samples: Samples = { flood: new Map(), flows: new Map(), trips: new Map(), opens: new Map() };
  readonly #place: PolicyPlace;
  readonly #flavour: string;
  readonly #from: string;
  readonly #source: Program;
  readonly #sink: Program;

  private constructor(place: PolicyPlace, flavour: string, from: string, programs: { source: Program; sink: Program }) {
    this.#place = place;
    this.#flavour = flavour;
    this.#from = from;
    this.#source = programs.source;
    this.#sink = programs.sink;
  }

  static async start(place: PolicyPlace, flavour: string, from: string): Promise<DatapathMeasurement> {
    const last = availableParallelism() - 1;
    const perl = (mode: string): readonly string[] => ['taskset', '-c', String(last), 'perl', PACKETS, mode, String(PROBE_PORT)];
    const sink = place.start('outside', perl('sink'));
    const source = place.start('pods', perl('source'));
    await sink.line();
    await source.line();
    return new DatapathMeasurement(place, flavour, from, { source, sink });
  }

  async measure(name: string, rules: RuleSet): Promise<void> {
    await this.#load(rules);
    for (const measure of MEASURE_NAMES) {
      const tries: number[] = [];
      for (let index = 0; index < TRIES; index++) tries.push(await this.#try(measure, name));
      const samples = this.samples[measure].get(name) ?? [];
      this.samples[measure].set(name, [...samples, Math.min(...tries)]);
    }
  }

  /** Microseconds each. */
  async #try(measure: Measure, name: string): Promise<number> {
    const before = this.#arrived();
    const [count = Number.NaN, seconds = Number.NaN] = (await this.#source.ask(MEASURES[measure].ask(this.#from)))
      .split(' ')
      .map(Number);
    const arrived = this.#arrived() - before;
    // What is refused on the way costs less: a rule set that does not let everything through measures nothing.
    if (!(arrived >= count * (1 - LOSS))) throw new Error(`${name}: of ${count} datagrams (${measure}) only ${arrived} arrived`);
    if (measure === 'flows' || measure === 'opens') await this.#place.run('node', ['conntrack', '-F']).catch(() => undefined);
    return (seconds / count) * 1e6;
  }

  /** Packets that the outside host has received. */
  #arrived(): number {
    const line = /eth0:\s*[0-9]+\s+([0-9]+)/.exec(readFileSync(`/proc/${this.#sink.pid}/net/dev`, 'utf8'));
    return Number(line?.[1]);
  }

  async #load({ ipset, iptables }: RuleSet): Promise<void> {
    const restore = [`iptables-${this.#flavour}-restore`];
    await this.#place.run('node', restore, BARE.iptables);
    await this.#place.run('node', ['ipset', 'destroy']);
    await this.#place.run('node', ['ipset', 'restore'], ipset);
    await this.#place.run('node', restore, iptables);
  }
}

function print(title: string, samples: Samples, rounds: number): void {
  for (const measure of MEASURE_NAMES) {
    const yardstick = samples[measure].get(YARDSTICK) ?? [];
    const results = [...samples[measure]].map(([name, values]) => resultOf(measure, name, values, yardstick));
    printResults(`${title}, ${MEASURES[measure].title} (median of ${rounds} rounds)`, results);
  }
}

function resultOf(measure: Measure, name: string, values: readonly number[], yardstick: readonly number[]): Result {
  const micros = median(values);
  const rate = `${Math.round(1000 / micros)} k/s, ${micros.toFixed(2)} µs`;
  const share = median(values.map((value, round) => (yardstick[round] ?? Number.NaN) / value));
  const fastest = Math.min(...yardstick) / Math.min(...values);
  const against = `${tenths(share)} % of ${YARDSTICK} (of the fastest rounds ${tenths(fastest)} %)`;
  if (name === YARDSTICK) return plain(name, rate);
  if (measure !== 'flood' || !name.startsWith('fairway')) return plain(name, rate, against);
  return {
    what: name,
    measured: rate,
    against: `${against}, at least ${ESTABLISHED_SHARE * 100} %`,
    isMet: share >= ESTABLISHED_SHARE,
  };
}

function tenths(share: number): string {
  return (share * 100).toFixed(1);
}
