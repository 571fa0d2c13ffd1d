// Runs as root in the lab's guest, or in a network namespace of a machine that has gobgpd: `unshare -n` around mocha. Address plan, all on lo (GoBGP takes
// no route whose next hop is a loopback address): we are 198.51.100.1, neighbours 198.51.100.2 and on; nobody is 198.51.100.66.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { gobgpV3 } from '../../daemon/bgp/gobgp-v3.ts';
import type { Speaker, SpeakerEvents } from '../../daemon/bgp/speaker.ts';
import { bgpPathDriver, bgpPeerDriver, bgpPolicyDriver, bgpServerDriver } from '../../daemon/bgp/tables.ts';
import { FairwayError } from '../../daemon/errors.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import { Secret } from '../../daemon/net/secret.ts';
import type { BgpActions, BgpPath, BgpPeer, BgpPolicy, BgpServer, BgpStatement } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import { BGP_PORT, Gobgpd, type NeighborSettings, neighborConfiguration } from '../fakes/gobgpd.ts';
import { address, bgpPeer, bgpServer } from '../fixtures/bgp.ts';
import { until } from '../lab/until.ts';

const never = new AbortController().signal;
const WE = { address: '198.51.100.1', asn: 4_200_000_001 };
const SERVER: BgpServer = bgpServer({
  asn: WE.asn,
  routerId: address('192.0.2.1'),
  port: BGP_PORT,
  listenAddresses: [address(WE.address)],
});
const FABRIC_ASN = 4_200_000_099;
const UNCHANGED: BgpActions = { setCommunities: undefined, prepend: undefined, nextHopSelf: false };
const ANY = { neighbors: undefined, prefixes: undefined, origin: undefined, audience: undefined } as const;
const RESTART = { restartSeconds: 120, deferralSeconds: 360 };

const statement = (conditions: Partial<BgpStatement>, actions: Partial<BgpActions> = {}): BgpStatement => ({
  ...ANY,
  verdict: 'accept',
  ...conditions,
  actions: { ...UNCHANGED, ...actions },
});
const exporting = (statements: readonly BgpStatement[], otherwise: BgpPolicy['otherwise'] = 'reject'): BgpPolicy => ({
  direction: 'export',
  statements,
  otherwise,
});
const importing = (statements: readonly BgpStatement[], otherwise: BgpPolicy['otherwise'] = 'accept'): BgpPolicy => ({
  direction: 'import',
  statements,
  otherwise,
});
const TELL_OURS = exporting([statement({ origin: 'local' })]);
const path = (prefix: string, overrides: Partial<BgpPath> = {}): BgpPath => ({
  prefix: mustParsePrefix(prefix),
  nextHop: address(prefix.includes(':') ? 'fd00:1::1' : WE.address),
  audience: 'everyone',
  ...overrides,
});
const peerAt = (at: string, overrides: Partial<BgpPeer> = {}): BgpPeer =>
  bgpPeer(at, { asn: FABRIC_ASN, port: BGP_PORT, localAddress: address(WE.address), multihopTtl: 5, ...overrides });
const configured = (at: string, overrides: Partial<NeighborSettings> = {}): string =>
  neighborConfiguration({ address: at, asn: FABRIC_ASN, speaker: WE, ...overrides });

function ip(args: string): void {
  const { status, stderr } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
}

function secondsSince(begin: number): number {
  return Math.round((performance.now() - begin) / 100) / 10;
}

