// Runs as root in a kernel with dummy links: in the lab's guest, or in a network namespace of a machine that has them.
// Address plan: the node 192.168.1.11 and fd00:192::11 on eth0, virtual addresses 10.96.0.0/16 and fd00:96::/64 on kube-dummy-if.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { routeDriver } from '../../daemon/kernel/route.ts';
import { type IpAddress, mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { hostPrefix } from '../../daemon/net/prefix.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { LOCAL_TABLE, type Route, TABLES } from '../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const LINK = 'kube-dummy-if';
const routes = routeDriver({ runner, ownLinks: new Set([LINK]) });
const VIP = { ipv4: mustParseAddress('10.96.0.1'), ipv6: mustParseAddress('fd00:96::1') } as const;
const NODE = { ipv4: mustParseAddress('192.168.1.11'), ipv6: mustParseAddress('fd00:192::11') } as const;
const OTHER = { ipv4: mustParseAddress('192.168.1.12'), ipv6: mustParseAddress('fd00:192::12') } as const;
const FAMILIES = ['ipv4', 'ipv6'] as const;
type Family = (typeof FAMILIES)[number];

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

const route = (
  destination: IpAddress,
  source: IpAddress | undefined,
  standsFor: Route['standsFor'] = 'address',
  link = LINK,
): Route => ({ type: 'local', table: LOCAL_TABLE, destination: hostPrefix(destination), link, source, standsFor });
const keyOf = TABLES.route.key;
const create = (to: Route): Change<Route> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: Route): Change<Route> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (entries: readonly Route[]): ReadonlyMap<string, Route> => new Map(entries.map(entry => [keyOf(entry), entry]));
const wanted = FAMILIES.map(family => route(VIP[family], NODE[family]));
const readAll = (): Promise<ReadonlyMap<string, Route>> => routes.read(new Map(), never);

/** The source of a connection from this host to the address, or how it is lost. */
function sourceTo(address: IpAddress): string {
  const { stdout } = spawnSync('ip', ['route', 'get', address], { encoding: 'utf8' });
  return /^local .* src (\S+)/.exec(stdout)?.[1] ?? 'not local';
}

function addVip(family: Family): void {
  ip(
    `addr add ${hostPrefix(VIP[family])} dev ${LINK} ${family === 'ipv4' ? 'scope link' : 'preferred_lft 0 nodad noprefixroute'}`,
  );
}

/** What kube-router does for each virtual address. */
function replaceAsKubeRouter(family: Family, address: IpAddress = VIP[family]): void {
  const option = family === 'ipv6' ? '-6 ' : '';
  ip(`${option}route replace local ${address} dev ${LINK} table local proto kernel scope host src ${NODE[family]} table local`);
}

/** The table `local` on our link, without what is always there. */
function localRoutes(): string {
  return ip(`-o route show table all dev ${LINK} type local`).replace(/^local (fe80|10\.96\.255\.254).*\n/gm, '');
}

