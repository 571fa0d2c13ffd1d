/**
 * Network policy: Pods, Namespaces, NetworkPolicies and this node in; chains and sets out. What the last plan came from is remembered,
 * so that an event costs what it changed; forgetting it changes no plan.
 */
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { Stable, sameText } from '../../daemon/reconcile/stable.ts';
import { type PolicyContext, policyContextOf } from './context.ts';
import type { PolicyOptions } from './options.ts';
import { PolicyPlanner } from './planner.ts';

export function policyModule(options: PolicyOptions): Module {
  return new PolicyModule(options);
}

class PolicyModule implements Module {
  readonly name = 'policy';
  readonly reads = ['Pod', 'Namespace', 'NetworkPolicy', 'Service', 'EndpointSlice', 'Node'] as const;
  readonly writes = ['sysctl', 'ipset', 'iptables'] as const;
  readonly #options: PolicyOptions;
  readonly #context = new Stable<PolicyContext>(sameText);
  #last: { readonly context: PolicyContext; readonly planner: PolicyPlanner } | undefined;

  constructor(options: PolicyOptions) {
    this.#options = options;
  }

  plan(snapshot: Snapshot): Plan {
    const context = this.#context.of(policyContextOf(snapshot.node, snapshot.host));
    const last = this.#last;
    // A plan that fails half way leaves nothing behind that the next could build upon. What a node is changes seldom: all is planned anew.
    this.#last = undefined;
    let planner = last?.context === context ? last.planner : new PolicyPlanner(context, this.#options);
    let fragments = planner.plan(snapshot);
    if (fragments === 'other families') {
      planner = planner.withFamiliesOfPods();
      fragments = planner.plan(snapshot);
    }
    if (fragments === 'other families') throw new Error('the families of the pods changed within one snapshot');
    this.#last = { context, planner };
    // Without ipset nothing can be enforced anew, and what an earlier run made still is.
    return context.capabilities.ipset ? { fragments } : { fragments, undecided: ['ipset', 'iptables'] };
  }
}
