// Runs as root in a kernel with every type of link we make: in the lab's guest, or in a network namespace of a machine that has them.
// Address plan: nodes 192.168.1.0/24 and fd00:192::/64 on eth0, which goes to the namespace `peer`; pods 10.244.0.0/16 and fd00:244::/48.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { isPodRoutingLink, linkDriver } from '../../daemon/kernel/link.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import type { Link } from '../../daemon/reconcile/link.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const DUMMY = 'kube-dummy-if';
const links = linkDriver({
  runner,
  owns: (name, type) => (type === 'dummy' ? name === DUMMY || name === 'fw-other' : isPodRoutingLink(name, type)),
});

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

/** By which packets leave to where tunnels lead. */
const UNDERLAY = 'underlay';

const create = (to: Link): Change<Link> => ({ op: 'create', key: to.name, to });
const update = (from: Link, to: Link): Change<Link> => ({ op: 'update', key: to.name, from, to });
const remove = (from: Link): Change<Link> => ({ op: 'delete', key: from.name, from });
const keyed = (entries: readonly Link[]): ReadonlyMap<string, Link> => new Map(entries.map(entry => [entry.name, entry]));
const readAll = (): Promise<ReadonlyMap<string, Link>> => links.read(new Map(), never);
const messages = (failed: ReadonlyMap<string, Error>): Record<string, string> =>
  Object.fromEntries([...failed].map(([key, error]) => [key, error.message]));
const NONE_FAILED = { failed: new Map() };

type Tunnel = Extract<Link, { type: 'ipip' | 'ip6tnl' }>;
const dummy: Link = { name: DUMMY, type: 'dummy' };
const bridge: Link = { name: 'kube-bridge', type: 'bridge', mtu: 1480 };
const ipip: Tunnel = {
  name: 'tun-00000000004',
  type: 'ipip',
  local: mustParseAddress('192.168.1.1'),
  remote: mustParseAddress('192.168.1.2'),
  guePort: undefined,
  mtu: 1480,
};
const ip6tnl: Tunnel = {
  name: 'tun-00000000006',
  type: 'ip6tnl',
  local: mustParseAddress('fd00:192::1'),
  remote: mustParseAddress('fd00:192::2'),
  guePort: undefined,
  mtu: 1460,
};
const vxlan: Extract<Link, { type: 'vxlan' }> = { name: 'fairway-vxlan', type: 'vxlan', port: 4790, mtu: 1444 };
const gue = (tunnel: Tunnel): Tunnel => ({ ...tunnel, guePort: 5555, mtu: tunnel.mtu - 12 });

afterEach(() => {
  for (const { name } of [
    dummy,
    bridge,
    ipip,
    ip6tnl,
    vxlan,
    { name: 'tun-0000000000f' },
    { name: 'tun-0000000000e' },
    { name: UNDERLAY },
  ])
    spawnSync('ip', ['link', 'delete', name]);
  spawned.length = 0;
});

describe('dummy links', () => {
  it('are made up, read back and deleted', async () => {
    assert.deepEqual(await readAll(), new Map());
    assert.deepEqual(await links.apply([create(dummy)], never), NONE_FAILED);
    assert.match(ip(`-d link show ${DUMMY}`), /<BROADCAST,NOARP,UP,LOWER_UP>.*dummy/s);
    assert.equal((await links.read(keyed([dummy]), never)).get(DUMMY), dummy);
    assert.deepEqual(await links.apply([remove(dummy)], never), NONE_FAILED);
    assert.deepEqual(await readAll(), new Map());
  });

  it('of others are not ours', async () => {
    ip('link add other0 type dummy');
    ip('link set other0 up');
    assert.deepEqual(await readAll(), new Map());
    ip('link delete other0');
  });

  it('that someone set down count as missing, and creating sets them up without losing their addresses', async () => {
    await links.apply([create(dummy)], never);
    ip(`addr add 10.96.0.1/32 dev ${DUMMY}`);
    ip(`link set ${DUMMY} down`);
    assert.deepEqual(await links.read(keyed([dummy]), never), new Map());
    assert.deepEqual(await links.apply([create(dummy)], never), NONE_FAILED);
    assert.deepEqual(await links.read(keyed([dummy]), never), keyed([dummy]));
    assert.match(ip(`addr show ${DUMMY}`), /10\.96\.0\.1/);
  });

  it('that are down and wanted no more are told, so that they go', async () => {
    ip(`link add ${DUMMY} type dummy`);
    assert.deepEqual(await readAll(), keyed([dummy]));
    assert.deepEqual(await links.apply([remove(dummy)], never), NONE_FAILED);
    assert.deepEqual(await readAll(), new Map());
  });

  it('are refused where a link of another type has the name, and where the name is none', async () => {
    ip(`link add ${DUMMY} type bridge`);
    const bad: Link = { name: 'a name with spaces', type: 'dummy' };
    const other: Link = { name: 'fw-other', type: 'dummy' };
    const { failed } = await links.apply([create(dummy), create(bad), create(other)], never);
    assert.deepEqual(messages(failed), {
      [bad.name]: '"a name with spaces" cannot name a link: 1 to 15 characters, no space and no slash',
      [DUMMY]: `create of link '${DUMMY}' was refused: File exists (something else of that name is there: rename or delete it)`,
    });
    assert.deepEqual(await readAll(), keyed([other]));
    ip('link delete fw-other');
  });

  it('that are gone already are deleted all the same', async () => {
    assert.deepEqual(await links.apply([remove(dummy)], never), NONE_FAILED);
  });
});

