import assert from 'node:assert/strict';
import { assertGolden, goldenNames } from '../../fixtures/golden.ts';
import { renderDifference, renderRouting } from '../../fixtures/render-routing.ts';
import { routingPlan } from '../../fixtures/routing-scene.ts';
import { BGP_CASES } from './bgp-cases.ts';
import type { Case } from './case.ts';
import { LEARNED_CASES } from './learned-cases.ts';
import { NODE_CASES } from './node-cases.ts';
import { SERVICE_CASES } from './service-cases.ts';

const BASE_PLAN = routingPlan();

function itChangesThePlanAsReviewed({ title, golden, cluster, options }: Case): void {
  it(title, () => {
    assertGolden(`routing/${golden}.txt`, renderDifference(BASE_PLAN.values(), routingPlan(cluster, options).values()));
  });
}

describe('what routing plans by default', () => {
  it('for a dual-stack node with a neighbour and a node across the router', () => {
    assertGolden('routing/base.txt', renderRouting(BASE_PLAN.values()));
  });
});

describe('what nodes, host and flags change of it', () => NODE_CASES.forEach(itChangesThePlanAsReviewed));
describe('what annotations and routers of the fabric change of it', () => BGP_CASES.forEach(itChangesThePlanAsReviewed));
describe('which addresses of Services are announced', () => SERVICE_CASES.forEach(itChangesThePlanAsReviewed));
describe('what becomes of a learned route', () => LEARNED_CASES.forEach(itChangesThePlanAsReviewed));

describe('golden files of routing', () => {
  it('each belongs to a case', () => {
    const cases = [...NODE_CASES, ...BGP_CASES, ...SERVICE_CASES, ...LEARNED_CASES];
    const named = new Set(['base.txt', ...cases.map(({ golden }) => `${golden}.txt`)]);
    assert.equal(named.size, cases.length + 1, 'two cases share a golden');
    assert.deepEqual(
      goldenNames('routing').filter(name => !named.has(name)),
      [],
    );
  });
});
