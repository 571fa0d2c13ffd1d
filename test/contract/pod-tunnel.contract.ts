// Runs as root in the lab's guest: network namespaces are the pods, a fake container runtime knows them, IPVS sends them packets.
// Address plan: pods of this node 10.244.1.0/24 and fd00:244:1::/64, the node .1 and ::1; virtual addresses 203.0.113.0/24 and 2001:db8::/64.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { podTunnelDriver } from '../../daemon/kernel/pod-tunnel.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { type IpAddress, mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change, TableDriver } from '../../daemon/reconcile/driver.ts';
import { type PodTunnel, SERVICE_TABLES } from '../../daemon/reconcile/service-tables.ts';
import { type FakeRuntime, type FakeSandbox, startFakeRuntime } from '../fakes/cri.ts';

const never = new AbortController().signal;
const NONE_FAILED = { failed: new Map() };
const clock = systemClock();
const keyOf = SERVICE_TABLES.podTunnel.key;
const address = mustParseAddress;
const A = address('10.244.1.5');
const A6 = address('fd00:244:1::5');
const B = address('10.244.1.6');
const VIP = '203.0.113.1';
const VIP6 = '2001:db8::1';

const tunnel = (pod: IpAddress, vip: string): PodTunnel => ({ pod, vip: address(vip) });
const tunnels = (pod: IpAddress, ...vips: readonly string[]): readonly PodTunnel[] => vips.map(vip => tunnel(pod, vip));
const create = (to: PodTunnel): Change<PodTunnel> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: PodTunnel): Change<PodTunnel> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (...entries: readonly PodTunnel[]): ReadonlyMap<string, PodTunnel> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));

function run(text: string): string {
  const [program = '', ...args] = text.split(' ');
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: 'utf8' });
  assert.equal(status, 0, `${text}: ${stderr}`);
  return stdout;
}

const inPod = (name: string, text: string): string => run(`nsenter --net=/run/netns/${name} ${text}`);
const filtersOf = (name: string): string =>
  inPod(name, 'sysctl -n net.ipv4.conf.all.rp_filter net.ipv4.conf.eth0.rp_filter').trim().replace('\n', ' ');
const linksOf = (name: string): string => inPod(name, 'ip -br link').replace(/ .*/g, '');
const addressesOf = (name: string, link: string): readonly string[] =>
  [...inPod(name, `ip -o addr show dev ${link} scope global`).matchAll(/inet6? (\S+)/g)].map(([, shown]) => shown ?? '').sort();

/** A namespace with eth0 on the node's bridge; its filters as some distributions have them. */
function addPod(name: string, ...ips: readonly string[]): FakeSandbox {
  run(`ip netns add ${name}`);
  run(`ip link add eth0 netns ${name} type veth peer name v-${name}`);
  run(`ip link set v-${name} master pods up`);
  for (const ip of ips) run(`ip -n ${name} addr add ${ip}${ip.includes(':') ? '/64 nodad' : '/24'} dev eth0`);
  run(`ip -n ${name} link set eth0 up`);
  inPod(name, 'sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=2');
  return { id: `sandbox-${name}`, ips, netns: `/run/netns/${name}` };
}

function deletePod(name: string): void {
  spawnSync('ip', ['netns', 'delete', name]);
  spawnSync('ip', ['link', 'delete', `v-${name}`]);
}

