import assert from 'node:assert/strict';
import type { AddressPool } from '../../../daemon/cluster/kinds.ts';
import { isOurClass } from '../../../daemon/cluster/load-balancer-class.ts';

const POOL: AddressPool = {
  name: 'edge',
  ranges: [],
  autoAssign: true,
  namespaces: [],
  namespaceSelector: undefined,
  serviceSelector: undefined,
  loadBalancerClasses: ['example.com/edge'],
  nodeSelector: undefined,
};

describe('load-balancer classes', () => {
  const cases: readonly (readonly [loadBalancerClass: string, servesDefaultClass: boolean, isOurs: boolean])[] = [
    ['kube-router', true, true],
    ['kube-router', false, true],
    ['', true, true],
    ['', false, false],
    ['default', true, true],
    ['default', false, false],
    ['example.com/edge', false, true],
    ['example.com/other', true, false],
  ];
  for (const [loadBalancerClass, servesDefaultClass, isOurs] of cases)
    it(`'${loadBalancerClass}' is ${isOurs ? '' : 'not '}ours ${servesDefaultClass ? 'with' : 'without'} --loadbalancer-default-class`, () => {
      assert.equal(isOurClass(loadBalancerClass, { servesDefaultClass, pools: [POOL] }), isOurs);
    });

  it('a pool that names the default class serves it whatever the flag says', () => {
    const pools = [{ ...POOL, loadBalancerClasses: ['default'] }];
    assert.equal(isOurClass('default', { servesDefaultClass: false, pools }), true);
    assert.equal(isOurClass('', { servesDefaultClass: false, pools }), false);
  });
});
