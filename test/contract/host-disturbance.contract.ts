// Runs as root: in the lab's guest, or in a network namespace of a machine.
// Address plan: eth7 192.0.2.7/24 and 2001:db8:7::7/64, routes to 198.51.100.0/24, 2001:db8:100::/64 and 10.100.0.0/16.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { Disturbance } from '../../daemon/cluster/disturbance.ts';
import { followHostFacts, type HostFactsSource } from '../../daemon/kernel/host-facts.ts';
import { lanAddressDriver } from '../../daemon/kernel/lan-address.ts';
import { LanAddressRecord } from '../../daemon/kernel/lan-address-record.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { isOverlayLink } from '../../daemon/reconcile/routing-tables.ts';
import { lanAddressKey } from '../../daemon/reconcile/service-tables.ts';
import { ALL_CAPABILITIES as capabilities } from '../fixtures/cluster.ts';

const TUNNEL = 'tun-0123456789a';
const ROUTES = 2000;
const clock = systemClock();
const runner = processRunner({ environment: process.env, clock, onSpawn: () => undefined });

function ip(args: string, input = ''): void {
  const { stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8', input });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
}

const pause = (milliseconds: number): Promise<void> => new Promise(resolve => setTimeout(resolve, milliseconds));

const never = new AbortController().signal;
const record = new LanAddressRecord({ read: async () => undefined, write: async () => undefined });
const lan = lanAddressDriver({ runner, record, left: new Map(), duplicates: new Set(), onAdded: () => undefined });
const announced = ['192.0.2.100', '2001:db8:7::100'].map(text => ({ link: 'eth7', address: mustParseAddress(text) }));

describe('what happens on the host', () => {
  const told: Disturbance[] = [];
  let pictures = 0;
  let source: HostFactsSource;

  before(async () => {
    ip('link add eth7 type veth peer name peer7');
    ip('link set peer7 up');
    ip('link set eth7 up');
    ip('addr add 192.0.2.7/24 dev eth7');
    ip('addr add 2001:db8:7::7/64 dev eth7 nodad');
    source = await followHostFacts(
      {
        runner,
        clock,
        hostname: 'node-1',
        capabilities: () => capabilities,
        isOwnLink: name => name === 'kube-dummy-if' || isOverlayLink(name),
        standingOf: entry => record.standingOf(entry),
        onChange: () => pictures++,
        onDisturbance: what => told.push(what),
        onTrouble: error => assert.equal(error, undefined),
      },
      new AbortController().signal,
    );
    // The monitor listens by then.
    await pause(1500);
  });

  after(async () => {
    await source.stop();
    for (const link of ['eth7', TUNNEL]) spawnSync('ip', ['link', 'del', link]);
  });

  beforeEach(async () => {
    await pause(400);
    told.length = 0;
    pictures = 0;
  });

  /** What is told within half a second. */
  const after500 = async (): Promise<readonly Disturbance[]> => {
    await pause(500);
    return told;
  };

  it('is noticed where a link flaps that looks as before when it is read', async () => {
    ip('route add 198.51.100.0/24 via 192.0.2.9 proto 70 metric 32070');
    assert.deepEqual(await after500(), []);
    ip('-batch -', 'link set eth7 down\nlink set eth7 up\naddr add 2001:db8:7::7/64 dev eth7 nodad\n');
    const { stdout } = spawnSync('ip', ['route', 'show', 'proto', '70'], { encoding: 'utf8' });
    assert.equal(stdout, '', 'the kernel dropped the route, and prints nothing of that');
    assert.ok((await after500()).includes('hostLinks'), told.join());
    assert.deepEqual([...new Set(told)], [...told], 'each kind once');
    assert.equal(pictures, 0);
  });

  it('is noticed where somebody deletes a route or a rule of ours, and not where we make them', async () => {
    const prefixes = Array.from({ length: ROUTES }, (_, index) => `10.100.${index >> 8}.${index & 255}/32`);
    const lines = (verb: string): string =>
      prefixes.map(prefix => `route ${verb} ${prefix} via 192.0.2.9 proto 70 metric 32070\n`).join('');
    ip(
      '-batch -',
      `${lines('add')}rule add from 10.244.1.0/24 lookup 77\nroute add 2001:db8:100::/64 via 2001:db8:7::9 proto 70\n`,
    );
    assert.deepEqual(await after500(), []);
    ip('route del 2001:db8:100::/64 proto 70');
    assert.deepEqual(await after500(), ['routes']);
    ip('rule del from 10.244.1.0/24 lookup 77');
    assert.deepEqual(await after500(), ['routes', 'rules']);
    ip('-batch -', lines('del'));
    const count = (await after500()).length;
    assert.ok(count >= 3 && count <= 10, `${ROUTES} routes deleted were told ${count - 2} times`);
  });

  it('is noticed where a tunnel of ours is taken away, and not where it is made', async function () {
    if (spawnSync('ip', ['link', 'add', TUNNEL, 'type', 'ipip', 'local', '192.0.2.7', 'remote', '192.0.2.8']).status !== 0)
      this.skip();
    ip(`link set ${TUNNEL} up`);
    assert.deepEqual(await after500(), []);
    ip(`link set ${TUNNEL} down`);
    assert.deepEqual(await after500(), ['ownLinks']);
    ip(`link del ${TUNNEL}`);
    assert.deepEqual(await after500(), ['ownLinks', 'ownLinks']);
  });

  it('is nothing where we announce an address on its link and give it back; it is noticed where another takes it away', async () => {
    const failed = async (op: 'create' | 'delete'): Promise<number> => {
      const changes = announced.map(entry => {
        const key = lanAddressKey(entry);
        return op === 'create' ? { op, key, to: entry } : { op, key, from: entry };
      });
      return (await lan.apply(changes, never)).failed.size;
    };
    assert.equal(await failed('create'), 0);
    assert.deepEqual(await after500(), []);
    assert.equal(await failed('delete'), 0);
    assert.deepEqual(await after500(), []);
    assert.equal(await failed('create'), 0);
    ip('addr del 192.0.2.100/32 dev eth7');
    assert.deepEqual(await after500(), ['lanAddresses']);
    assert.equal(await failed('create'), 0);
    source.refresh();
    await after500();
    assert.equal(pictures, 0);
    assert.equal(await failed('delete'), 0);
  });

  it('is nothing where a pod starts and ends', async () => {
    ip('link add bridge7 type bridge');
    ip('link set bridge7 up');
    ip('-batch -', 'link add veth7 type veth peer name pod7\nlink set veth7 up master bridge7\nlink set pod7 up\n');
    await pause(500);
    ip('link del veth7');
    ip('link del bridge7');
    assert.deepEqual(await after500(), []);
  });
});
