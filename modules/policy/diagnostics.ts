/** What users and operators must know: policies that close more than they were meant to, and hosts that cannot enforce them. */
import type { NetworkPolicy } from '../../daemon/cluster/kinds.ts';
import type { Family } from '../../daemon/net/address.ts';
import type { Diagnostic, DiagnosticCode, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import { canFilter, FAMILIES, type PolicyContext } from './context.ts';
import type { PolicyOptions } from './options.ts';
import { DIRECTIONS } from './program.ts';

export function policyDiagnostics(policy: NetworkPolicy, object: ObjectRef): readonly Diagnostic[] {
  return DIRECTIONS.flatMap(direction => {
    const reason = policy[direction]?.unusable;
    if (reason === undefined) return [];
    const message = `NetworkPolicy ${object.key}: its ${direction} rules cannot be used (${reason}): the pods it selects stay closed for ${direction} unless another policy opens them. Correct the rule.`;
    return [{ code: 'FW_POLICY_UNUSABLE', object, message }];
  });
}

export function nodeDiagnostics(
  object: ObjectRef,
  { nodeName, podCIDRs, capabilities }: PolicyContext,
  families: readonly Family[],
  options: PolicyOptions,
): readonly Diagnostic[] {
  const found: Diagnostic[] = [];
  const report = (code: DiagnosticCode, message: string): void => {
    found.push({ code, object, message });
  };
  for (const family of FAMILIES) {
    if (options.families[family] === 'off' || canFilter(capabilities, family)) continue;
    // A kernel without IPv6 has nothing of it to filter.
    if (family === 'ipv6' && !capabilities.ipv6) continue;
    report(
      'FW_HOST_CAPABILITY',
      capabilities.ipset
        ? `${family === 'ipv6' ? 'ip6tables' : 'iptables'} is not installed or the kernel lacks its filter table: no network policy is enforced for ${title(family)}.`
        : `ipset is not installed or the kernel lacks it (CONFIG_IP_SET, CONFIG_NETFILTER_XT_SET): no network policy is enforced for ${title(family)}; what an earlier run enforced stays as it was.`,
    );
  }
  if (families.length === 0) return found;
  if (!capabilities.bridgeNetfilter) {
    report(
      'FW_HOST_CAPABILITY',
      'Bridged packets do not pass iptables (CONFIG_BRIDGE_NETFILTER, module br_netfilter): no network policy is enforced between pods of this node that share a bridge.',
    );
  }
  if (!capabilities.nflog) {
    report(
      'FW_HOST_CAPABILITY',
      'iptables cannot log to group 100 (CONFIG_NETFILTER_XT_TARGET_NFLOG, CONFIG_NETFILTER_XT_MATCH_LIMIT): denied packets are not told.',
    );
  }
  for (const family of options.defaultDeny ? families : []) {
    if (podCIDRs[family].length > 0) continue;
    report(
      'FW_NODE_ADDRESS',
      `Node ${nodeName} has no ${title(family)} pod CIDR: --netpol-default-deny cannot tell a new pod's address from any other, so that new pods are open until their policies are in force.`,
    );
  }
  return found;
}

function title(family: Family): string {
  return family === 'ipv6' ? 'IPv6' : 'IPv4';
}
