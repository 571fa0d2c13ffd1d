import assert from 'node:assert/strict';
import { numberOf } from '../../../daemon/net/address-range.ts';
import { FreeAddresses } from '../../../modules/lb-allocator/free-addresses.ts';
import { ip } from '../../fixtures/cluster.ts';

/** Two stretches of addresses with a gap between them, and who has which. */
class Stretch {
  readonly taken = new Set<string>();
  readonly free: FreeAddresses;
  asked = 0;

  constructor(...bounds: readonly (readonly [first: string, last: string])[]) {
    const intervals = bounds.map(([first, last]) => ({ first: numberOf(ip(first)), last: numberOf(ip(last)) }));
    this.free = new FreeAddresses(bounds[0]?.[0].includes(':') ? 'ipv6' : 'ipv4', intervals);
  }

  lowest(): string | undefined {
    return this.free.lowest(address => {
      this.asked++;
      return this.taken.has(address);
    });
  }

  take(address: string): void {
    this.taken.add(address);
    this.free.take(numberOf(ip(address)));
  }

  giveBack(address: string): void {
    this.taken.delete(address);
    this.free.giveBack(numberOf(ip(address)));
  }
}

describe('the lowest free address of a pool', () => {
  it('goes up through the stretches, and back to what is given back, the lowest first', () => {
    const stretch = new Stretch(['192.0.2.1', '192.0.2.2'], ['192.0.2.10', '192.0.2.11']);
    const order: string[] = [];
    for (let next = stretch.lowest(); next !== undefined; next = stretch.lowest()) {
      order.push(next);
      stretch.take(next);
    }
    assert.deepEqual(order, ['192.0.2.1', '192.0.2.2', '192.0.2.10', '192.0.2.11']);
    for (const address of ['192.0.2.11', '192.0.2.2', '192.0.2.10']) stretch.giveBack(address);
    assert.equal(stretch.lowest(), '192.0.2.2');
    stretch.take('192.0.2.2');
    assert.equal(stretch.lowest(), '192.0.2.10');
  });

  it('what is taken before its turn is passed over, and is free again when given back', () => {
    const stretch = new Stretch(['192.0.2.1', '192.0.2.4']);
    stretch.take('192.0.2.1');
    assert.equal(stretch.lowest(), '192.0.2.2');
    stretch.giveBack('192.0.2.1');
    assert.equal(stretch.lowest(), '192.0.2.1');
  });

  it('counts what is in use, and not what lies elsewhere', () => {
    const stretch = new Stretch(['192.0.2.1', '192.0.2.4']);
    stretch.take('192.0.2.3');
    stretch.take('198.51.100.1');
    assert.deepEqual([stretch.free.size, stretch.free.inUse], [4n, 1]);
    stretch.giveBack('192.0.2.3');
    assert.equal(stretch.free.inUse, 0);
  });

  it('of an IPv6 subnet with ten thousand taken is found by a few looks', () => {
    const stretch = new Stretch(['2001:db8::1', '2001:db8::ffff:ffff:ffff:fffe']);
    for (let number = 0; number < 10_000; number++) stretch.take(stretch.lowest() ?? '');
    stretch.asked = 0;
    assert.equal(stretch.lowest(), '2001:db8::2711');
    stretch.giveBack('2001:db8::99');
    assert.equal(stretch.lowest(), '2001:db8::99');
    assert.ok(stretch.asked <= 4, `${stretch.asked} looks`);
  });
});
