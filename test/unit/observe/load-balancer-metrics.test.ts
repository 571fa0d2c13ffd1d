import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { type LoadBalancerPicture, registerLoadBalancer } from '../../../daemon/observe/load-balancer-metrics.ts';

const LEADER: LoadBalancerPicture = {
  isLeader: true,
  allocated: {
    pools: [
      { name: 'default', addresses: 254, inUse: 3 },
      { name: 'office', addresses: 2 ** 64, inUse: 0 },
    ],
    waiting: 2,
  },
  lanAddresses: 1,
};
const FOLLOWER: LoadBalancerPicture = { isLeader: false, allocated: undefined, lanAddresses: 0 };
const NEITHER: LoadBalancerPicture = { isLeader: undefined, allocated: undefined, lanAddresses: undefined };

/** Samples of one scrape after another, while the daemon is as these say. */
async function scrapes(...pictures: readonly [LoadBalancerPicture, ...LoadBalancerPicture[]]): Promise<readonly string[][]> {
  const registry = new Registry();
  let [now] = pictures;
  registerLoadBalancer({ registry, read: () => now });
  const pages: string[][] = [];
  for (const picture of pictures) {
    now = picture;
    const page = await registry.metrics();
    pages.push(page.split('\n').filter(line => line !== '' && !line.startsWith('#')));
  }
  return pages;
}

describe('metrics of load-balancer addresses', () => {
  it('tell of each pool how full it is, who waits, and what this node answers for', async () => {
    const [page] = await scrapes(LEADER);
    assert.deepEqual(page, [
      'fairway_load_balancer_pool_addresses{pool="default"} 254',
      'fairway_load_balancer_pool_addresses{pool="office"} 18446744073709552000',
      'fairway_load_balancer_pool_addresses_in_use{pool="default"} 3',
      'fairway_load_balancer_pool_addresses_in_use{pool="office"} 0',
      'fairway_load_balancer_waiting_services 2',
      'fairway_load_balancer_leader 1',
      'fairway_lan_addresses 1',
    ]);
  });

  it('of a former leader say no more than that it is none', async () => {
    const [, page] = await scrapes(LEADER, FOLLOWER);
    assert.deepEqual(page, ['fairway_load_balancer_leader 0', 'fairway_lan_addresses 0']);
  });

  it('have no values where nobody hands out or announces', async () => {
    const [first, , last] = await scrapes(NEITHER, LEADER, NEITHER);
    assert.deepEqual(first, []);
    assert.deepEqual(last, []);
  });

  it('forget a pool that is gone', async () => {
    const [, page] = await scrapes(LEADER, { ...LEADER, allocated: { pools: [], waiting: 0 } });
    assert.deepEqual(
      page?.filter(line => line.includes('pool=')),
      [],
    );
  });
});
