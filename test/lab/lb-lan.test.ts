import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import type { LabNode } from './addresses.ts';
import { describeLab } from './describe-lab.ts';
import { FAIRWAY } from './fleet.ts';
import { LEASE_SECONDS } from './kubelets.ts';
import { LanCluster } from './lan-cluster.ts';
import { BOTH_FAMILIES, balanced, servedBy } from './lan-services.ts';
import { LanEar, type Saying } from './neighbours.ts';
import { nodeObject } from './objects.ts';
import { addLanHost, PLACE } from './peers/hosts.ts';
import type { Transport } from './probe.ts';
import { until } from './until.ts';
import { history, longestSilence, type Moment, type Watch } from './watch.ts';

const FLAGS: readonly string[] = [
  '--announce-l2',
  '--announce-interfaces=eth0',
  '--loadbalancer-ip-range=192.168.1.200-192.168.1.215,fd00:192:168:1::200-fd00:192:168:1::215',
];
const NAMES = ['web1', 'web2', 'web3', 'web4', 'web5', 'web6'] as const;
const TRANSPORTS: readonly Transport[] = ['tcp', 'udp'];
/** Milliseconds in which an answer comes that comes at all. */
const PATIENCE_MS = 200;
/** What the new owner may take beyond the lease, in milliseconds; for IPv6 its test whether the address is unique (RFC 4862: one second and a random one). */
const SLACK_MS = { ipv4: 2500, ipv6: 4500 } as const;

/** Whether new connections may go there, by what `ipvsadm -Sn` prints. */
function sends(rules: string, address: string): boolean {
  return rules.split('\n').some(line => line.includes(` -r ${address}:`) && !line.endsWith(' -w 0'));
}

/** Address and the node that answers for it. */
type Owners = ReadonlyMap<string, string>;