describe('tunnels in pods', () => {
  let folder = '';
  let record: string | undefined;
  let writes = 0;
  let spawned: string[] = [];
  let sandboxes: FakeSandbox[] = [];
  let runtime: FakeRuntime | undefined;
  let driver: TableDriver<PodTunnel>;
  let servers: ChildProcess[] = [];

  /** A driver that knows nothing but the record: a daemon that was started anew. */
  const startAnew = (): TableDriver<PodTunnel> =>
    podTunnelDriver({
      runner: processRunner({ environment: process.env, clock, onSpawn: argv => spawned.push(argv.join(' ')) }),
      clock,
      criSocket: `unix://${folder}/cri.sock`,
      records: {
        read: async () => record,
        write: async text => {
          writes++;
          record = text;
        },
      },
    });

  before(() => {
    run('ip link add pods type bridge');
    run('ip addr add 10.244.1.1/24 dev pods');
    run('ip addr add fd00:244:1::1/64 dev pods nodad');
    run('ip link set pods up');
  });

  after(() => {
    run('ip link delete pods');
  });

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-pod-tunnel-'));
    record = undefined;
    writes = 0;
    spawned = [];
    servers = [];
    sandboxes = [{ id: 'sandbox-host', ips: [], pid: 1 }, addPod('pod-a', A, A6), addPod('pod-b', B)];
    runtime = await startFakeRuntime(join(folder, 'cri.sock'), () => sandboxes);
    driver = startAnew();
  });

  afterEach(() => {
    for (const server of servers) server.kill('SIGKILL');
    runtime?.close();
    for (const name of ['pod-a', 'pod-b', 'pod-c']) deletePod(name);
    rmSync(folder, { recursive: true, force: true });
  });

  it('that nobody wants cost nothing: no process, no call, no record', async () => {
    runtime?.close();
    assert.deepEqual(await driver.read(new Map(), never), new Map());
    assert.deepEqual([spawned, writes], [[], 0]);
  });

  it('of both families are made, read back by the next daemon as the very objects, and deleted; filters are as before', async () => {
    const wanted = [...tunnels(A, VIP, '203.0.113.2'), tunnel(A6, VIP6), tunnel(B, VIP)];
    assert.deepEqual(await driver.read(keyed(...wanted), never), new Map());
    assert.deepEqual(await driver.apply(wanted.map(create), never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.1/32', '203.0.113.2/32']);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-v6'), ['2001:db8::1/128']);
    assert.equal(filtersOf('pod-a'), '0 0');

    driver = startAnew();
    spawned = [];
    const found = await driver.read(keyed(...wanted), never);
    for (const entry of wanted) assert.equal(found.get(keyOf(entry)), entry, keyOf(entry));
    assert.equal(spawned.length, 3, 'one process a pod');

    driver = startAnew();
    assert.deepEqual(await driver.read(new Map(), never), keyed(...wanted), 'wanted no more: known by the record');
    assert.deepEqual(await driver.apply(wanted.map(remove), never), NONE_FAILED);
    for (const pod of ['pod-a', 'pod-b']) {
      assert.doesNotMatch(linksOf(pod), /kube-tunnel/);
      assert.equal(filtersOf(pod), '1 2');
    }
    assert.equal(record, '');
    assert.deepEqual(await driver.read(new Map(), never), new Map());
  });

  it('gain and lose virtual addresses in place', async () => {
    const before = tunnels(A, VIP, '203.0.113.2');
    const after = tunnels(A, '203.0.113.2', '203.0.113.3');
    await driver.apply(before.map(create), never);
    const index = inPod('pod-a', 'ip -o link show kube-tunnel-if').split(':')[0];
    assert.deepEqual(await driver.read(keyed(...after), never), keyed(...before));
    const changes = [remove(tunnel(A, VIP)), create(tunnel(A, '203.0.113.3'))];
    assert.deepEqual(await driver.apply(changes, never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.2/32', '203.0.113.3/32']);
    assert.equal(inPod('pod-a', 'ip -o link show kube-tunnel-if').split(':')[0], index);
    await driver.apply(after.map(remove), never);
    assert.equal(filtersOf('pod-a'), '1 2', 'not what the change found');
  });

  it('lose one address of two and keep the other; with the last one link and filters are as before', async () => {
    const [first, second] = [tunnel(A, VIP), tunnel(A, '203.0.113.2')];
    await driver.apply([first, second].map(create), never);
    driver = startAnew();
    assert.deepEqual(await driver.read(keyed(second), never), keyed(first, second));
    assert.deepEqual(await driver.apply([remove(first)], never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.2/32']);
    assert.equal(filtersOf('pod-a'), '0 0', 'the other still takes packets in');
    assert.equal((await startAnew().read(keyed(second), never)).get(keyOf(second)), second);
    assert.deepEqual(await driver.apply([remove(second)], never), NONE_FAILED);
    assert.doesNotMatch(linksOf('pod-a'), /kube-tunnel/);
    assert.equal(filtersOf('pod-a'), '1 2');
    assert.equal(record, '');
  });

  it('come back with all that was recorded when an address is added to a link that somebody deleted', async () => {
    await driver.apply(tunnels(A, VIP, '203.0.113.2').map(create), never);
    inPod('pod-a', 'ip link delete kube-tunnel-if');
    assert.deepEqual(await startAnew().apply([create(tunnel(A, '203.0.113.3'))], never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.1/32', '203.0.113.2/32', '203.0.113.3/32']);
    const all = tunnels(A, VIP, '203.0.113.2', '203.0.113.3');
    assert.deepEqual(await startAnew().apply(all.map(remove), never), NONE_FAILED);
    assert.equal(filtersOf('pod-a'), '1 2', 'not what the addition found');
    assert.equal(record, '');
  });

  it('lose one address of two although somebody deleted the link: the other is back', async () => {
    await driver.apply(tunnels(A, VIP, '203.0.113.2').map(create), never);
    inPod('pod-a', 'ip link delete kube-tunnel-if');
    assert.deepEqual(await driver.apply([remove(tunnel(A, VIP))], never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.2/32']);
  });

  it('that somebody took down, filtered or made anew count as missing and are mended', async () => {
    const wanted = tunnel(A, VIP);
    await driver.apply([create(wanted)], never);
    for (const damage of [
      'ip link set kube-tunnel-if down',
      'sysctl -qw net.ipv4.conf.all.rp_filter=1',
      'ip link change kube-tunnel-if type ipip local 10.244.1.9 remote any',
      'ip addr flush dev kube-tunnel-if',
      'ip link delete kube-tunnel-if',
    ]) {
      inPod('pod-a', damage);
      assert.deepEqual(await driver.read(keyed(wanted), never), new Map(), damage);
      assert.deepEqual(await driver.apply([create(wanted)], never), NONE_FAILED, damage);
      assert.equal((await driver.read(keyed(wanted), never)).get(keyOf(wanted)), wanted, damage);
    }
    await driver.apply([remove(wanted)], never);
    assert.equal(filtersOf('pod-a'), '1 2');
  });

  it('recorded and never made, as by a daemon that was killed, are told and undone', async () => {
    const wanted = tunnel(A, VIP);
    await driver.apply([create(wanted)], never);
    inPod('pod-a', 'ip link delete kube-tunnel-if');
    assert.deepEqual(await startAnew().read(new Map(), never), keyed(wanted));
    assert.deepEqual(await startAnew().apply([remove(wanted)], never), NONE_FAILED);
    assert.equal(filtersOf('pod-a'), '1 2');
    assert.equal(record, '');
  });

  it('of a pod that is gone are gone: no entry, no record, and deleting is done', async () => {
    const wanted = tunnel(B, VIP);
    await driver.apply([create(wanted)], never);
    sandboxes.pop();
    deletePod('pod-b');
    assert.deepEqual(await driver.apply([remove(wanted)], never), NONE_FAILED);
    assert.equal(record, '');
    assert.deepEqual(await driver.apply([remove(wanted)], never), NONE_FAILED);

    await driver.apply([create(tunnel(A, VIP))], never);
    deletePod('pod-a');
    assert.deepEqual(await startAnew().read(new Map(), never), new Map());
    assert.equal(record, '');
  });

  it('of a pod that came back under its address in another namespace are missing, and made there', async () => {
    const wanted = tunnel(B, VIP);
    await driver.apply([create(wanted)], never);
    // The old one is being ended: its namespace is still there.
    run('ip link set v-pod-b down');
    sandboxes.push(addPod('pod-c', B));
    assert.deepEqual(await driver.read(keyed(wanted), never), new Map());
    assert.deepEqual(await driver.apply([create(wanted)], never), NONE_FAILED);
    assert.deepEqual(addressesOf('pod-c', 'kube-tunnel-if'), ['203.0.113.1/32']);
    assert.equal((await startAnew().read(keyed(wanted), never)).get(keyOf(wanted)), wanted);
    assert.deepEqual(await startAnew().apply([remove(wanted)], never), NONE_FAILED);
    assert.equal(filtersOf('pod-c'), '1 2');
  });

  it('made by kube-router are taken over, and known to the next daemon', async () => {
    for (const line of [
      'ip link add kube-tunnel-if type ipip local 10.244.1.5',
      'ip link set kube-tunnel-if up',
      'ip addr add 203.0.113.1/32 dev kube-tunnel-if',
      'ip addr add 203.0.113.9/32 dev kube-tunnel-if',
      'sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.kube-tunnel-if.rp_filter=0',
      'ip link add kube-tunnel-v6 type ip6tnl mode any local fd00:244:1::5',
      'ip link set kube-tunnel-v6 up',
      'ip addr add 2001:db8::1/128 dev kube-tunnel-v6',
    ])
      inPod('pod-a', line);
    const wanted = [tunnel(A, VIP), tunnel(A6, VIP6)];
    const found = await driver.read(keyed(...wanted), never);
    assert.deepEqual(found, keyed(...tunnels(A, VIP, '203.0.113.9'), tunnel(A6, VIP6)));
    assert.equal(found.get(keyOf(tunnel(A6, VIP6))), wanted[1]);
    assert.deepEqual(await startAnew().read(new Map(), never), found);
    assert.deepEqual(await startAnew().apply([...found.values()].map(remove), never), NONE_FAILED);
    assert.doesNotMatch(linksOf('pod-a'), /kube-tunnel/);
  });

  it('one bad among good fails alone: unknown to the runtime, not to be seen, with another link of the name, in a foreign namespace', async () => {
    sandboxes.push({ id: 'unseen', ips: ['10.244.1.7'], netns: '/run/netns/nowhere' });
    sandboxes.push({ id: 'ours', ips: ['10.244.1.8'], netns: '/proc/self/ns/net', pid: process.pid });
    sandboxes.push({ id: 'silent', ips: ['10.244.1.9'] });
    sandboxes.push(addPod('pod-c', '10.244.1.10'));
    sandboxes.push({ id: 'liar', ips: ['10.244.1.11'], netns: '/run/netns/pod-c' });
    inPod('pod-c', 'ip link add kube-tunnel-if type dummy');
    const bad = ['10.244.1.99', '10.244.1.7', '10.244.1.8', '10.244.1.9', '10.244.1.10', '10.244.1.11'];
    const wanted = [...bad.map(pod => tunnel(address(pod), VIP)), tunnel(A, VIP)];
    assert.deepEqual(await driver.read(keyed(...wanted), never), new Map());
    const { failed } = await driver.apply(wanted.map(create), never);
    assert.deepEqual([...failed.keys()].sort(), bad.map(pod => `${pod} ${VIP}`).sort());
    const said = (pod: string): string => failed.get(`${pod} ${VIP}`)?.message ?? '';
    assert.match(said('10.244.1.99'), /^no sandbox of the container runtime has the address 10\.244\.1\.99 \(yet\)$/);
    assert.match(said('10.244.1.7'), /\/run\/netns\/nowhere: run Fairway with hostPID/);
    assert.match(said('10.244.1.8'), /hostPID/);
    assert.match(said('10.244.1.9'), /does not say where/);
    assert.match(said('10.244.1.10'), /link 'kube-tunnel-if' of another type than ipip/);
    assert.match(said('10.244.1.11'), /does not have the address 10\.244\.1\.11/);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.1/32']);
    assert.equal(filtersOf('pod-c'), '1 2');
  });

  it('while the runtime does not answer are read and changed where the record knows them; others are refused with its name', async () => {
    const wanted = tunnel(A, VIP);
    await driver.apply([create(wanted)], never);
    runtime?.close();
    assert.equal((await driver.read(keyed(wanted, tunnel(B, VIP)), never)).get(keyOf(wanted)), wanted);
    const more = tunnel(A, '203.0.113.2');
    const { failed } = await driver.apply([create(more), create(tunnel(B, VIP))], never);
    assert.deepEqual([...failed.keys()], [`${B} ${VIP}`]);
    assert.match(failed.get(`${B} ${VIP}`)?.message ?? '', /container runtime .*--runtime-endpoint/);
    assert.deepEqual(addressesOf('pod-a', 'kube-tunnel-if'), ['203.0.113.1/32', '203.0.113.2/32']);
    assert.deepEqual(await driver.apply([remove(wanted), remove(more)], never), NONE_FAILED);
    assert.equal(filtersOf('pod-a'), '1 2');
  });

  it('cannot be made where /proc/sys is read-only: the error names the filters and the remedy', async () => {
    const wanted = tunnel(A, VIP);
    run('mount --bind /proc/sys /proc/sys');
    run('mount -o remount,bind,ro /proc/sys');
    try {
      const { failed } = await driver.apply([create(wanted), create(tunnel(A6, VIP6))], never);
      assert.deepEqual([...failed.keys()], [keyOf(wanted)], 'IPv6 has no such filter');
      const said = failed.get(keyOf(wanted))?.message ?? '';
      assert.match(said, /net\.ipv4\.conf\.all\.rp_filter=0.* refused: .*\/proc\/sys is read-only for Fairway/);
      assert.deepEqual(await driver.read(keyed(wanted), never), keyed(tunnel(A6, VIP6)));
    } finally {
      run('umount /proc/sys');
    }
    assert.deepEqual(await driver.apply([create(wanted)], never), NONE_FAILED);
  });

  it('are not made where they cannot be recorded', async () => {
    const full = podTunnelDriver({
      runner: processRunner({ environment: process.env, clock }),
      clock,
      criSocket: `${folder}/cri.sock`,
      records: { read: async () => undefined, write: () => Promise.reject(new Error('ENOSPC: no space left on device')) },
    });
    const { failed } = await full.apply([create(tunnel(A, VIP))], never);
    assert.match(failed.get(`${A} ${VIP}`)?.message ?? '', /record of pods' tunnels cannot be written: ENOSPC/);
    assert.doesNotMatch(linksOf('pod-a'), /kube-tunnel/);
  });

  it('take in what IPVS wraps for the pod: a server there answers from the virtual address, in both families', async () => {
    // The tunnels' own filters, too, start strict.
    inPod('pod-a', 'sysctl -qw net.ipv4.conf.default.rp_filter=1');
    assert.deepEqual(await driver.apply([create(tunnel(A, VIP)), create(tunnel(A6, VIP6))], never), NONE_FAILED);
    const server = spawn('nsenter', ['--net=/run/netns/pod-a', process.execPath, '-e', ECHO], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    servers.push(server);
    await once(server.stdout, 'data');
    for (const [vip, pod, family] of [
      [VIP, A, '-4'],
      [VIP6, A6, '-6'],
    ] as const) {
      const at = (ip: string): string => (family === '-6' ? `[${ip}]:7000` : `${ip}:7000`);
      run(`ip ${family} route add ${vip} dev pods`);
      run(`ipvsadm -A -u ${at(vip)} -s rr`);
      run(`ipvsadm -a -u ${at(vip)} -r ${at(pod)} -i`);
      try {
        assert.equal(await answerFrom(vip), `${vip} hello`);
        await driver.apply([remove(tunnel(pod, vip))], never);
        assert.equal(await answerFrom(vip), 'no answer', 'without the tunnel');
      } finally {
        run('ipvsadm -C');
        run(`ip ${family} route del ${vip} dev pods`);
      }
    }
  });
});

/** Answers each datagram with itself, from the address it was sent to. */
const ECHO = `
const { createSocket } = require('node:dgram');
let waiting = 2;
for (const [type, address] of [['udp4', '${VIP}'], ['udp6', '${VIP6}']]) {
  const socket = createSocket(type);
  socket.on('message', (text, from) => socket.send(text, from.port, from.address));
  socket.bind(7000, address, () => --waiting === 0 && console.log('ready'));
}
`;

/** What comes back to a socket that asks again and again, and from whom. */
async function answerFrom(vip: string): Promise<string> {
  const socket = createSocket(vip.includes(':') ? 'udp6' : 'udp4');
  const repeat = setInterval(() => socket.send('hello', 7000, vip), 50);
  const limit = new Promise<string>(resolve => {
    setTimeout(() => resolve('no answer'), 1_500);
  });
  const answer = once(socket, 'message').then(([text, from]) => `${(from as { address: string }).address} ${String(text)}`);
  try {
    return await Promise.race([answer, limit]);
  } finally {
    clearInterval(repeat);
    socket.close();
  }
}
