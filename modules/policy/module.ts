/**
 * Network policy: Pods, Namespaces, NetworkPolicies and this node in; chains and sets out. What the last plan came from is remembered,
 * so that an event costs what it changed; forgetting it changes no plan.
 */
import { loadBalancerPrefixes } from '../../daemon/cluster/address-pools.ts';
import type { AddressPools, Kind } from '../../daemon/cluster/kinds.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import type { Module, Plan } from '../../daemon/reconcile/module.ts';
import { Stable, sameList, sameText } from '../../daemon/reconcile/stable.ts';
import { type PolicyContext, policyContextOf } from './context.ts';
import type { PolicyOptions } from './options.ts';
import { PolicyPlanner } from './planner.ts';

export function policyModule(options: PolicyOptions): Module {
  return new PolicyModule(options);
}

class PolicyModule implements Module {
  readonly name = 'policy';
  readonly reads: readonly Kind[];
  readonly writes = ['sysctl', 'ipset', 'iptables'] as const;
  readonly #options: PolicyOptions;
  readonly #serviceRanges = new Stable<readonly IpPrefix[]>(sameList);
  readonly #context = new Stable<PolicyContext>(sameText);
  #last: { readonly context: PolicyContext; readonly planner: PolicyPlanner } | undefined;

  constructor(options: PolicyOptions) {
    this.#options = options;
    const ofPools = options.followsPools ? (['ConfigMap'] as const) : [];
    this.reads = ['Pod', 'Namespace', 'NetworkPolicy', 'Service', 'EndpointSlice', 'Node', ...ofPools];
  }

  plan(snapshot: Snapshot): Plan {
    const context = this.#context.of(policyContextOf(snapshot.node, snapshot.host));
    const last = this.#last;
    // A plan that fails half way leaves nothing behind that the next could build upon. What a node is changes seldom: all is planned anew.
    this.#last = undefined;
    let planner = last?.context === context ? last.planner : new PolicyPlanner(context, this.#options);
    const ranges = this.#rangesWith(snapshot.addressPools);
    let fragments = planner.plan(snapshot, ranges);
    if (fragments === 'other families') {
      planner = planner.withFamiliesOfPods();
      fragments = planner.plan(snapshot, ranges);
    }
    if (fragments === 'other families') throw new Error('the families of the pods changed within one snapshot');
    this.#last = { context, planner };
    // Without ipset nothing can be enforced anew, and what an earlier run made still is.
    return context.capabilities.ipset ? { fragments } : { fragments, undecided: ['ipset', 'iptables'] };
  }

  /** Addresses of the named pools are Services' as those of the flags. */
  #rangesWith(pools: AddressPools | undefined): readonly IpPrefix[] {
    return this.#serviceRanges.of([...new Set([...this.#options.serviceRanges, ...loadBalancerPrefixes([], pools)])]);
  }
}
