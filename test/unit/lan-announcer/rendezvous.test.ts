import assert from 'node:assert/strict';
import { hashOf, highest } from '../../../modules/lan-announcer/rendezvous.ts';

function contenders(count: number): readonly { readonly name: string; readonly hash: number }[] {
  return Array.from({ length: count }, (_, index) => ({ name: `node-${index + 1}`, hash: hashOf(`node-${index + 1}`) }));
}

const ADDRESSES = Array.from({ length: 10_000 }, (_, index) => `10.20.${index >> 8}.${index & 255}`);

describe('sharing addresses out among nodes', () => {
  it('never changes its mind: a node of another version chooses alike', () => {
    // Worked out once; who changes the hash breaks clusters of two versions.
    assert.equal(hashOf(''), 2_872_998_923);
    assert.equal(hashOf('node-1'), 2_865_264_164);
    assert.equal(highest(contenders(3), hashOf('198.51.100.1'))?.name, 'node-3');
    assert.equal(highest(contenders(100), hashOf('2001:db8:2::1'))?.name, 'node-10');
  });

  for (const count of [2, 3, 10, 100])
    it(`is even among ${count} nodes: none has more than chance explains`, () => {
      const shares = new Map<string, number>();
      const nodes = contenders(count);
      for (const address of ADDRESSES) {
        const name = highest(nodes, hashOf(address))?.name ?? '';
        shares.set(name, (shares.get(name) ?? 0) + 1);
      }
      const even = ADDRESSES.length / count;
      // Five standard deviations of a binomial distribution.
      const slack = 5 * Math.sqrt(even * (1 - 1 / count));
      for (const { name } of nodes) assert.ok(Math.abs((shares.get(name) ?? 0) - even) < slack, `${name}: ${shares.get(name)}`);
    });

  it('moves only the addresses of a node that goes, to all others', () => {
    const nodes = contenders(10);
    const rest = nodes.filter(({ name }) => name !== 'node-4');
    const heirs = new Set<string | undefined>();
    for (const address of ADDRESSES) {
      const before = highest(nodes, hashOf(address))?.name;
      const after = highest(rest, hashOf(address))?.name;
      if (before === 'node-4') heirs.add(after);
      else assert.equal(after, before);
    }
    assert.equal(heirs.size, 9);
  });

  it('does not depend on the order in which nodes are known; equal hashes are decided by name', () => {
    const nodes = contenders(10);
    for (const address of ADDRESSES.slice(0, 500))
      assert.equal(highest(nodes.toReversed(), hashOf(address)), highest(nodes, hashOf(address)));
    const twins = [
      { name: 'b', hash: 7 },
      { name: 'a', hash: 7 },
    ];
    assert.equal(highest(twins, 1)?.name, 'a');
    assert.equal(highest(twins.toReversed(), 1)?.name, 'a');
  });
});