describe('the bridge', () => {
  const anyMtu: Link = { name: bridge.name, type: 'bridge', mtu: undefined };

  it('is made where it is missing, keeps its MTU with a port of another, and goes', async () => {
    assert.deepEqual(await links.apply([create(bridge)], never), NONE_FAILED);
    ip('link add dev pod-end type veth peer name pod-far');
    ip('link set dev pod-end master kube-bridge');
    assert.match(ip('link show kube-bridge'), /UP.* mtu 1480 /);
    ip('link delete pod-end');
    assert.deepEqual(await links.read(keyed([bridge]), never), keyed([bridge]));
    assert.deepEqual(await links.apply([remove(bridge)], never), NONE_FAILED);
    assert.deepEqual(await readAll(), new Map());
  });

  it('as CNI made it is ours, with its addresses', async () => {
    ip('link add dev kube-bridge type bridge');
    ip('addr add 10.244.1.1/24 dev kube-bridge');
    assert.deepEqual(await links.read(keyed([anyMtu]), never), new Map(), 'down counts as missing');
    assert.deepEqual(await links.apply([create(anyMtu)], never), NONE_FAILED);
    const found = await links.read(keyed([bridge]), never);
    assert.deepEqual([...found.values()], [{ ...bridge, mtu: 1500 }]);
    assert.deepEqual(await links.apply([update({ ...bridge, mtu: 1500 }, bridge)], never), NONE_FAILED);
    assert.equal((await links.read(keyed([bridge]), never)).get(bridge.name), bridge);
    assert.match(ip('addr show kube-bridge'), /10\.244\.1\.1\/24/);
  });

  it('with ports is not told once it is wanted no more, and is not deleted', async () => {
    await links.apply([create(bridge)], never);
    assert.deepEqual(await readAll(), keyed([bridge]));
    ip('link add dev pod-end type veth peer name pod-far');
    ip('link set dev pod-end master kube-bridge');
    assert.deepEqual(await links.apply([remove(bridge)], never), NONE_FAILED);
    assert.match(ip('link show pod-end'), /master kube-bridge/);
    assert.deepEqual(await readAll(), new Map());
    assert.deepEqual(await links.read(keyed([bridge]), never), keyed([bridge]));
    ip('link delete pod-end');
    assert.deepEqual(await readAll(), keyed([bridge]));
  });
});

