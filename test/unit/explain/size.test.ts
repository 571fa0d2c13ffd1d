import assert from 'node:assert/strict';
import { explain } from '../../../daemon/explain/explain.ts';
import { parseQuestion } from '../../../daemon/explain/question.ts';
import { policyModule } from '../../../modules/policy/module.ts';
import { servicesModule } from '../../../modules/services/module.ts';
import {
  cidrs,
  direction,
  endpoint,
  ips,
  namespace,
  networkPolicy,
  pod,
  podPeer,
  policyPort,
  policyRule,
  selector,
  service,
  slice,
  snapshot,
} from '../../fixtures/cluster.ts';
import { viewOfSnapshot } from '../../fixtures/explain-scene.ts';
import { policyOptions } from '../../fixtures/policy-options.ts';
import { servicesOptions } from '../../fixtures/services-options.ts';

const SERVICES = 10_000;
/** Half a second would be felt; it takes some ten milliseconds. */
const LIMIT_MS = 500;

/** Every Service with an address inside and one of the load balancer with source ranges, and a pod of its own; policies for some pods. */
function largeCluster(): Parameters<typeof snapshot>[0] {
  const numbers = Array.from({ length: SERVICES }, (_, number) => number);
  const at = (number: number): string => `${number >> 8}.${number & 255}`;
  const podAt = (number: number): string => (number < 100 ? `10.244.1.${number + 10}` : `10.200.${at(number)}`);
  return {
    namespaces: [namespace('default')],
    services: numbers.map(number =>
      service(`s${number}`, {
        type: 'LoadBalancer',
        clusterIPs: ips(`10.96.${at(number)}`),
        loadBalancerIPs: ips(`198.18.${at(number)}`),
        loadBalancerSourceRanges: cidrs('172.16.0.0/12'),
      }),
    ),
    slices: numbers.map(number =>
      slice(`s${number}`, [endpoint(podAt(number), { nodeName: number < 100 ? 'node-1' : 'node-2' })]),
    ),
    pods: numbers.map(number =>
      pod(`p${number}`, podAt(number), { labels: { number: String(number) }, nodeName: number < 100 ? 'node-1' : 'node-2' }),
    ),
    networkPolicies: numbers.slice(0, 1000).map(number =>
      networkPolicy(`m${number}`, {
        podSelector: selector({ number: String(number) }),
        ingress: direction(policyRule({ peers: [podPeer(selector({ number: '1' }))], ports: [policyPort(8080)] })),
      }),
    ),
  };
}

describe(`fairway why among ${SERVICES} Services`, function () {
  this.timeout(60_000);

  it('takes well below a second for whatever is asked', () => {
    const seen = snapshot(largeCluster());
    const ranges = cidrs('198.18.0.0/15');
    const view = viewOfSnapshot(seen, [
      servicesModule(servicesOptions({ loadBalancerIpRanges: ranges })),
      policyModule(policyOptions()),
    ]);
    const questions: readonly (readonly [string, string])[] = [
      ['p1 s2 80', 'allowed'],
      ['p3 s2 80', 'denied'],
      ['p1 s5000 80', 'allowed'],
      ['172.16.0.1 s9000 80', 'allowed'],
      ['8.8.8.8 s9001 80', 'dropped'],
      ['node-1 s42 80', 'allowed'],
      ['p1 10.96.0.7 81', 'refused'],
    ];
    for (const [words, outcome] of questions) {
      const start = performance.now();
      const question = parseQuestion(words.split(' '), seen);
      if ('error' in question) assert.fail(question.error);
      const { verdict, summary } = explain(question, view);
      const milliseconds = performance.now() - start;
      assert.equal(verdict.outcome, outcome, summary);
      if (process.env['FAIRWAY_TIMES'] !== undefined) console.log(`${words}: ${milliseconds.toFixed(1)} ms`);
      assert.ok(milliseconds < LIMIT_MS, `${words}: ${milliseconds} ms`);
    }
  });
});
