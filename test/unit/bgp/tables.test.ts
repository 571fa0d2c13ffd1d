import assert from 'node:assert/strict';
import {
  type BgpTablesOptions,
  bgpPathDriver,
  bgpPeerDriver,
  bgpPolicyDriver,
  bgpServerDriver,
} from '../../../daemon/bgp/tables.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import { Secret } from '../../../daemon/net/secret.ts';
import type { BgpPath, BgpPolicy } from '../../../daemon/reconcile/routing-tables.ts';
import { FakeSpeaker } from '../../fakes/speaker.ts';
import { address, bgpPeer, bgpServer, NO_GATE } from '../../fixtures/bgp.ts';

const never = new AbortController().signal;
const access = (speaker: FakeSpeaker, overrides: Partial<BgpTablesOptions> = {}): BgpTablesOptions => ({
  speaker: () => speaker,
  isRestarting: () => false,
  restarted: () => undefined,
  gate: NO_GATE,
  ...overrides,
});
const path = (prefix: string, overrides: Partial<BgpPath> = {}): BgpPath => ({
  prefix: mustParsePrefix(prefix),
  nextHop: address('192.0.2.1'),
  audience: 'everyone',
  ...overrides,
});

describe('the tables of BGP', () => {
  it('are said in the words of the gobgp command, passwords hidden', () => {
    const options = access(new FakeSpeaker());
    const server = bgpServer({ listenAddresses: [address('192.0.2.1'), address('fd00::1')] });
    assert.equal(
      bgpServerDriver(options).render([{ op: 'create', key: 'global', to: server }]),
      'gobgp global as 64512 router-id 192.0.2.1 listen-port 179 listen-addresses 192.0.2.1,fd00::1\n',
    );
    const silent = bgpServer();
    assert.equal(
      bgpServerDriver(options).render([{ op: 'update', key: 'global', from: server, to: silent }]),
      'gobgp global del all\ngobgp global as 64512 router-id 192.0.2.1 listen-port -1\n',
    );
    assert.equal(
      bgpPathDriver(options).render([
        { op: 'create', key: '10.1.0.0/24', to: path('10.1.0.0/24') },
        { op: 'delete', key: 'fd00:1::/64', from: path('fd00:1::/64') },
      ]),
      'gobgp global rib -a ipv4 add 10.1.0.0/24 nexthop 192.0.2.1 community 0:64001\ngobgp global rib -a ipv6 del fd00:1::/64\n',
    );
    const peer = bgpPeer('192.0.2.2', {
      password: new Secret('s3cret'),
      gracefulRestart: { restartSeconds: 90, deferralSeconds: 360 },
    });
    const text = bgpPeerDriver(options).render([
      { op: 'create', key: '192.0.2.2', to: peer },
      { op: 'delete', key: '192.0.2.3', from: peer },
    ]);
    assert.match(
      text,
      /^gobgp neighbor add 192\.0\.2\.2 as 64512 .*auth-password \[hidden\].*\ngobgp neighbor del 192\.0\.2\.2\n$/,
    );
    assert.doesNotMatch(text, /s3cret/);
  });

  it('tell when the server was stopped, also where it does not start again', async () => {
    const speaker = new FakeSpeaker();
    let restarts = 0;
    const driver = bgpServerDriver(access(speaker, { restarted: () => (restarts += 1) }));
    const [from, to] = [bgpServer(), bgpServer({ asn: 64_513 })];
    await driver.apply([{ op: 'create', key: 'global', to: from }], never);
    assert.equal(restarts, 0);
    await driver.apply([{ op: 'update', key: 'global', from, to }], never);
    assert.equal(restarts, 1);
    speaker.startServer = () => Promise.reject(new FairwayError('FW_BGP_REFUSED', 'the port is taken'));
    const result = await driver.apply([{ op: 'update', key: 'global', from: to, to: from }], never);
    assert.equal(result.failed.get('global')?.message, 'the port is taken');
    assert.equal(restarts, 2);
  });

  it('let nobody call a server that is started again before it knows its neighbours, also where one is refused', async () => {
    const speaker = new FakeSpeaker();
    let isOpen = true;
    const gate = {
      ...NO_GATE,
      close: async (): Promise<void> => {
        isOpen = false;
      },
      open: async (): Promise<void> => {
        isOpen = true;
      },
    };
    const seen: boolean[] = [];
    const { startServer } = speaker;
    speaker.startServer = (...parameters): Promise<void> => {
      seen.push(isOpen);
      return startServer.apply(speaker, parameters);
    };
    const started = { op: 'create', key: 'global', to: bgpServer() } as const;
    await bgpServerDriver(access(speaker, { gate })).apply([started], never);
    await bgpServerDriver(access(speaker, { gate, isRestarting: () => true })).apply([started], never);
    assert.deepEqual(seen, [true, false], 'at a first start no neighbour keeps anything');
    assert.equal(isOpen, false);
    speaker.addPeer = () => Promise.reject(new FairwayError('FW_BGP_REFUSED', 'no'));
    const to = bgpPeer('192.0.2.2');
    await bgpPeerDriver(access(speaker, { gate })).apply([{ op: 'create', key: to.address, to }], never);
    assert.equal(isOpen, true);
  });

  it('take a policy for the same whatever the order within its sets', async () => {
    const speaker = new FakeSpeaker();
    const driver = bgpPolicyDriver(access(speaker));
    const range = (text: string) => ({ prefix: mustParsePrefix(text), minLength: 8, maxLength: 32 });
    const policy = (...prefixes: readonly string[]): BgpPolicy => ({
      direction: 'import',
      otherwise: 'accept',
      statements: [
        {
          neighbors: undefined,
          origin: undefined,
          audience: undefined,
          prefixes: prefixes.map(range),
          verdict: 'reject',
          actions: { setCommunities: undefined, prepend: undefined, nextHopSelf: false },
        },
      ],
    });
    const wanted = policy('192.168.0.0/16', '10.0.0.0/8');
    await speaker.setPolicy(policy('10.0.0.0/8', '192.168.0.0/16'), never);
    assert.equal((await driver.read(new Map([['import', wanted]]), never)).get('import'), wanted);
    await speaker.setPolicy(policy('10.0.0.0/8'), never);
    assert.notEqual((await driver.read(new Map([['import', wanted]]), never)).get('import'), wanted);
  });

  it('write paths at once, and each for itself where that is refused', async () => {
    const speaker = new FakeSpeaker();
    const driver = bgpPathDriver(access(speaker));
    const add = speaker.addPaths.bind(speaker);
    speaker.addPaths = async (paths, signal) => {
      if (paths.some(({ prefix }) => prefix === '10.2.0.0/24')) throw new FairwayError('FW_BGP_REFUSED', 'no next hop');
      await add(paths, signal);
    };
    const wanted = ['10.1.0.0/24', '10.2.0.0/24', '10.3.0.0/24'].map(prefix => path(prefix));
    const result = await driver.apply(
      wanted.map(to => ({ op: 'create', key: to.prefix, to })),
      never,
    );
    assert.deepEqual([...result.failed.keys()], ['10.2.0.0/24']);
    assert.deepEqual([...(await driver.read(new Map(), never)).keys()], ['10.1.0.0/24', '10.3.0.0/24']);
  });

  it('end at the first silence of the speaker, and throw where they are stopped', async () => {
    const speaker = new FakeSpeaker();
    speaker.lose();
    const peers = Array.from({ length: 5 }, (_, index) => bgpPeer(`192.0.2.${index + 1}`));
    const creating = peers.map(to => ({ op: 'create', key: to.address, to }) as const);
    const result = await bgpPeerDriver(access(speaker)).apply(creating, never);
    assert.equal(result.failed.size, 5);
    assert.equal(speaker.calls.length, 1);
    await assert.rejects(bgpPeerDriver(access(speaker)).apply(creating, AbortSignal.abort(new Error('stopped'))), /stopped/);
  });
});
