// Runs as root in the lab's guest, or in a network namespace of a machine that has gobgpd: `unshare -n` around mocha.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { bgpPathDriver, bgpPeerDriver, bgpPolicyDriver, bgpServerDriver } from '../../daemon/bgp/tables.ts';
import { FairwayError } from '../../daemon/errors.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import { Secret } from '../../daemon/net/secret.ts';
import type { BgpPath } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import {
  exporting,
  GobgpWorld,
  importing,
  never,
  path,
  peerAt,
  SERVER,
  secondsSince,
  statement,
  TELL_OURS,
  WE,
} from '../fakes/gobgp-world.ts';
import { address, NO_GATE } from '../fixtures/bgp.ts';

const RESTART = { restartSeconds: 120, deferralSeconds: 360 };

describe('gobgpd 3', function () {
  this.timeout(60_000);
  const world = new GobgpWorld();
  before(() => GobgpWorld.prepare());
  afterEach(() => world.end());

  describe('by itself', () => {
    beforeEach(() => world.fresh());

    it('gives back the server as it was started, a 4-byte AS number and a server that nobody may call included', async () => {
      assert.deepEqual(await world.speaker.server(never), SERVER);
      await world.speaker.stopServer(never);
      assert.equal(await world.speaker.server(never), undefined);
      const silent = { ...SERVER, listenAddresses: [] };
      await world.speaker.startServer(silent, never);
      assert.deepEqual(await world.speaker.server(never), silent);
    });

    it('can be started again where an address could not be listened on at first', async () => {
      await world.speaker.stopServer(never);
      const absent = { ...SERVER, listenAddresses: [address(WE.address), address('192.0.2.77')] };
      await assert.rejects(world.speaker.startServer(absent, never), /192\.0\.2\.77.*cannot assign/);
      await world.speaker.startServer(SERVER, never);
      assert.deepEqual(await world.speaker.server(never), SERVER);
    });

    it('says that another program has its port, with the flag for another, and starts when it is free', async () => {
      await world.speaker.stopServer(never);
      const other = createServer().listen(SERVER.port, WE.address);
      await once(other, 'listening');
      const remedy = /address already in use \(another program speaks BGP there: .*--bgp-port/;
      await assert.rejects(world.speaker.startServer(SERVER, never), remedy);
      other.close();
      await once(other, 'close');
      await world.speaker.startServer(SERVER, never);
      assert.deepEqual(await world.speaker.server(never), SERVER);
    });

    it('has nothing where its server is not started', async () => {
      await world.speaker.stopServer(never);
      const nothing = [
        world.speaker.peers(never),
        world.speaker.policies(never),
        world.speaker.localPaths(never),
        world.speaker.bestPaths('all', never),
      ];
      assert.deepEqual(await Promise.all(nothing), [[], [], [], []]);
    });

    it('gives back peers as they were added', async () => {
      const peers = [
        peerAt('198.51.100.2', { password: new Secret('s3cret'), families: ['ipv4', 'ipv6'], holdSeconds: 30 }),
        peerAt('198.51.100.3', { asn: WE.asn, multihopTtl: 0, localAddress: undefined, gracefulRestart: RESTART }),
        peerAt('198.51.100.4', { asn: WE.asn, reflectorClusterId: address('1.2.3.4'), families: ['ipv6'] }),
        peerAt('::1', { localAddress: address('::1'), port: 179, gracefulRestart: { restartSeconds: 0, deferralSeconds: 0 } }),
      ];
      for (const peer of peers) await world.speaker.addPeer(peer, { isRestarting: false }, never);
      const found = await world.speaker.peers(never);
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
      await world.speaker.addPeer(peer, { isRestarting: true }, never);
      assert.ok(TABLES.bgpPeer.same((await world.speaker.peers(never))[0]!, peer));
    });

    it('leaves peers and paths of others alone', async () => {
      await world.ours.cli('neighbor', 'add', '198.51.100.9', 'as', '65009');
      await world.ours.cli('global', 'rib', 'add', '10.9.0.0/24', 'nexthop', '198.51.100.1');
      assert.deepEqual(await world.speaker.peers(never), []);
      assert.deepEqual(await world.speaker.localPaths(never), []);
    });

    it('names the entry that is refused, and no password', async () => {
      const peer = peerAt('198.51.100.2', { password: new Secret('s3cret') });
      await world.speaker.addPeer(peer, { isRestarting: false }, never);
      await assert.rejects(world.speaker.addPeer(peer, { isRestarting: false }, never), (error: unknown) => {
        assert.ok(error instanceof FairwayError);
        assert.equal(error.code, 'FW_BGP_REFUSED');
        assert.match(error.message, /peer 198\.51\.100\.2: .*existing peer/);
        assert.doesNotMatch(error.message, /s3cret/);
        return true;
      });
    });

    it('is unreachable where it is killed', async () => {
      await world.ours.stop();
      await assert.rejects(world.speaker.server(never), { code: 'FW_BGP_UNREACHABLE' });
      await assert.rejects(world.speaker.peers(never), { code: 'FW_BGP_UNREACHABLE' });
      await assert.rejects(world.speaker.addPaths([path('10.1.0.0/24')], never), { code: 'FW_BGP_UNREACHABLE' });
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
      for (const policy of policies) await world.speaker.setPolicy(policy, never);
      assert.deepEqual(await world.speaker.policies(never), policies);
      await world.speaker.setPolicy(exporting([], 'accept'), never);
      assert.deepEqual((await world.speaker.policies(never))[1], exporting([], 'accept'));
      await world.speaker.deletePolicy('import', never);
      assert.deepEqual(await world.speaker.policies(never), [exporting([], 'accept')]);
      assert.match(await world.ours.cli('policy'), /fairway-export-2/);
      assert.doesNotMatch(await world.ours.cli('policy'), /fairway-(export-1|import)/);
      assert.doesNotMatch(await world.ours.cli('policy', 'neighbor'), /fairway/);
    });

    it('has no policy of ours where somebody changed what it says, and takes it again', async () => {
      await world.speaker.setPolicy(TELL_OURS, never);
      await world.ours.cli('policy', 'statement', 'fairway-export-1-0', 'add', 'action', 'med', 'set', '100');
      assert.deepEqual(await world.speaker.policies(never), []);
      await world.speaker.setPolicy(TELL_OURS, never);
      assert.deepEqual(await world.speaker.policies(never), [TELL_OURS]);
    });

    it('keeps our own paths where the import policy rejects their prefix from others', async () => {
      const own = { prefix: mustParsePrefix('10.1.0.0/24'), minLength: 24, maxLength: 32 };
      await world.speaker.setPolicy(importing([statement({ prefixes: [own], verdict: 'reject' })]), never);
      await world.speaker.addPaths([path('10.1.0.0/24')], never);
      assert.deepEqual(await world.speaker.localPaths(never), [path('10.1.0.0/24')]);
    });

    it('takes thousands of paths at once, replaces and deletes them', async () => {
      const many = Array.from({ length: 5_000 }, (_, index) => path(`10.${100 + (index >> 8)}.${index & 255}.0/24`));
      const six = path('fd00:10::/64', { audience: 'fabric' });
      await world.speaker.addPaths([...many, six], never);
      assert.equal((await world.speaker.localPaths(never)).length, 5_001);
      const moved = path('10.100.1.0/24', { nextHop: address('198.51.100.7'), audience: 'fabric' });
      await world.speaker.addPaths([moved], never);
      const found = await world.speaker.localPaths(never);
      assert.equal(found.length, 5_001);
      assert.deepEqual(
        found.find(({ prefix }) => prefix === moved.prefix),
        moved,
      );
      assert.deepEqual(await world.speaker.bestPaths([six.prefix, moved.prefix], never), [
        { prefix: moved.prefix, nextHop: moved.nextHop, origin: 'local', neighbor: undefined },
        { prefix: six.prefix, nextHop: six.nextHop, origin: 'local', neighbor: undefined },
      ]);
      await world.speaker.deletePaths(
        many.map(({ prefix }) => prefix),
        never,
      );
      assert.deepEqual(await world.speaker.localPaths(never), [six]);
      assert.deepEqual(await world.speaker.bestPaths([], never), []);
    });
  });

  describe('behind the tables', () => {
    it('has every entry but the refused one', async () => {
      await world.fresh();
      let restarts = 0;
      const access = { speaker: () => world.speaker, isRestarting: () => false, restarted: () => (restarts += 1), gate: NO_GATE };
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
      const more = Array.from({ length: 2_500 }, (_, index) => path(`10.${100 + (index >> 8)}.${index & 255}.0/24`));
      const bulk = await paths.apply(
        [bad, ...more].map(to => ({ op: 'create', key: to.prefix, to })),
        never,
      );
      assert.deepEqual([...bulk.failed.keys()], ['10.2.0.0/24']);
      await world.speaker.deletePaths(
        more.map(({ prefix }) => prefix),
        never,
      );
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
      await world.fresh();
      await world.ours.stop();
      const access = { speaker: () => world.speaker, isRestarting: () => false, restarted: () => undefined, gate: NO_GATE };
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
