// Random wishes, times, connections, refusals and restarts, against a model that knows only who is wanted and who left when.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { DrainingIpvs } from '../../daemon/kernel/ipvs-drain.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { type Destination, destinationKey, listenerKey, type VirtualServer } from '../../daemon/reconcile/tables.ts';
import { ManualClock } from '../fakes/clock.ts';
import { FakeIpvs } from '../fakes/ipvs.ts';
import { reconcile } from '../fakes/reconcile-servers.ts';

const never = new AbortController().signal;
const LOOK = 5_000;
const SERVERS = ['10.96.0.1', '10.96.0.2'] as const;
const GRACES = [0, 3_000, 12_000, 60_000] as const;

/** What is wanted of each server: weights of destinations by number; undefined for no server. */
type Wish = readonly (ReadonlyMap<number, number> | undefined)[];

type Step =
  | { readonly kind: 'want'; readonly server: number; readonly weights: ReadonlyMap<number, number> | undefined }
  | { readonly kind: 'refused'; readonly server: number; readonly weights: ReadonlyMap<number, number> }
  | { readonly kind: 'wait'; readonly milliseconds: number }
  | { readonly kind: 'connect'; readonly server: number; readonly destination: number; readonly count: number }
  | { readonly kind: 'restart' };

const server = fc.nat({ max: SERVERS.length - 1 });
const destination = fc.nat({ max: GRACES.length - 1 });
const weights = fc
  .uniqueArray(fc.tuple(destination, fc.constantFrom(1, 1, 1, 5)), { selector: ([number]) => number })
  .map(pairs => new Map(pairs));
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('want' as const),
      server,
      weights: fc.option(weights, { nil: undefined, freq: 8 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('refused' as const), server, weights }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      milliseconds: fc.constantFrom(1, 999, 2_000, 2_000, 4_000, 9_000, 61_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('connect' as const), server, destination, count: fc.constantFrom(0, 0, 1) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
);

const endpoint = (number: number, weight: number): Destination => ({
  address: mustParseAddress(`10.244.1.${number + 1}`),
  port: 8080,
  weight,
  forwarding: 'masquerade',
});

const serverOf = (number: number, destinations: readonly Destination[]): VirtualServer => ({
  listener: { by: 'address', protocol: 'TCP', address: mustParseAddress(SERVERS[number] ?? ''), port: 80 },
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations,
});

const KEYS = SERVERS.map((_, number) => listenerKey(serverOf(number, []).listener));
const nameOf = (number: number): string => destinationKey(endpoint(number, 1));

class Trial {
  readonly #clock = new ManualClock();
  readonly #kernel = new FakeIpvs();
  #record: string | undefined;
  #driver = this.#start();
  #wish: Wish = SERVERS.map(() => undefined);
  /** Who left when, by server and destination. */
  readonly #left = new Map<string, { readonly server: number; readonly destination: number; readonly deadline: number }>();
  /** Since when a destination has had no connections and was draining. */
  readonly #idleSince = new Map<string, number>();

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case 'want':
        this.#want(step.server, step.weights);
        break;
      case 'refused':
        this.#want(step.server, step.weights);
        this.#kernel.refused.add(KEYS[step.server] ?? '');
        await this.#round();
        this.#kernel.refused.clear();
        break;
      case 'wait':
        await this.#clock.advance(step.milliseconds);
        break;
      case 'connect':
        this.#kernel.connections.set(`${KEYS[step.server]} ${nameOf(step.destination)}`, step.count);
        break;
      case 'restart':
        this.#driver.stop();
        this.#driver = this.#start();
        // The new process has not looked yet.
        this.#idleSince.clear();
        break;
    }
    await this.#round();
    await this.#check();
  }

  end(): void {
    this.#driver.stop();
  }

  #start(): DrainingIpvs {
    return new DrainingIpvs({
      inner: this.#kernel,
      clock: this.#clock,
      readLines: this.#kernel.readLines,
      record: {
        read: () => Promise.resolve(this.#record),
        write: text => {
          this.#record = text;
          return Promise.resolve();
        },
      },
      graceOf: address => GRACES[Number(address.split('.').at(-1)) - 1] ?? 0,
      lingerMs: 0,
    });
  }

  #wanted(): ReadonlyMap<string, VirtualServer> {
    return new Map(
      this.#wish.flatMap((wish, number) => {
        const all =
          wish &&
          serverOf(
            number,
            Array.from(wish, ([each, weight]) => endpoint(each, weight)),
          );
        return all === undefined ? [] : [[listenerKey(all.listener), all] as const];
      }),
    );
  }

  #want(number: number, wish: ReadonlyMap<number, number> | undefined): void {
    const before = this.#wish[number];
    this.#wish = this.#wish.with(number, wish);
    for (const each of GRACES.keys()) {
      const key = `${number} ${each}`;
      if (wish === undefined || wish.has(each)) this.#left.delete(key);
      else if (before?.has(each) === true)
        this.#left.set(key, { server: number, destination: each, deadline: this.#clock.now() + (GRACES[each] ?? 0) });
    }
  }

  #round(): Promise<readonly string[]> {
    return reconcile(this.#driver, this.#wanted());
  }

  async #check(): Promise<void> {
    const wanted = this.#wanted();
    const found = await this.#driver.read(wanted, never);
    assert.deepEqual([...found.keys()].sort(), [...wanted.keys()].sort());
    for (const [key, each] of wanted) assert.equal(found.get(key), each, 'the very object expected');
    for (const [key, entry] of this.#left) this.#checkLeft(key, entry);
    for (const key of this.#idleSince.keys()) if (!this.#left.has(key)) this.#idleSince.delete(key);
    for (const [number, key] of KEYS.entries()) {
      const expected = new Map(this.#wish[number]);
      for (const { server, destination } of this.#left.values()) if (server === number) expected.set(destination, 0);
      const there = this.#kernel.state.get(key);
      assert.equal(there === undefined, this.#wish[number] === undefined);
      assert.deepEqual(
        new Map(there?.destinations.map(each => [destinationKey(each), each.weight])),
        new Map(Array.from(expected, ([each, weight]) => [nameOf(each), weight] as const).sort()),
      );
    }
  }

  /** One that left is there, or has had a reason to go. */
  #checkLeft(key: string, { server, destination, deadline }: { server: number; destination: number; deadline: number }): void {
    const now = this.#clock.now();
    const name = nameOf(destination);
    const isIdle = (this.#kernel.connections.get(`${KEYS[server]} ${name}`) ?? 0) === 0;
    if (!isIdle) this.#idleSince.delete(key);
    else if (!this.#idleSince.has(key)) this.#idleSince.set(key, now);
    const isThere = this.#kernel.state.get(KEYS[server] ?? '')?.destinations.some(each => destinationKey(each) === name);
    if (isThere === true) {
      assert.ok(now <= deadline + LOOK, `${key} is there past its deadline`);
      assert.ok(now - (this.#idleSince.get(key) ?? now) <= LOOK, `${key} is there without connections`);
    } else {
      assert.ok(isIdle || now >= deadline, `${key} went before its time with connections`);
      this.#left.delete(key);
    }
  }
}

describe('draining, over random histories', function () {
  this.timeout(60_000);

  it('has in the kernel what is wanted and what drains, no longer and no shorter than it may, and shows what is wanted', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async steps => {
        const trial = new Trial();
        try {
          for (const each of steps) await trial.take(each);
        } finally {
          trial.end();
        }
      }),
      { numRuns: 300 },
    );
  });
});
