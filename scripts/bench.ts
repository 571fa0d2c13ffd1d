/**
 * `npm run bench`: what the daemon costs, beside its targets, on an otherwise quiet machine.
 *
 *     npm run bench -- [--quick] [--services N,N] [--pods N,N] [plan] [kernel] [startup] [policy-datapath] [policy-control] [policy] [routing]
 *                      [load-balancers]
 *
 * All benches one after the other unless told; `policy` are both of that name. At 1,000, 5,000 and 10,000 Services of 10 endpoints, and
 * 30, 110, 250 and 500 pods of the node in the data path.
 */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchChurn } from '../bench/churn.ts';
import { benchKernel } from '../bench/kernel.ts';
import { benchLoadBalancers } from '../bench/load-balancers.ts';
import { benchPlan } from '../bench/plan.ts';
import { benchPolicyControl } from '../bench/policy-control.ts';
import { benchPolicyDatapath } from '../bench/policy-datapath.ts';
import { whyNoPolicyPlace } from '../bench/policy-place.ts';
import { benchRouting } from '../bench/routing.ts';
import { benchStartup } from '../bench/startup.ts';

const SERVICES = { quick: '300', whole: '1000,5000,10000' };
const PODS = { quick: '30,250', whole: '30,110,250,500' };
const POLICY_CLUSTERS = {
  small: { localPods: 30, pods: 1000, namespaces: 20, policies: 100 },
  large: { localPods: 250, pods: 10_000, namespaces: 100, policies: 1000 },
};
const BENCHES = ['plan', 'kernel', 'churn', 'startup', 'policy-datapath', 'policy-control', 'routing', 'load-balancers'] as const;
const ROUTES = {
  quick: [
    { routes: 1, times: 5 },
    { routes: 1000, times: 2 },
    { routes: 10_000, times: 1 },
  ],
  whole: [
    { routes: 1, times: 25 },
    { routes: 1000, times: 5 },
    { routes: 10_000, times: 5 },
  ],
};
const CHURN = {
  quick: { services: 300, perSecond: 100, seconds: 10 },
  whole: { services: 5000, perSecond: 500, seconds: 60 },
};
const BALANCERS = { quick: { services: '1000', events: 5 }, whole: { services: '1000,10000', events: 20 } };
const NODES = { quick: { sizes: [10, 100], events: 5 }, whole: { sizes: [10, 100, 1000], events: 15 } };
type Bench = (typeof BENCHES)[number];
/** Names for several of them. */
const GROUPS: Readonly<Record<string, readonly Bench[]>> = { policy: ['policy-datapath', 'policy-control'] };
/** sysexits(3). */
const EX_USAGE = 64;

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, services: { type: 'string' }, pods: { type: 'string' } },
  allowPositionals: true,
});
const extent = values.quick ? 'quick' : 'whole';
const services = numbers(values.services ?? SERVICES[extent]);
const pods = numbers(values.pods ?? PODS[extent]);
const wanted = new Set(positionals.flatMap((name): readonly string[] => GROUPS[name] ?? [name]));
const unknown = [...wanted].filter(name => !BENCHES.some(bench => bench === name));
if (unknown.length > 0 || [...services, ...pods].some(size => !Number.isInteger(size) || size < 1)) {
  const names = [...BENCHES, ...Object.keys(GROUPS)].join('] [');
  process.stderr.write(`usage: npm run bench -- [--quick] [--services N,N...] [--pods N,N...] [${names}]\n`);
  process.exit(EX_USAGE);
}
const chosen = BENCHES.filter(name => positionals.length === 0 || wanted.has(name));
if (chosen.some(name => name !== 'plan' && name !== 'policy-datapath')) {
  execFileSync(process.execPath, [join(import.meta.dirname, 'build.ts')], { stdio: 'inherit' });
}
for (const name of chosen) {
  switch (name) {
    case 'plan':
      await benchPlan(services);
      break;
    case 'kernel':
      await benchKernel({ sizes: services, windowSeconds: values.quick ? 15 : 60 });
      break;
    case 'churn':
      await benchChurn(CHURN[extent]);
      break;
    case 'startup':
      await benchStartup({ runs: values.quick ? 2 : 5 });
      break;
    case 'policy-datapath':
      if (await isPossible(name)) {
        await benchPolicyDatapath({
          sizes: pods,
          rounds: values.quick ? 3 : 11,
          flavours: values.quick ? ['nft'] : ['nft', 'legacy'],
        });
      }
      break;
    case 'policy-control':
      if (await isPossible(name)) await policyControl();
      break;
    case 'routing':
      if (await isPossible(name)) await benchRouting({ sizes: ROUTES[extent], nodes: NODES[extent] });
      break;
    case 'load-balancers': {
      const { services: sizes, events } = BALANCERS[extent];
      await benchLoadBalancers({ sizes: numbers(values.services ?? sizes), events });
      break;
    }
  }
}

async function policyControl(): Promise<void> {
  const { small, large } = POLICY_CLUSTERS;
  for (const size of values.quick ? [small] : [small, large]) {
    await benchPolicyControl({ size, ...(values.quick ? { events: 5, starts: 1 } : { events: 25, starts: 5 }) });
  }
}

/** In a guest these would measure the guest. */
async function isPossible(name: Bench): Promise<boolean> {
  const reason = await whyNoPolicyPlace();
  if (reason !== '') process.stdout.write(`\n== ${name} is left out: ${reason}\n`);
  return reason === '';
}

function numbers(text: string): readonly number[] {
  return text.split(',').map(Number);
}