describe('tunnels', () => {
  const all = [ipip, ip6tnl, vxlan];

  it('of every kind are made in one process besides looking, read back in one, and deleted', async () => {
    for (const wanted of [all, [gue(ipip), gue(ip6tnl)]]) {
      spawned.length = 0;
      assert.deepEqual(await links.apply(wanted.map(create), never), NONE_FAILED);
      assert.equal(spawned.length, 2);
      const found = await links.read(keyed(wanted), never);
      for (const entry of wanted) assert.equal(found.get(entry.name), entry, 'the very object expected');
      assert.equal(spawned.length, 3);
      assert.deepEqual(await readAll(), keyed(wanted));
      assert.deepEqual(await links.apply(wanted.map(remove), never), NONE_FAILED);
      assert.deepEqual(await readAll(), new Map());
    }
  });

  it('are changed in place, so that routes by them stay', async () => {
    await links.apply([create(ipip), create(ip6tnl)], never);
    for (const [prefix, { name }] of [
      ['10.244.2.0/24', ipip],
      ['fd00:244:2::/64', ip6tnl],
    ] as const)
      ip(`route add ${prefix} dev ${name}`);
    const indexes = (): readonly string[] => [ipip, ip6tnl].map(({ name }) => ip(`-o link show ${name}`).split(':', 1).join());
    const before = indexes();
    const moved = [
      { ...gue(ipip), remote: mustParseAddress('192.168.1.9') },
      { ...gue(ip6tnl), remote: mustParseAddress('fd00:192::9') },
    ];
    for (const [from, to] of [
      [ipip, moved[0]],
      [ip6tnl, moved[1]],
      [moved[0], ipip],
      [moved[1], ip6tnl],
    ] as const) {
      assert.ok(from !== undefined && to !== undefined);
      assert.deepEqual(await links.apply([update(from, to)], never), NONE_FAILED);
      assert.equal((await links.read(keyed([to]), never)).get(to.name), to);
    }
    assert.deepEqual(indexes(), before);
    assert.match(ip('route show 10.244.2.0/24'), /tun-/);
    assert.match(ip('-6 route show fd00:244:2::/64'), /tun-/);
  });

  it('to another port by VXLAN are made anew; to another MTU in place', async () => {
    await links.apply([create(vxlan)], never);
    const narrow = { ...vxlan, mtu: 1400 };
    const moved = { ...vxlan, port: 8472 };
    const index = ip('-o link show fairway-vxlan').split(':', 1).join();
    assert.deepEqual(await links.apply([update(vxlan, narrow)], never), NONE_FAILED);
    assert.equal(ip('-o link show fairway-vxlan').split(':', 1).join(), index);
    assert.deepEqual(await links.apply([update(narrow, moved)], never), NONE_FAILED);
    assert.equal((await links.read(keyed([moved]), never)).get(moved.name), moved);
  });

  it('by kube-router are found and brought to ours; its own of no use are found and go', async () => {
    ip('link add dev tun-00000000004 type ipip local 192.168.1.1 remote 192.168.1.2');
    ip(
      '-6 link add dev tun-00000000006 type ip6tnl local fd00:192::1 remote fd00:192::2 ttl 225 encap gue encap-sport auto encap-dport 5555 mode ip6ip6',
    );
    ip('link add dev tun-0000000000f type ipip local 192.168.1.1 remote 192.168.1.77');
    assert.deepEqual([...(await links.read(keyed([ipip, ip6tnl]), never)).keys()], ['tun-0000000000f']);
    assert.deepEqual([...(await readAll()).keys()].sort(), ['tun-00000000004', 'tun-00000000006', 'tun-0000000000f']);
    const orphan: Link = { ...ipip, name: 'tun-0000000000f', remote: mustParseAddress('192.168.1.77') };
    assert.deepEqual(await links.apply([create(ipip), create(ip6tnl), remove(orphan)], never), NONE_FAILED);
    assert.deepEqual(await readAll(), keyed([ipip, ip6tnl]));
    assert.match(ip('-d link show tun-00000000006'), /encaplimit none/);
  });

  it('take the place of one by another name to the same node', async () => {
    ip('link add dev tun-0000000000f type ipip local 192.168.1.1 remote 192.168.1.2');
    assert.deepEqual(await links.apply([create(ipip)], never), NONE_FAILED);
    assert.deepEqual(await readAll(), keyed([ipip]));
  });

  it('are made beside one by another name to the same node, so that routes have a way until they lead by ours', async () => {
    const [other, other6]: readonly Tunnel[] = [
      { ...ipip, name: 'tun-0000000000f' },
      { ...ip6tnl, name: 'tun-0000000000e' },
    ];
    assert.ok(other !== undefined && other6 !== undefined);
    ip(`link add dev ${UNDERLAY} type dummy`);
    ip(`addr add ${ipip.local}/24 dev ${UNDERLAY}`);
    ip(`addr add ${ip6tnl.local}/64 dev ${UNDERLAY} nodad`);
    ip(`link set ${UNDERLAY} up`);
    ip(`link add dev ${other.name} type ipip local ${ipip.local} remote ${ipip.remote}`);
    ip(`-6 link add dev ${other6.name} type ip6tnl mode ip6ip6 local ${ip6tnl.local} remote ${ip6tnl.remote}`);
    for (const { name } of [other, other6]) ip(`link set ${name} up`);
    ip(`route add 10.99.0.0/16 dev ${other.name}`);
    ip(`route add fd00:99::/64 dev ${other6.name}`);
    assert.deepEqual(await links.apply([create(ipip), create(ip6tnl)], never), NONE_FAILED);
    assert.match(ip('route show 10.99.0.0/16'), /dev tun-0000000000f /);
    assert.match(ip('-6 route show fd00:99::/64'), /dev tun-0000000000e /);
    assert.deepEqual(
      [...(await links.read(keyed([ipip, ip6tnl]), never)).keys()].sort(),
      [ipip, ip6tnl, other6, other].map(({ name }) => name),
    );
    assert.deepEqual(await links.apply([remove(other), remove(other6)], never), NONE_FAILED);
    assert.deepEqual([...(await links.read(keyed([ipip, ip6tnl]), never)).keys()].sort(), [ipip.name, ip6tnl.name]);
  });

  it('that someone altered or set down count as missing, and are repaired', async () => {
    await links.apply(all.map(create), never);
    for (const [name, alteration] of [
      [ipip.name, 'type ipip local 192.168.1.1 remote 192.168.1.2 ttl 7'],
      [ipip.name, 'type ipip local 192.168.1.1 remote 192.168.1.2 ttl 225 encap fou encap-dport 5555'],
      [ip6tnl.name, 'type ip6tnl mode any local fd00:192::1 remote fd00:192::2'],
      [vxlan.name, 'down'],
    ] as const) {
      ip(`link ${alteration === 'down' ? 'set' : 'change'} dev ${name} ${alteration}`);
      assert.ok(!(await links.read(keyed(all), never)).has(name), `${name} ${alteration}`);
      const wanted = all.find(link => link.name === name);
      assert.ok(wanted !== undefined);
      assert.deepEqual(await links.apply([create(wanted)], never), NONE_FAILED);
      assert.deepEqual(await links.read(keyed(all), never), keyed(all));
    }
    ip('link delete fairway-vxlan');
    ip('link add dev fairway-vxlan mtu 1444 type vxlan id 9 dstport 4790 remote 192.168.1.2 dev lo');
    ip('link set dev fairway-vxlan up');
    assert.deepEqual(await links.apply([create(vxlan)], never), NONE_FAILED);
    assert.deepEqual(await links.read(keyed(all), never), keyed(all));
  });

  it("of others are not ours: another's name, or a name of ours on another type", async () => {
    ip('link add dev mine0 type ipip local 192.168.1.1 remote 192.168.1.3');
    ip('link add dev tun-00000000004 type dummy');
    assert.deepEqual(await readAll(), new Map());
    const { failed } = await links.apply([create(ipip), create(ip6tnl)], never);
    assert.deepEqual(messages(failed), {
      [ipip.name]:
        "create of link 'tun-00000000004' was refused: File exists (a link of that name is there, or another tunnel from 192.168.1.1 to 192.168.1.2: rename or delete it)",
    });
    assert.deepEqual(await readAll(), keyed([ip6tnl]));
    ip('link delete mine0');
  });

  it('by the hundred are made in one batch', async function () {
    this.timeout(30_000);
    const many = Array.from(
      { length: 300 },
      (_, index): Tunnel => ({
        ...ipip,
        name: `tun-${(index + 16).toString(16).padStart(11, '0')}`,
        remote: mustParseAddress(`192.168.${2 + (index >> 8)}.${index & 255}`),
      }),
    );
    const start = performance.now();
    assert.deepEqual(await links.apply(many.map(create), never), NONE_FAILED);
    const made = performance.now();
    assert.equal((await links.read(keyed(many), never)).size, many.length);
    console.log(`      300 tunnels made in ${Math.round(made - start)} ms, read in ${Math.round(performance.now() - made)} ms`);
    assert.deepEqual(await links.apply(many.map(remove), never), NONE_FAILED);
    assert.deepEqual(await readAll(), new Map());
  });
});