describe('local routes on our link', () => {
  let pristine = '';

  beforeEach(() => {
    ip('link add eth0 type dummy');
    ip('link set eth0 up');
    for (const address of ['192.168.1.11/24', '192.168.1.12/24']) ip(`addr add ${address} dev eth0`);
    for (const address of ['fd00:192::11/64', 'fd00:192::12/64']) ip(`addr add ${address} dev eth0 nodad`);
    ip(`link add ${LINK} type dummy`);
    ip(`link set ${LINK} up`);
    // With a link's last IPv4 address the kernel takes all its routes: another virtual address is always there.
    ip(`addr add 10.96.255.254/32 dev ${LINK} scope link`);
    for (const family of FAMILIES) addVip(family);
    pristine = localRoutes();
    spawned.length = 0;
  });

  afterEach(() => {
    spawnSync('ip', ['link', 'delete', LINK]);
    spawnSync('ip', ['link', 'delete', 'eth0']);
  });

  it('that the kernel made are not ours: one process reads none', async () => {
    assert.deepEqual(await readAll(), new Map());
    assert.equal(spawned.length, 1);
  });

  it('are none while the link is missing', async () => {
    ip(`link delete ${LINK}`);
    assert.deepEqual(await readAll(), new Map());
    assert.deepEqual(await routes.apply(wanted.map(remove), never), { failed: new Map() });
    const { failed } = await routes.apply(wanted.slice(0, 1).map(create), never);
    assert.match(
      [...failed.values()][0]?.message ?? '',
      /create of local route 10\.96\.0\.1\/32 on 'kube-dummy-if' was refused: Cannot find device/,
    );
  });

  it('of both families give the source of connections from the host, are written in two processes and taken back', async () => {
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), VIP[family]);
    spawned.length = 0;
    assert.deepEqual(await routes.apply(wanted.map(create), never), { failed: new Map() });
    // The second takes away the kernel's own, which must not go before ours is in.
    assert.equal(spawned.filter(argv => argv.includes('-batch')).length, 2);
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), NODE[family]);
    const found = await routes.read(keyed(wanted), never);
    assert.deepEqual(found, keyed(wanted));
    for (const entry of wanted) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    // Again, and back.
    assert.deepEqual(await routes.apply(wanted.map(create), never), { failed: new Map() });
    assert.deepEqual(await routes.apply(wanted.map(remove), never), { failed: new Map() });
    assert.equal(localRoutes(), pristine);
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), VIP[family]);
  });

  it('follow the node to another address', async () => {
    await routes.apply(wanted.map(create), never);
    const moved = FAMILIES.map(family => route(VIP[family], OTHER[family]));
    const changes = moved.map((to, index): Change<Route> => ({ op: 'update', key: keyOf(to), from: wanted[index] ?? to, to }));
    assert.deepEqual(await routes.apply(changes, never), { failed: new Map() });
    assert.deepEqual(await readAll(), keyed(moved));
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), OTHER[family]);
  });

  it("by kube-router are found, and given back to the kernel's own", async () => {
    for (const family of FAMILIES) replaceAsKubeRouter(family);
    // Its IPv6 route stands behind the kernel's own and is never asked.
    const left = [route(VIP.ipv4, NODE.ipv4), route(VIP.ipv6, NODE.ipv6, 'nothing')];
    assert.deepEqual(await readAll(), keyed(left));
    assert.deepEqual(await routes.apply(left.map(remove), never), { failed: new Map() });
    assert.equal(localRoutes(), pristine);
  });

  it('by kube-router become ours where they are wanted, and never leave the address without one', async () => {
    for (const family of FAMILIES) replaceAsKubeRouter(family);
    const found = await readAll();
    const changes = wanted.map((to): Change<Route> => ({ op: 'update', key: keyOf(to), from: found.get(keyOf(to)) ?? to, to }));
    assert.deepEqual(await routes.apply(changes, never), { failed: new Map() });
    assert.deepEqual(await readAll(), keyed(wanted));
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), NODE[family]);
    assert.deepEqual(await routes.apply(wanted.map(remove), never), { failed: new Map() });
    assert.equal(localRoutes(), pristine);
  });

  it('whose address went are left by the kernel, found and deleted', async () => {
    for (const family of FAMILIES) replaceAsKubeRouter(family);
    for (const family of FAMILIES) ip(`addr del ${hostPrefix(VIP[family])} dev ${LINK}`);
    const orphans = FAMILIES.map(family => route(VIP[family], NODE[family], 'nothing'));
    assert.deepEqual(await readAll(), keyed(orphans));
    assert.deepEqual(await routes.apply(orphans.map(remove), never), { failed: new Map() });
    assert.equal(localRoutes(), '');
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), 'not local');
  });

  it('whose address went unnoticed are deleted for what is there, not for what was believed', async () => {
    await routes.apply(wanted.map(create), never);
    for (const family of FAMILIES) ip(`addr del ${hostPrefix(VIP[family])} dev ${LINK}`);
    assert.deepEqual(await routes.apply(wanted.map(remove), never), { failed: new Map() });
    assert.equal(localRoutes(), '');
    assert.doesNotMatch(ip(`addr show dev ${LINK}`), /10\.96\.0\.1|fd00:96::1/);
  });

  it("are put in force again where an address went and came, with the kernel's own beside them", async () => {
    await routes.apply(wanted.map(create), never);
    for (const family of FAMILIES) {
      ip(`addr del ${hostPrefix(VIP[family])} dev ${LINK}`);
      addVip(family);
    }
    const beside = FAMILIES.map(family => route(VIP[family], NODE[family], 'nothing'));
    assert.deepEqual(await readAll(), keyed(beside));
    const changes = wanted.map((to, index): Change<Route> => ({ op: 'update', key: keyOf(to), from: beside[index] ?? to, to }));
    assert.deepEqual(await routes.apply(changes, never), { failed: new Map() });
    assert.deepEqual(await readAll(), keyed(wanted));
    for (const family of FAMILIES) assert.equal(sourceTo(VIP[family]), NODE[family]);
  });

  it("of others stay: a network's, another link's, another table's", async () => {
    ip(`route add local 203.0.113.0/24 dev ${LINK} table local`);
    ip(`route add local 10.96.0.9 dev ${LINK} table 78`);
    ip('route add local 10.96.0.8 dev eth0 table local src 192.168.1.11');
    assert.deepEqual(await readAll(), new Map());
    for (const range of ['203.0.113.0/24 dev kube-dummy-if', '10.96.0.8 dev eth0']) ip(`route del local ${range} table local`);
    ip('route flush table 78');
  });

  it('that are refused name themselves and stop no other', async () => {
    const absent = route(VIP.ipv6, mustParseAddress('fd00:192::99'));
    const { failed } = await routes.apply([create(absent), create(route(VIP.ipv4, NODE.ipv4))], never);
    assert.deepEqual([...failed.keys()], [keyOf(absent)]);
    assert.match(
      failed.get(keyOf(absent))?.message ?? '',
      /create of local route fd00:96::1\/128 on 'kube-dummy-if' was refused: /,
    );
    assert.equal(sourceTo(VIP.ipv6), VIP.ipv6);
    assert.equal(sourceTo(VIP.ipv4), NODE.ipv4);
  });

  it('by the thousand are given back in one process', async function () {
    this.timeout(60_000);
    const many = Array.from({ length: 2000 }, (_, index) => mustParseAddress(`10.96.${1 + (index >> 8)}.${index & 255}`));
    const lines = many.flatMap(address => [
      `addr add ${address}/32 dev ${LINK} scope link`,
      `route replace local ${address} dev ${LINK} table local proto kernel scope host src ${NODE.ipv4}`,
    ]);
    const made = spawnSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
    assert.equal(made.status, 0, made.stderr);
    const found = await readAll();
    assert.equal(found.size, many.length);
    const start = performance.now();
    assert.deepEqual(await routes.apply([...found.values()].map(remove), never), { failed: new Map() });
    console.log(`      2,000 routes given back in ${Math.round(performance.now() - start)} ms`);
    assert.deepEqual(await readAll(), new Map());
    for (const address of many.slice(0, 3)) assert.equal(sourceTo(address), address);
  });
});
