import assert from 'node:assert/strict';
import { servicesModule } from '../../../modules/services/module.ts';
import { snapshot } from '../../fixtures/cluster.ts';
import { assertGolden, goldenNames } from '../../fixtures/golden.ts';
import { renderFragments } from '../../fixtures/render-plan.ts';
import { servicesOptions } from '../../fixtures/services-options.ts';
import { NODE_CASES } from './node-cases.ts';
import { CASES } from './service-cases.ts';

describe('what a Service becomes on this node', () => {
  for (const { title, golden, cluster, options } of CASES) {
    it(title, () => {
      const { fragments } = servicesModule(servicesOptions(options)).plan(snapshot(cluster));
      const ofServices = [...fragments.values()].filter(({ owner }) => owner.kind === 'Service');
      assertGolden(`services/${golden}.txt`, renderFragments(ofServices));
    });
  }
});

describe('what the module needs on its own account', () => {
  for (const { title, golden, cluster, options } of NODE_CASES) {
    it(title, () => {
      const { fragments } = servicesModule(servicesOptions(options)).plan(snapshot(cluster));
      const ofModule = [...fragments.values()].filter(({ owner }) => owner.kind === 'Module');
      assertGolden(`services/${golden}.txt`, renderFragments(ofModule));
    });
  }
});

describe('golden files of Services', () => {
  it('each belongs to a case', () => {
    const named = new Set([...CASES, ...NODE_CASES].map(({ golden }) => `${golden}.txt`));
    assert.deepEqual(
      goldenNames('services').filter(name => !named.has(name)),
      [],
    );
  });
});
