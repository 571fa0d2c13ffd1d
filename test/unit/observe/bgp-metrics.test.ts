import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { BgpMetrics, type BgpPicture } from '../../../daemon/observe/bgp-metrics.ts';
import { ManualClock } from '../../fakes/clock.ts';

const PICTURE: BgpPicture = {
  asn: 64512,
  peers: [
    { address: '192.168.1.2', asn: 64512, state: 'established', received: 2, advertised: 3 },
    { address: 'fd00:1::254', asn: 65001, state: 'active', received: 0, advertised: 0 },
  ],
};

type Answer = BgpPicture | 'silent' | undefined;

/** Pages of a registry with these metrics, of a speaker that gives these answers one after the other. */
function pagesOf(
  answers: readonly Answer[],
  tookMs = 1,
): { readonly registry: Registry; readonly clock: ManualClock; readonly asked: () => number } {
  const registry = new Registry();
  const clock = new ManualClock();
  let asked = 0;
  const read = async (): Promise<Answer> => {
    const answer = answers[asked++];
    await clock.advance(tookMs);
    return answer;
  };
  new BgpMetrics({ registry, clock, read });
  return { registry, clock, asked: () => asked };
}

async function samples(registry: Registry): Promise<readonly string[]> {
  return (await registry.metrics()).split('\n').filter(line => line !== '' && !line.startsWith('#'));
}

describe('metrics of BGP', () => {
  it('tell of each neighbour, with its real AS number and its state now', async () => {
    const { registry } = pagesOf([PICTURE]);
    assert.deepEqual(await samples(registry), [
      'kube_router_bgp_peer_info{address="192.168.1.2",type="internal",asn="64512",state="ESTABLISHED"} 1',
      'kube_router_bgp_peer_info{address="fd00:1::254",type="external",asn="65001",state="ACTIVE"} 1',
      'kube_router_controller_bgp_peers 2',
      'fairway_bgp_up 1',
      'fairway_bgp_session_up{address="192.168.1.2"} 1',
      'fairway_bgp_session_up{address="fd00:1::254"} 0',
      'fairway_bgp_received_prefixes{address="192.168.1.2"} 2',
      'fairway_bgp_received_prefixes{address="fd00:1::254"} 0',
      'fairway_bgp_advertised_prefixes{address="192.168.1.2"} 3',
      'fairway_bgp_advertised_prefixes{address="fd00:1::254"} 0',
    ]);
  });

  it('ask once for a page, and forget who is gone', async () => {
    const { registry, clock, asked } = pagesOf([PICTURE, { ...PICTURE, peers: PICTURE.peers.slice(0, 1) }]);
    await samples(registry);
    assert.equal(asked(), 1);
    await clock.advance(100);
    assert.equal((await samples(registry)).filter(line => line.includes('fd00:1::254')).length, 0);
    assert.equal(asked(), 2);
  });

  it('leave a gobgpd alone that has long to count', async () => {
    const { registry, clock, asked } = pagesOf([PICTURE, PICTURE], 2_000);
    await samples(registry);
    await clock.advance(30_000);
    await samples(registry);
    assert.equal(asked(), 1);
    await clock.advance(11_000);
    await samples(registry);
    assert.equal(asked(), 2);
  });

  it('say that gobgpd does not answer, and of neighbours nothing then', async () => {
    const { registry, clock } = pagesOf([PICTURE, 'silent']);
    await samples(registry);
    await clock.advance(100);
    assert.deepEqual(await samples(registry), ['kube_router_controller_bgp_peers 0', 'fairway_bgp_up 0']);
  });

  it('are none where no BGP is wanted', async () => {
    assert.deepEqual(await samples(pagesOf([undefined]).registry), []);
  });
});