describe('gobgpd 3', function () {
  this.timeout(60_000);
  const endings: (() => Promise<void>)[] = [];
  let ours: Gobgpd;
  let speaker: Speaker;

  /** A neighbour of its own process, ended after the test. */
  async function neighbor(at: string, overrides: Partial<NeighborSettings> = {}): Promise<Gobgpd> {
    const made = new Gobgpd();
    endings.push(() => made.end());
    await made.start(configured(at, overrides));
    return made;
  }

  async function fresh(server: BgpServer = SERVER): Promise<void> {
    ours = new Gobgpd();
    const mine = ours;
    endings.push(() => mine.end());
    await ours.start();
    speaker = gobgpV3({ endpoint: ours.endpoint });
    const opened = speaker;
    endings.push(async () => opened.close());
    await speaker.startServer(server, never);
  }

  function established(at: string, limitMs = 25_000): Promise<unknown> {
    const isUp = async (): Promise<boolean> =>
      (await speaker.peerStatus(never)).some(each => each.address === at && each.state === 'established');
    return until(`a session with ${at}`, isUp, Boolean, limitMs);
  }

  const prefixesOf = async (of: Gobgpd, family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<string> =>
    Object.keys(await of.rib(family))
      .sort()
      .join(' ');
  const told = (of: Gobgpd, expected: string, family: 'ipv4' | 'ipv6' = 'ipv4', limitMs = 3_000): Promise<string> =>
    until(
      `the neighbour has ${expected || 'nothing'}`,
      () => prefixesOf(of, family),
      seen => seen === expected,
      limitMs,
    );

  before(() => {
    ip('link set lo up');
    for (const at of [1, 2, 3, 4]) ip(`addr replace 198.51.100.${at}/32 dev lo`);
  });

  afterEach(async () => {
    for (const end of endings.splice(0).reverse()) await end();
  });

  describe('by itself', () => {
    beforeEach(() => fresh());

    it('gives back the server as it was started, a 4-byte AS number and a server that nobody may call included', async () => {
      assert.deepEqual(await speaker.server(never), SERVER);
      await speaker.stopServer(never);
      assert.equal(await speaker.server(never), undefined);
      const silent = { ...SERVER, listenAddresses: [] };
      await speaker.startServer(silent, never);
      assert.deepEqual(await speaker.server(never), silent);
    });

    it('can be started again where an address could not be listened on at first', async () => {
      await speaker.stopServer(never);
      const absent = { ...SERVER, listenAddresses: [address(WE.address), address('192.0.2.77')] };
      await assert.rejects(speaker.startServer(absent, never), /192\.0\.2\.77.*cannot assign/);
      await speaker.startServer(SERVER, never);
      assert.deepEqual(await speaker.server(never), SERVER);
    });

    it('has nothing where its server is not started', async () => {
      await speaker.stopServer(never);
      const nothing = [speaker.peers(never), speaker.policies(never), speaker.localPaths(never), speaker.bestPaths('all', never)];
      assert.deepEqual(await Promise.all(nothing), [[], [], [], []]);
    });

    it('gives back peers as they were added', async () => {
      const peers = [
        peerAt('198.51.100.2', { password: new Secret('s3cret'), families: ['ipv4', 'ipv6'], holdSeconds: 30 }),
        peerAt('198.51.100.3', { asn: WE.asn, multihopTtl: 0, localAddress: undefined, gracefulRestart: RESTART }),
        peerAt('198.51.100.4', { asn: WE.asn, reflectorClusterId: address('1.2.3.4'), families: ['ipv6'] }),
        peerAt('::1', { localAddress: address('::1'), port: 179, gracefulRestart: { ...RESTART, deferralSeconds: 7 } }),
      ];
      for (const peer of peers) await speaker.addPeer(peer, { isRestarting: false }, never);
      const found = await speaker.peers(never);
      const sorted = found.toSorted(
        (one, other) =>
          peers.findIndex(each => each.address === one.address) - peers.findIndex(each => each.address === other.address),
      );
      assert.equal(found.length, peers.length);
      for (const [index, peer] of peers.entries()) {
        const actual = sorted[index]!;
        assert.deepEqual({ ...actual, password: actual.password.reveal() }, { ...peer, password: peer.password.reveal() });
        assert.ok(TABLES.bgpPeer.same(actual, peer));
      }
    });

    it('gives back peers that restart with their own deferral time', async () => {
      const peer = peerAt('198.51.100.3', { gracefulRestart: RESTART });
      await speaker.addPeer(peer, { isRestarting: true }, never);
      assert.ok(TABLES.bgpPeer.same((await speaker.peers(never))[0]!, peer));
    });

    it('leaves peers and paths of others alone', async () => {
      await ours.cli('neighbor', 'add', '198.51.100.9', 'as', '65009');
      await ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
      assert.deepEqual(await speaker.peers(never), []);
      assert.deepEqual(await speaker.localPaths(never), []);
    });

    it('names the entry that is refused, and no password', async () => {
      const peer = peerAt('198.51.100.2', { password: new Secret('s3cret') });
      await speaker.addPeer(peer, { isRestarting: false }, never);
      await assert.rejects(speaker.addPeer(peer, { isRestarting: false }, never), (error: unknown) => {
        assert.ok(error instanceof FairwayError);
        assert.equal(error.code, 'FW_BGP_REFUSED');
        assert.match(error.message, /peer 198\.51\.100\.2: .*existing peer/);
        assert.doesNotMatch(error.message, /s3cret/);
        return true;
      });
    });

    it('is unreachable where it is killed', async () => {
      await ours.stop();
      await assert.rejects(speaker.server(never), { code: 'FW_BGP_UNREACHABLE' });
      await assert.rejects(speaker.peers(never), { code: 'FW_BGP_UNREACHABLE' });
      await assert.rejects(speaker.addPaths([path('10.1.0.0/24')], never), { code: 'FW_BGP_UNREACHABLE' });
    });

    it('gives back policies by what they say', async () => {
      const policies = [
        importing([
          statement({ prefixes: [{ prefix: mustParsePrefix('10.1.0.0/24'), minLength: 24, maxLength: 32 }], verdict: 'reject' }),
          statement({ prefixes: [{ prefix: mustParsePrefix('fd00::/8'), minLength: 8, maxLength: 128 }], verdict: 'reject' }),
          statement({ neighbors: [address('198.51.100.2'), address('fd00::2')], origin: 'external' }),
        ]),
        exporting([
          statement(
            { neighbors: [address('198.51.100.2')], origin: 'local', audience: 'fabric' },
            {
              setCommunities: [65535 * 65536 + 65281, 4_200_000_000],
              prepend: { asn: 4_200_000_001, times: 3 },
              nextHopSelf: true,
            },
          ),
          statement({ origin: 'local', audience: 'everyone' }, { setCommunities: [] }),
          statement({ neighbors: [address('198.51.100.2')], verdict: 'reject' }),
          statement({ origin: 'internal' }),
        ]),
      ];
      for (const policy of policies) await speaker.setPolicy(policy, never);
      assert.deepEqual(await speaker.policies(never), policies);
      await speaker.setPolicy(exporting([], 'accept'), never);
      assert.deepEqual((await speaker.policies(never))[1], exporting([], 'accept'));
      await speaker.deletePolicy('import', never);
      assert.deepEqual(await speaker.policies(never), [exporting([], 'accept')]);
      assert.match(await ours.cli('policy'), /fairway-export-2/);
      assert.doesNotMatch(await ours.cli('policy'), /fairway-(export-1|import)/);
      assert.doesNotMatch(await ours.cli('policy', 'neighbor'), /fairway/);
    });

    it('has no policy of ours where somebody changed what it says, and takes it again', async () => {
      await speaker.setPolicy(TELL_OURS, never);
      await ours.cli('policy', 'statement', 'fairway-export-1-0', 'add', 'action', 'med', 'set', '100');
      assert.deepEqual(await speaker.policies(never), []);
      await speaker.setPolicy(TELL_OURS, never);
      assert.deepEqual(await speaker.policies(never), [TELL_OURS]);
    });

    it('keeps our own paths where the import policy rejects their prefix from others', async () => {
      const own = { prefix: mustParsePrefix('10.1.0.0/24'), minLength: 24, maxLength: 32 };
      await speaker.setPolicy(importing([statement({ prefixes: [own], verdict: 'reject' })]), never);
      await speaker.addPaths([path('10.1.0.0/24')], never);
      assert.deepEqual(await speaker.localPaths(never), [path('10.1.0.0/24')]);
    });

    it('takes thousands of paths at once, replaces and deletes them', async () => {
      const many = Array.from({ length: 5_000 }, (_, index) => path(`10.${100 + (index >> 8)}.${index & 255}.0/24`));
      const six = path('fd00:10::/64', { audience: 'fabric' });
      await speaker.addPaths([...many, six], never);
      assert.equal((await speaker.localPaths(never)).length, 5_001);
      const moved = path('10.100.1.0/24', { nextHop: address('198.51.100.7'), audience: 'fabric' });
      await speaker.addPaths([moved], never);
      const found = await speaker.localPaths(never);
      assert.equal(found.length, 5_001);
      assert.deepEqual(
        found.find(({ prefix }) => prefix === moved.prefix),
        moved,
      );
      assert.deepEqual(await speaker.bestPaths([six.prefix, moved.prefix], never), [
        { prefix: moved.prefix, nextHop: moved.nextHop, origin: 'local', neighbor: undefined },
        { prefix: six.prefix, nextHop: six.nextHop, origin: 'local', neighbor: undefined },
      ]);
      await speaker.deletePaths(
        many.map(({ prefix }) => prefix),
        never,
      );
      assert.deepEqual(await speaker.localPaths(never), [six]);
      assert.deepEqual(await speaker.bestPaths([], never), []);
    });
  });

  describe('with neighbours', () => {
    const uptimeOf = async (at: string): Promise<string> => {
      const found = JSON.parse(await ours.cli('neighbor', at, '-j')) as { timers: { state: { uptime: { seconds: number } } } };
      return String(found.timers.state.uptime.seconds);
    };

    it('tells each what it may hear of, and our marks to no one', async () => {
      await fresh();
      const fabric = await neighbor('198.51.100.2', { families: ['ipv4', 'ipv6'] });
      const node = await neighbor('198.51.100.3', { asn: WE.asn });
      await speaker.addPeer(peerAt('198.51.100.2', { families: ['ipv4', 'ipv6'] }), { isRestarting: false }, never);
      await speaker.addPeer(peerAt('198.51.100.3', { asn: WE.asn }), { isRestarting: false }, never);
      await speaker.addPaths(
        [
          path('10.1.0.0/24'),
          path('10.96.0.1/32', { audience: 'fabric' }),
          path('fd00:10:1::/64'),
          path('10.2.0.0/24', { nextHop: address('198.51.100.50') }),
        ],
        never,
      );
      await ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
      await Promise.all([established('198.51.100.2'), established('198.51.100.3')]);
      await pause(500);
      assert.equal(await prefixesOf(fabric), '', 'nothing before there is a policy');

      const toFabric = { neighbors: [address('198.51.100.2')], origin: 'local' } as const;
      await speaker.setPolicy(
        exporting([
          statement(
            { ...toFabric, audience: 'fabric' },
            { setCommunities: [65_000 * 65_536 + 7], prepend: { asn: 64_999, times: 2 } },
          ),
          statement({ ...toFabric, audience: 'everyone' }, { setCommunities: [], nextHopSelf: true }),
          statement({ origin: 'local', audience: 'everyone' }),
        ]),
        never,
      );
      await told(fabric, '10.1.0.0/24 10.2.0.0/24 10.96.0.1/32');
      await told(fabric, 'fd00:10:1::/64', 'ipv6');
      await told(node, '10.1.0.0/24 10.2.0.0/24');
      const seen = await fabric.rib();
      assert.deepEqual(seen['10.96.0.1/32'], {
        nextHop: WE.address,
        asPath: [64_999, 64_999, WE.asn],
        communities: [65_000 * 65_536 + 7],
        isStale: false,
      });
      assert.deepEqual(seen['10.1.0.0/24'], { nextHop: WE.address, asPath: [WE.asn], communities: [], isStale: false });
      assert.equal(seen['10.2.0.0/24']?.nextHop, WE.address, 'our end of the session');
      const atNode = await node.rib();
      assert.deepEqual(atNode['10.2.0.0/24'], { nextHop: '198.51.100.50', asPath: [], communities: [], isStale: false });

      await speaker.setPolicy(exporting([], 'accept'), never);
      await told(node, '10.1.0.0/24 10.2.0.0/24 10.9.0.0/24 10.96.0.1/32');
      assert.deepEqual((await node.rib())['10.96.0.1/32']?.communities, []);
      await until(
        'no community is left',
        async () => (await fabric.rib())['10.96.0.1/32']?.communities,
        seenNow => seenNow?.length === 0,
        3_000,
      );
      assert.equal((await fabric.rib('ipv6'))['fd00:10:1::/64']?.nextHop, 'fd00:1::1');
    });

    it('withdraws what a new policy rejects, from those alone whom it concerns, and ends no session', async () => {
      await fresh();
      const [one, two] = [await neighbor('198.51.100.2'), await neighbor('198.51.100.3')];
      await speaker.setPolicy(TELL_OURS, never);
      for (const at of ['198.51.100.2', '198.51.100.3']) await speaker.addPeer(peerAt(at), { isRestarting: false }, never);
      await speaker.addPaths([path('10.1.0.0/24'), path('10.96.0.1/32', { audience: 'fabric' })], never);
      await ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
      await Promise.all([
        told(one, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32', 'ipv4', 25_000),
        told(two, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32', 'ipv4', 25_000),
      ]);
      const uptimes = [await uptimeOf('198.51.100.2'), await uptimeOf('198.51.100.3')];

      await speaker.setPolicy(
        exporting([statement({ neighbors: [address('198.51.100.3')] }), statement({ origin: 'local', audience: 'everyone' })]),
        never,
      );
      await told(one, '10.1.0.0/24');
      await told(two, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32');
      await speaker.deletePolicy('export', never);
      await told(one, '');
      await told(two, '');
      await speaker.setPolicy(TELL_OURS, never);
      await told(one, '10.1.0.0/24 10.9.0.0/24 10.96.0.1/32');
      assert.deepEqual([await uptimeOf('198.51.100.2'), await uptimeOf('198.51.100.3')], uptimes);
      assert.equal((await speaker.localPaths(never)).length, 2);
      assert.equal((await speaker.peerStatus(never))[0]?.advertised, 3);

      await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
      await until(
        'it is taken in',
        () => speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never),
        found => found.length === 1,
        3_000,
      );
      const within = { prefix: mustParsePrefix('10.48.0.0/12'), minLength: 12, maxLength: 32 };
      await speaker.setPolicy(importing([statement({ prefixes: [within], verdict: 'reject' })]), never);
      assert.deepEqual(await speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never), []);
      await speaker.deletePolicy('import', never);
      assert.equal((await speaker.bestPaths([mustParsePrefix('10.50.0.0/24')], never)).length, 1);
    });

    it('takes back also what it handed on from another neighbour, by a new session', async () => {
      await fresh();
      const [one, two] = [await neighbor('198.51.100.2'), await neighbor('198.51.100.3', { asn: 65_003 })];
      await speaker.setPolicy(exporting([], 'accept'), never);
      await speaker.addPeer(peerAt('198.51.100.2'), { isRestarting: false }, never);
      await speaker.addPeer(peerAt('198.51.100.3', { asn: 65_003 }), { isRestarting: false }, never);
      await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
      await told(two, '10.50.0.0/24', 'ipv4', 25_000);
      const uptime = await uptimeOf('198.51.100.2');
      await speaker.setPolicy(TELL_OURS, never);
      await told(two, '');
      await established('198.51.100.3');
      await pause(500);
      assert.equal(await prefixesOf(two), '');
      assert.equal(await uptimeOf('198.51.100.2'), uptime, 'the other session goes on');
    });

    it('knows equal best paths, and tells of each change of them', async () => {
      await fresh();
      const [one, two] = [await neighbor('198.51.100.2'), await neighbor('198.51.100.3')];
      const changed = new Set<string>();
      const sessions = new Set<string>();
      const events: SpeakerEvents = {
        changed: prefixes => prefixes.forEach(prefix => changed.add(prefix)),
        session: at => sessions.add(at),
      };
      const ending = new AbortController();
      const watching = speaker.watch(events, ending.signal);
      for (const at of ['198.51.100.2', '198.51.100.3']) await speaker.addPeer(peerAt(at), { isRestarting: false }, never);
      await Promise.all([established('198.51.100.2'), established('198.51.100.3')]);
      assert.deepEqual([...sessions].sort(), ['198.51.100.2', '198.51.100.3']);
      const prefix = mustParsePrefix('10.50.0.0/24');
      const bestAfter = async (what: string, change: () => Promise<unknown>): Promise<readonly string[]> => {
        changed.clear();
        await change();
        await until(`an event where ${what}`, async () => changed.has(prefix), Boolean, 3_000);
        return (await speaker.bestPaths([prefix], never))
          .map(({ nextHop, origin, neighbor: by }) => `${nextHop} ${origin} ${by ?? 'we'}`)
          .sort();
      };
      const add =
        (by: Gobgpd, nextHop: string, ...more: readonly string[]) =>
        () =>
          by.cli('global', 'rib', 'add', prefix, 'nexthop', nextHop, ...more);
      const remove = (by: Gobgpd) => () => by.cli('global', 'rib', 'del', prefix);
      const [byOne, byTwo] = ['198.51.100.2 external 198.51.100.2', '198.51.100.3 external 198.51.100.3'];
      assert.deepEqual(await bestAfter('it comes', add(one, '198.51.100.2')), [byOne]);
      assert.deepEqual(await bestAfter('it has a second way', add(two, '198.51.100.3')), [byOne, byTwo]);
      assert.deepEqual(await bestAfter('the second way is another', add(two, '198.51.100.9')), [
        byOne,
        '198.51.100.9 external 198.51.100.3',
      ]);
      assert.deepEqual(await bestAfter('the second is worse', add(two, '198.51.100.3', 'med', '50')), [byOne]);
      assert.deepEqual(await bestAfter('the second is as good again', add(two, '198.51.100.3')), [byOne, byTwo]);
      assert.deepEqual(await bestAfter('we have it', () => speaker.addPaths([path(prefix)], never)), [`${WE.address} local we`]);
      assert.deepEqual(await bestAfter('we no longer have it', () => speaker.deletePaths([prefix], never)), [byOne, byTwo]);
      assert.deepEqual(await bestAfter('the first goes', remove(one)), [byTwo]);
      assert.deepEqual(await bestAfter('the session goes', () => two.stop()), []);
      ending.abort();
      await watching;
      const lost = speaker.watch(events, never);
      await pause(200);
      await ours.stop();
      await assert.rejects(lost, { code: 'FW_BGP_UNREACHABLE' });
    });

    it('goes on with a session whose hold time changes, and begins another for the rest', async () => {
      await fresh();
      await neighbor('198.51.100.2');
      const before = peerAt('198.51.100.2');
      await speaker.addPeer(before, { isRestarting: false }, never);
      await established('198.51.100.2');
      const uptime = await uptimeOf('198.51.100.2');
      const patient = peerAt('198.51.100.2', { holdSeconds: 60 });
      await speaker.updatePeer(before, patient, never);
      assert.ok(TABLES.bgpPeer.same((await speaker.peers(never))[0]!, patient));
      assert.equal(await uptimeOf('198.51.100.2'), uptime);
      for (const other of [
        peerAt('198.51.100.2', { multihopTtl: 9 }),
        peerAt('198.51.100.2', { families: ['ipv4', 'ipv6'], localAddress: undefined }),
      ]) {
        await speaker.updatePeer(patient, other, never);
        assert.ok(TABLES.bgpPeer.same((await speaker.peers(never))[0]!, other));
        await established('198.51.100.2');
        assert.ok(TABLES.bgpPeer.same((await speaker.peers(never))[0]!, other), 'also while the session is up');
      }
    });

    it('meets a neighbour with a password, and without one after it is taken away', async () => {
      await fresh();
      const protectedOne = await neighbor('198.51.100.2', { password: 's3cret' });
      const guarded = peerAt('198.51.100.2', { password: new Secret('s3cret') });
      await speaker.addPeer(guarded, { isRestarting: false }, never);
      await established('198.51.100.2');
      await protectedOne.stop();
      await speaker.deletePeer(guarded.address, never);
      await protectedOne.start(configured('198.51.100.2'));
      // It calls us: our listener must not ask for the password any more.
      await speaker.addPeer(peerAt('198.51.100.2', { port: 1 }), { isRestarting: false }, never);
      await established('198.51.100.2');
    });

    it('exchanges IPv4 routes over an IPv6 session', async () => {
      await fresh({ ...SERVER, listenAddresses: [address('::1')] });
      const six = await neighbor('::1', { speaker: { ...WE, address: '::1' }, families: ['ipv4', 'ipv6'], port: BGP_PORT + 1 });
      await speaker.setPolicy(TELL_OURS, never);
      await speaker.addPaths(
        [path('10.1.0.0/24'), path('fd00:10:1::/64'), path('10.2.0.0/24', { nextHop: address('fd00:1::1') })],
        never,
      );
      await speaker.addPeer(
        peerAt('::1', { localAddress: address('::1'), port: BGP_PORT + 1, families: ['ipv4', 'ipv6'] }),
        { isRestarting: false },
        never,
      );
      await told(six, '10.1.0.0/24 10.2.0.0/24', 'ipv4', 25_000);
      await told(six, 'fd00:10:1::/64', 'ipv6');
      assert.equal((await six.rib())['10.1.0.0/24']?.nextHop, WE.address);
      assert.equal((await six.rib())['10.2.0.0/24']?.nextHop, 'fd00:1::1');
      assert.deepEqual((await speaker.localPaths(never)).find(each => each.prefix === '10.2.0.0/24')?.nextHop, 'fd00:1::1');
    });

    it('takes our routes back at once where a neighbour is deleted or the server stops, graceful restart or not', async () => {
      await fresh();
      const [one, two] = [
        await neighbor('198.51.100.2', { gracefulRestart: true }),
        await neighbor('198.51.100.3', { gracefulRestart: true }),
      ];
      await speaker.setPolicy(TELL_OURS, never);
      await speaker.addPaths([path('10.1.0.0/24')], never);
      for (const at of ['198.51.100.2', '198.51.100.3'])
        await speaker.addPeer(peerAt(at, { gracefulRestart: RESTART }), { isRestarting: false }, never);
      await one.cli('global', 'rib', 'add', '10.50.0.0/24', 'nexthop', '198.51.100.2');
      await Promise.all([told(one, '10.1.0.0/24 10.50.0.0/24', 'ipv4', 25_000), told(two, '10.1.0.0/24', 'ipv4', 25_000)]);
      await until(
        'all is told',
        () => speaker.peerStatus(never),
        found => found.every(({ isComplete }) => isComplete),
        3_000,
      );
      await speaker.deletePeer(address('198.51.100.2'), never);
      await told(one, '10.50.0.0/24', 'ipv4', 1_000);
      assert.deepEqual(
        (await speaker.bestPaths('all', never)).map(({ prefix }) => prefix),
        ['10.1.0.0/24'],
      );
      await speaker.stopServer(never);
      await told(two, '', 'ipv4', 1_000);
    });

    it('tells live neighbours news soon after a restart, though another is dead', async () => {
      await fresh();
      const live = await neighbor('198.51.100.2', { gracefulRestart: true });
      const peers = [peerAt('198.51.100.2', { gracefulRestart: RESTART }), peerAt('198.51.100.66', { gracefulRestart: RESTART })];
      await speaker.setPolicy(TELL_OURS, never);
      await speaker.addPaths([path('10.1.0.0/24'), path('10.2.0.0/24')], never);
      for (const peer of peers) await speaker.addPeer(peer, { isRestarting: false }, never);
      await told(live, '10.1.0.0/24 10.2.0.0/24', 'ipv4', 25_000);
      await ours.stop('SIGKILL');
      await until(
        'our routes are kept',
        async () => Object.values(await live.rib()),
        seen => seen.length === 2 && seen.every(({ isStale }) => isStale),
        5_000,
      );

      await fresh();
      await speaker.setPolicy(TELL_OURS, never);
      await speaker.addPaths([path('10.1.0.0/24'), path('10.3.0.0/24')], never);
      for (const peer of peers) await speaker.addPeer(peer, { isRestarting: true }, never);
      const begin = performance.now();
      let lost = 0;
      const look = async (): Promise<string> => {
        const seen = await prefixesOf(live);
        if (!seen.includes('10.1.0.0/24')) lost++;
        return seen;
      };
      await until('the new route is told, the old one taken back', look, seen => seen === '10.1.0.0/24 10.3.0.0/24', 20_000);
      assert.equal(lost, 0, 'the route that stays was never away');
      console.log(`      ${secondsSince(begin)} s after peers were added, news at the live neighbour`);
      await speaker.addPaths([path('10.4.0.0/24')], never);
      await told(live, '10.1.0.0/24 10.3.0.0/24 10.4.0.0/24', 'ipv4', 1_000);
    });

    it('meets a neighbour that comes up later, calling or called', async () => {
      await fresh();
      for (const at of ['198.51.100.2', '198.51.100.3', '198.51.100.4'])
        await speaker.addPeer(peerAt(at), { isRestarting: false }, never);
      await pause(3_000);
      await neighbor('198.51.100.2');
      await neighbor('198.51.100.3', { passive: true });
      const begin = performance.now();
      const [called, passive] = [
        established('198.51.100.2').then(() => secondsSince(begin)),
        established('198.51.100.3').then(() => secondsSince(begin)),
      ];
      console.log(`      a neighbour 3 s later: ${await called} s after its start; one that only waits: ${await passive} s`);
      await pause(12_000);
      await neighbor('198.51.100.4', { passive: true });
      const refused = performance.now();
      await established('198.51.100.4', 15_000);
      console.log(`      one that refused us for longer and only waits: ${secondsSince(refused)} s after its start`);
    });
  });

  describe('behind the tables', () => {
    it('has every entry but the refused one', async () => {
      await fresh();
      let restarts = 0;
      const access = { speaker: () => speaker, isRestarting: () => false, restarted: () => void restarts++ };
      const [servers, policies, paths, peers] = [
        bgpServerDriver(access),
        bgpPolicyDriver(access),
        bgpPathDriver(access),
        bgpPeerDriver(access),
      ];
      const bad = { ...path('10.2.0.0/24'), nextHop: 'no address' as BgpPath['nextHop'] };
      const wanted = [path('10.1.0.0/24'), bad, path('10.3.0.0/24')];
      const made = await paths.apply(
        wanted.map(to => ({ op: 'create', key: to.prefix, to })),
        never,
      );
      assert.deepEqual([...made.failed.keys()], ['10.2.0.0/24']);
      assert.match(made.failed.get('10.2.0.0/24')?.message ?? '', /refused path 10\.2\.0\.0\/24/);
      const found = await paths.read(new Map([[wanted[0]!.prefix, wanted[0]!]]), never);
      assert.deepEqual([...found.keys()].sort(), ['10.1.0.0/24', '10.3.0.0/24']);
      assert.equal(found.get('10.1.0.0/24'), wanted[0], 'what is as wanted is the wanted one');

      const known = peerAt('198.51.100.2', { password: new Secret('s3cret') });
      const added = await peers.apply(
        [known, { ...known, asn: 1 }, peerAt('198.51.100.3')].map(to => ({ op: 'create', key: `${to.address} ${to.asn}`, to })),
        never,
      );
      assert.deepEqual([...added.failed.keys()], ['198.51.100.2 1']);
      assert.equal((await peers.read(new Map(), never)).size, 2);
      assert.match(
        peers.render([{ op: 'create', key: '198.51.100.2', to: known }]),
        /^gobgp neighbor add 198\.51\.100\.2 as \d+ .*\[hidden\]\n$/,
      );
      assert.doesNotMatch(peers.render([{ op: 'update', key: '198.51.100.2', from: known, to: known }]), /s3cret/);

      const ranges = ['192.168.0.0/16', '10.0.0.0/8', '172.16.0.0/12'].map(text => ({
        prefix: mustParsePrefix(text),
        minLength: 8,
        maxLength: 32,
      }));
      const policy = importing([
        statement({ prefixes: ranges, neighbors: [address('198.51.100.3'), address('198.51.100.2')], verdict: 'reject' }),
      ]);
      assert.equal((await policies.apply([{ op: 'create', key: 'import', to: policy }], never)).failed.size, 0);
      assert.equal(
        (await policies.read(new Map([['import', policy]]), never)).get('import'),
        policy,
        'whatever order the speaker has',
      );

      const moved = { ...SERVER, asn: 64_513 };
      assert.equal((await servers.apply([{ op: 'update', key: 'global', from: SERVER, to: moved }], never)).failed.size, 0);
      assert.deepEqual([...(await servers.read(new Map(), never)).values()], [moved]);
      assert.equal(restarts, 1);
      assert.deepEqual(
        [
          (await paths.read(new Map(), never)).size,
          (await peers.read(new Map(), never)).size,
          (await policies.read(new Map(), never)).size,
        ],
        [0, 0, 0],
      );
    });

    it('waits for a speaker that does not answer once, not once an entry', async () => {
      await fresh();
      await ours.stop();
      const access = { speaker: () => speaker, isRestarting: () => false, restarted: () => undefined };
      const many = Array.from({ length: 50 }, (_, index) => peerAt(`127.0.2.${index + 1}`));
      const begin = performance.now();
      const result = await bgpPeerDriver(access).apply(
        many.map(to => ({ op: 'create', key: to.address, to })),
        never,
      );
      assert.equal(result.failed.size, 50);
      assert.equal(result.failed.get('127.0.2.50')?.code, 'FW_BGP_UNREACHABLE');
      assert.ok(secondsSince(begin) < 11);
    });
  });
});