describeLab('load-balancer addresses on the LAN', { lans: 1, podsPerNode: 1 }, lab => {
  let cluster: LanCluster;
  const running: LanCluster[] = [];
  /** On another network that the nodes are on as well. */
  let elsewhere: LanEar;

  before('nodes on two networks, six Services, a daemon on each node', async function () {
    this.timeout(120_000);
    const [first, second, third] = [lab().pod(1, 1), lab().pod(2, 1), lab().pod(3, 1)];
    const objects = NAMES.flatMap((name, index) => [
      balanced(name, index + 1, { spec: BOTH_FAMILIES }),
      ...servedBy(name, first, second, third),
    ]);
    cluster = await LanCluster.begin(lab(), { flags: FLAGS, objects });
    running.push(cluster);
    elsewhere = await secondNetwork();
    // As outside of labs: an address is tested before it is used, by who takes it over.
    await Promise.all(lab().nodes.map(async node => await lab().writeFile(node, '/proc/sys/net/ipv6/conf/eth0/accept_dad', '1')));
    await cluster.start();
  });

  after(() => {
    for (const each of running) each.stop();
  });

  const vips = (): readonly string[] => NAMES.flatMap(name => cluster.addressesOf(name));

  /** A second link of each node, on a network where a host listens. */
  async function secondNetwork(): Promise<LanEar> {
    const host = await addLanHost(lab(), 'other', 3, 101);
    const cables = lab().nodes.map(({ name }) => [
      `link add ${name}b type veth peer name eth1 netns ${name}`,
      `link set ${name}b master lan3 up`,
    ]);
    const batch = (namespace: string, lines: readonly string[]): Promise<string> =>
      lab().expectRun(PLACE, ['ip', '-n', namespace, '-batch', '-'], { input: `${lines.join('\n')}\n` });
    await batch(lab().router.name, cables.flat());
    await Promise.all(
      lab().nodes.map(async node => {
        const part = 10 + node.number;
        await batch(node.name, [
          `addr add 192.168.3.${part}/24 dev eth1`,
          `addr add fd00:192:168:3::${part}/64 dev eth1 nodad`,
          'link set eth1 up',
        ]);
      }),
    );
    return await LanEar.open(lab(), host, []);
  }

  /** Who answers for each address once it is one node alone; fails where it is more than one after that. */
  async function owners(addresses: readonly string[] = vips(), limitMs = 20_000): Promise<Owners> {
    await until(
      'one node answers for each address',
      async () => Object.fromEntries(await cluster.ear.whoHas(addresses, PATIENCE_MS)),
      seen => Object.values(seen).every(({ length }) => length === 1),
      limitMs,
    );
    return oneOfEach(await cluster.ear.whoHas(addresses));
  }

  /** Waits until each address is answered for by who did so before, and nobody else. */
  async function restored(before: Owners): Promise<void> {
    await until('all is as it was', owners, seen => isDeepStrictEqual(seen, before));
  }

  function oneOfEach(answers: ReadonlyMap<string, readonly string[]>): Owners {
    for (const [address, names] of answers) assert.equal(names.length, 1, `${address} is answered for by: ${names.join(' ')}`);
    return new Map([...answers].map(([address, [name = '']]) => [address, name]));
  }

  const ownedBy = (owned: Owners, name: string): readonly string[] =>
    [...owned].flatMap(([address, owner]) => (owner === name ? [address] : []));
  const isIpv6 = (address: string): boolean => address.includes(':');

  /** A node that owns addresses of both families, and one of each. */
  function ownerOfBoth(owned: Owners): { readonly node: LabNode; readonly addresses: readonly string[] } {
    const found = lab().nodes.flatMap(node => {
      const own = ownedBy(owned, node.name);
      const addresses = [own.find(address => !isIpv6(address)), own.find(isIpv6)].filter(address => address !== undefined);
      return addresses.length === 2 ? [{ node, addresses }] : [];
    });
    assert.ok(found[0] !== undefined, `no node owns addresses of both families: ${JSON.stringify([...owned])}`);
    return found[0];
  }

  /** What was said of an address by who has it, to all and unasked. */
  const announcements = (address: string, since: Moment): readonly Saying[] =>
    cluster.ear
      .heard(since)
      .filter(({ what, sender, target }) =>
        isIpv6(address)
          ? what === 'advertisement' && target === address
          : what === 'request' && sender === address && target === address,
      );

  interface Watched {
    readonly flow: string;
    readonly watch: Watch;
  }

  /** Flows of the client by TCP and UDP. */
  const watchAll = async (addresses: readonly string[]): Promise<readonly Watched[]> =>
    await Promise.all(
      addresses.flatMap(address =>
        TRANSPORTS.map(async transport => ({
          flow: `${address} ${transport}`,
          watch: await lab().watch(cluster.client, { transport, address, port: 80 }, { everyMs: 20 }),
        })),
      ),
    );
  const more = async (watched: readonly Watched[]): Promise<void> => {
    await Promise.all(watched.map(async ({ watch }) => await watch.more()));
  };

  /** Ends them; the longest silence of each flow, printed. */
  async function silences(
    watched: readonly Watched[],
    what: string,
  ): Promise<readonly { readonly flow: string; readonly ms: number }[]> {
    const found = await Promise.all(watched.map(async ({ flow, watch }) => ({ flow, ms: longestSilence(await watch.end()) })));
    for (const { flow, ms } of found) process.stdout.write(`      ${what}: ${flow} silent for ${ms} ms\n`);
    return found;
  }

  /** Services are served by pods of these nodes alone, in every kernel. */
  async function servedOn(...nodes: readonly LabNode[]): Promise<void> {
    const pods = nodes.map(({ number }) => lab().pod(number, 1));
    cluster.put(...NAMES.flatMap(name => servedBy(name, ...pods)));
    const others = lab().pods.filter(pod => !pods.includes(pod));
    await until(
      `no kernel sends anything to ${others.map(({ name }) => name).join(', ')}`,
      async () => await Promise.all(lab().nodes.map(async node => await lab().expectRun(node, ['ipvsadm', '-Sn']))),
      seen =>
        !seen.some(rules => others.some(({ addresses: { ipv4, ipv6 } }) => sends(rules, ipv4) || sends(rules, `[${ipv6}]`))),
    );
  }

  it('each is reached by TCP and UDP from a host of the LAN that knows nothing but its subnet', async () => {
    const began = performance.now();
    for (const name of NAMES) await cluster.allocated(name, 2);
    const allocated = Math.round(performance.now() - began);
    await owners();
    const answered = Math.round(performance.now() - began);
    process.stdout.write(
      `      after the daemons' first rounds: allocated within ${allocated} ms, one answer for each within ${answered} ms\n`,
    );
    const outcomes = await Promise.all(
      vips().flatMap(address =>
        TRANSPORTS.map(async transport => {
          const { outcome } = await lab().probe(cluster.client).connect({ transport, address, port: 80 });
          return `${address} ${transport} ${outcome}`;
        }),
      ),
    );
    assert.deepEqual(
      outcomes.filter(line => !line.endsWith(' answer')),
      [],
    );
    assert.equal(outcomes.length, NAMES.length * 4);
  });

  it('has one answer for each within three seconds, from nodes that share the work', async () => {
    const owned = oneOfEach(await cluster.ear.whoHas(vips(), 3000));
    const shares = lab().nodes.map(({ name }) => `${name} ${ownedBy(owned, name).length}`);
    process.stdout.write(`      addresses of each node: ${shares.join(', ')}\n`);
    assert.ok(new Set(owned.values()).size > 1, shares.join(', '));
  });

  it('a second answer would be seen: an address that is put on another node by hand is heard twice', async () => {
    const owned = await owners();
    const [[address, owner] = ['', '']] = owned;
    const other = lab().nodes.find(({ name }) => name !== owner)!;
    await lab().expectRun(other, ['ip', 'addr', 'add', `${address}/32`, 'dev', 'eth0']);
    assert.deepEqual((await cluster.ear.whoHas([address], PATIENCE_MS)).get(address), [owner, other.name].sort());
    await lab().expectRun(other, ['ip', 'addr', 'del', `${address}/32`, 'dev', 'eth0']);
    await owners([address]);
  });

  it('tells of an address that a stranger on the LAN has already, and has it alone when he is gone', async () => {
    const asked = ['192.168.1.214', 'fd00:192:168:1::214'];
    const batch = (op: 'add' | 'del'): Promise<string> =>
      lab().expectRun(cluster.client, ['ip', '-batch', '-'], {
        input: `addr ${op} ${asked[0]}/32 dev eth0\naddr ${op} ${asked[1]}/128 dev eth0${op === 'add' ? ' nodad' : ''}\n`,
      });
    await batch('add');
    const claimed = balanced('claimed', 21, { spec: BOTH_FAMILIES, annotations: { 'fairway.dev/lb-ips': asked.join(',') } });
    cluster.put(claimed, ...servedBy('claimed', lab().pod(1, 1)));
    for (const address of asked)
      await until(
        `a daemon warns of ${address}`,
        async () =>
          lab().nodes.flatMap(node =>
            cluster
              .daemon(node)
              .lines.filter(({ text }) => / [WE] /.test(text))
              .map(({ text }) => text),
          ),
        lines => lines.some(text => text.includes(address) && text.includes('FW_LAN_DUPLICATE')),
      );
    await batch('del');
    await owners(asked, 40_000);
    cluster.remove(claimed);
  });

  it('keeps silent on a link that was not named', async () => {
    const answers = await elsewhere.whoHas(vips());
    assert.deepEqual([...answers.values()].flat(), []);
    const about = new Set(vips());
    assert.deepEqual(
      elsewhere.heard().filter(({ sender, target }) => about.has(sender) || about.has(target)),
      [],
    );
  });

  it('keeps the address of the client and answers on the node with the endpoint where the traffic policy is Local', async () => {
    const near = balanced('near', 20, { spec: { ...BOTH_FAMILIES, externalTrafficPolicy: 'Local' } });
    cluster.put(near, ...servedBy('near', lab().pod(2, 1)));
    const addresses = await cluster.allocated('near', 2);
    for (const at of [2, 3]) {
      cluster.put(...servedBy('near', lab().pod(at, 1)));
      await until(
        `node${at} answers for ${addresses.join(' and ')}`,
        async () => Object.fromEntries(await cluster.ear.whoHas(addresses, PATIENCE_MS)),
        seen => Object.values(seen).every(names => names.join(' ') === `node${at}`),
      );
      for (const address of addresses) {
        const reply = await until(
          `pod-${at}-1 answers at ${address}`,
          async () => await lab().probe(cluster.client).connect({ transport: 'tcp', address, port: 80, timeoutMs: 500 }),
          ({ outcome }) => outcome === 'answer',
        );
        assert.ok(reply.outcome === 'answer');
        assert.equal(reply.server, `pod-${at}-1`);
        assert.equal(reply.peer, cluster.client.addresses[isIpv6(address) ? 'ipv6' : 'ipv4']);
      }
    }
    cluster.put(...servedBy('near'));
    await until(
      'nobody answers for a Service without endpoints',
      async () => [...(await cluster.ear.whoHas(addresses, PATIENCE_MS)).values()].flat(),
      names => names.length === 0,
    );
    cluster.remove(near);
  });

  it('leaves a node that is excluded from load balancers or not ready, for others who announce it; no other moves, and it comes back', async () => {
    const before = await owners();
    const { node, addresses } = ownerOfBoth(before);
    const plain = nodeObject(node);
    const excluded = {
      ...plain,
      metadata: { ...plain.metadata, labels: { 'node.kubernetes.io/exclude-from-external-load-balancers': '' } },
    };
    const notReady = {
      ...plain,
      metadata: { ...plain.metadata, labels: {} },
      status: { ...(plain['status'] as object), conditions: [{ type: 'Ready', status: 'False' }] },
    };
    const well = { ...notReady, status: { ...(plain['status'] as object), conditions: [{ type: 'Ready', status: 'True' }] } };
    for (const [why, object] of [
      ['excluded', excluded],
      ['not ready', notReady],
    ] as const) {
      const watched = await watchAll(addresses);
      await more(watched);
      const since = await lab().now();
      cluster.put(object);
      await until(
        `the new owners of ${addresses.join(' and ')} announce themselves`,
        async () => addresses.map(address => announcements(address, since)),
        all => all.every(({ length }) => length > 0),
      );
      const moved = await until(
        `${node.name}, ${why}, answers for nothing`,
        async () => await owners(),
        seen => ownedBy(seen, node.name).length === 0,
      );
      for (const address of addresses)
        for (const { by } of announcements(address, since)) assert.equal(by, moved.get(address), address);
      for (const [address, owner] of before) if (owner !== node.name) assert.equal(moved.get(address), owner, address);
      cluster.put(well);
      await restored(before);
      await silences(watched, why);
    }
  });

  it('traffic goes on where the daemon of the owner is killed, and where it comes again', async () => {
    const before = await owners();
    const { node, addresses } = ownerOfBoth(before);
    const watched = await watchAll(addresses);
    await more(watched);
    await cluster.daemon(node).kill();
    await more(watched);
    assert.deepEqual(await owners(), before);
    await cluster.start([node]);
    await more(watched);
    const seen = await Promise.all(watched.map(async ({ flow, watch }) => `${flow} ${history(await watch.end())}`));
    assert.deepEqual(
      seen,
      watched.map(({ flow }) => `${flow} answer`),
    );
    assert.deepEqual(await owners(), before);
  });

  it('traffic follows where the owner is unplugged and dead, within its lease; then it comes back', async function () {
    this.timeout(90_000);
    const before = await owners();
    const { node, addresses } = ownerOfBoth(before);
    await servedOn(...lab().nodes.filter(one => one !== node));
    const watched = await watchAll(addresses);
    await more(watched);
    await Promise.all([cluster.cable(node, 'out'), cluster.daemon(node).kill()]);
    cluster.kubelets.silence(node);
    const after = await until(
      'others answer',
      async () => Object.fromEntries(await cluster.ear.whoHas(vips(), PATIENCE_MS)),
      seen => Object.values(seen).every(({ length }) => length === 1),
    );
    for (const address of addresses) assert.notEqual(after[address]?.[0], node.name);
    await more(watched);
    const lasted = await silences(watched, `${node.name} unplugged and dead`);
    for (const { flow, ms } of lasted)
      assert.ok(ms < LEASE_SECONDS * 1000 + SLACK_MS[isIpv6(flow) ? 'ipv6' : 'ipv4'], `${flow}: ${ms} ms`);

    const back = await watchAll(addresses);
    await more(back);
    await cluster.cable(node, 'in');
    cluster.kubelets.revive(node);
    await cluster.start([node]);
    await restored(before);
    await more(back);
    await silences(back, `${node.name} back`);
  });

  it('an owner that was cut off and never knew is one of two for a moment at most, and alone at rest', async function () {
    this.timeout(90_000);
    const before = await owners();
    const { node, addresses } = ownerOfBoth(before);
    const watched = await watchAll(addresses);
    await more(watched);
    await cluster.cable(node, 'out');
    cluster.kubelets.silence(node);
    await until(
      'others answer',
      async () => Object.fromEntries(await cluster.ear.whoHas(vips(), PATIENCE_MS)),
      seen => Object.values(seen).every(([name]) => name !== undefined && name !== node.name),
    );
    // Its kubelet is still silent: two nodes have the addresses on their links until the daemon hears that.
    await cluster.cable(node, 'in');
    const began = performance.now();
    let doubles = 0;
    await until(
      `${node.name} answers for nothing, and one other for each address`,
      async () => {
        const answers = [...(await cluster.ear.whoHas(vips(), PATIENCE_MS)).values()];
        doubles += answers.filter(({ length }) => length > 1).length;
        return answers;
      },
      answers => answers.every(names => names.length === 1 && names[0] !== node.name),
    );
    const took = Math.round(performance.now() - began);
    process.stdout.write(`      ${node.name} plugged in again: ${doubles} answers by two, one alone after ${took} ms\n`);
    const after = oneOfEach(await cluster.ear.whoHas(vips(), 3000));
    assert.deepEqual(ownedBy(after, node.name), []);
    cluster.kubelets.revive(node);
    await restored(before);
    await more(watched);
    await silences(watched, `${node.name} cut off`);
  });

  it('fairway cleanup takes every address from the links of a node: it answers for none any more', async () => {
    const before = await owners();
    const { node } = ownerOfBoth(before);
    const own = ownedBy(before, node.name);
    await cluster.daemon(node).stop();
    assert.deepEqual(
      oneOfEach(await cluster.ear.whoHas(own)),
      new Map(own.map(address => [address, node.name])),
      'a stop leaves them',
    );
    await lab().expectRun(node, [...FAIRWAY, 'cleanup'], { environment: { NODE_NAME: node.name } });
    assert.deepEqual([...(await cluster.ear.whoHas(own)).values()].flat(), []);
    const printed = await lab().expectRun(node, ['ip', '-o', 'addr', 'show', 'dev', 'eth0']);
    for (const address of vips()) assert.ok(!printed.includes(` ${address}/`), printed);
  });
});
