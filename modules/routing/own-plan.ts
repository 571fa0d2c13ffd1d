/** What the module wants on its own account: settings, the bridge of pods, chains and sets, rules, the CNI file, and our part in BGP. */
import type { Capabilities } from '../../daemon/cluster/snapshot.ts';
import type { Family } from '../../daemon/net/address.ts';
import { prefixFamily } from '../../daemon/net/prefix.ts';
import {
  type Diagnostic,
  type DiagnosticCode,
  type Entry,
  entry,
  type Fragment,
  type ObjectRef,
} from '../../daemon/reconcile/fragment.ts';
import { POD_SOURCE_TABLE } from '../../daemon/reconcile/routing-tables.ts';
import { maxElementsFor } from '../../daemon/reconcile/set-size.ts';
import type { Requirement, Sysctl } from '../../daemon/reconcile/tables.ts';
import type { BgpPlan } from './bgp.ts';
import { FAMILIES, type RoutingContext } from './context.ts';
import { CHAINS, HOOK_ORDER, POD_BRIDGE, setName } from './names.ts';
import type { RoutingOptions } from './options.ts';
import { overheadOf, receivingEntries } from './overlay.ts';

const OWNER: ObjectRef = { kind: 'Module', key: 'routing', since: 0 };

export interface OwnSurroundings {
  readonly context: RoutingContext;
  readonly capabilities: Capabilities;
  readonly bgp: BgpPlan;
  /** Elements of the larger of our sets. */
  readonly elements: number;
}

export function planOwn(surroundings: OwnSurroundings, options: RoutingOptions): Fragment {
  const { context, capabilities, bgp, elements } = surroundings;
  const entries: readonly Entry[] =
    context.families.length === 0
      ? []
      : [
          ...settings(context).map(setting => entry('sysctl', setting)),
          entry('link', { name: POD_BRIDGE, type: 'bridge', mtu: podMtu(context, options) }),
          ...receivingEntries(context, options),
          ...context.families.flatMap(family => [
            ...(capabilities.iptables[family] ? forwardEntries(context, family) : []),
            ...(hasEgress(capabilities, family, options) ? egressEntries(elements, family) : []),
          ]),
          ...(options.overlay === undefined
            ? []
            : context.podCIDRs.map(from => entry('rule', { from, table: POD_SOURCE_TABLE }))),
          ...cniEntries(surroundings, options),
          ...bgpEntries(context, bgp),
        ];
  return { owner: OWNER, entries, diagnostics: diagnosticsOf(surroundings, options) };
}

/** Sets of the pod prefixes and addresses of all nodes are there for egress alone. */
export function hasEgress({ ipset, iptables }: Capabilities, family: Family, { egress }: RoutingOptions): boolean {
  return egress && ipset && iptables[family];
}

/** Bytes of a packet that gets to every pod in one piece, whatever the family; undefined where it is not ours to say. */
function podMtu({ families, nodeLinks }: RoutingContext, { autoMtu, overlay }: RoutingOptions): number | undefined {
  if (!autoMtu) return undefined;
  const mtus = families.flatMap(family => {
    const mtu = nodeLinks[family]?.mtu;
    return mtu === undefined ? [] : [mtu - overheadOf(overlay, family)];
  });
  return mtus.length === 0 ? undefined : Math.min(...mtus);
}

function settings({ families, nodeLinks }: RoutingContext): readonly Sysctl[] {
  const found: Sysctl[] = [];
  if (families.includes('ipv4')) {
    found.push(
      { path: 'net/ipv4/ip_forward', value: '1', alsoGood: [], whenMissing: 'fail' },
      // What comes out of a tunnel may have left by another link: links that are made from now on check loosely, or not at all.
      { path: 'net/ipv4/conf/default/rp_filter', value: '2', alsoGood: ['0'], whenMissing: 'skip' },
    );
  }
  if (families.includes('ipv6')) {
    const link = nodeLinks.ipv6?.link;
    // A forwarding host stops heeding router advertisements where this is 1, and would lose its default route; 0 is a choice to keep.
    if (link !== undefined)
      found.push({ path: `net/ipv6/conf/${link}/accept_ra`, value: '2', alsoGood: ['0'], whenMissing: 'skip' });
    found.push({ path: 'net/ipv6/conf/all/forwarding', value: '1', alsoGood: [], whenMissing: 'fail' });
  }
  return found;
}

/** Behind policies: what they deny never comes here. A host whose FORWARD policy is DROP lets pods' packets pass all the same. */
function forwardEntries({ nodeLinks }: RoutingContext, family: Family): readonly Entry[] {
  const nodeLink = nodeLinks[family]?.link;
  const rules = [
    `-i ${POD_BRIDGE} -j ACCEPT`,
    `-o ${POD_BRIDGE} -j ACCEPT`,
    // Node ports: from outside to an endpoint on another node.
    ...(nodeLink === undefined ? [] : [`-o ${nodeLink} -j ACCEPT`]),
  ];
  return [
    entry('iptables', { kind: 'chain', family, table: 'filter', name: CHAINS.forward, rules }),
    entry('iptables', {
      kind: 'hook',
      family,
      table: 'filter',
      from: 'FORWARD',
      to: CHAINS.forward,
      order: HOOK_ORDER,
      match: '',
    }),
  ];
}

function egressEntries(elements: number, family: Family): readonly Entry[] {
  const [pods, nodes] = [setName('podSubnets', family), setName('nodeIps', family)];
  const maxElements = maxElementsFor(elements);
  const rule = `-m set --match-set ${pods} src -m set ! --match-set ${pods} dst -m set ! --match-set ${nodes} dst -j MASQUERADE --random-fully`;
  return [
    entry('ipset', { kind: 'set', name: pods, type: 'hash:net', family, maxElements }),
    entry('ipset', { kind: 'set', name: nodes, type: 'hash:ip', family, maxElements }),
    entry('iptables', { kind: 'chain', family, table: 'nat', name: CHAINS.egress, rules: [rule] }),
    entry('iptables', {
      kind: 'hook',
      family,
      table: 'nat',
      from: 'POSTROUTING',
      to: CHAINS.egress,
      order: HOOK_ORDER,
      match: '',
    }),
  ];
}

/** Pods start when the kubelet finds this file: not before their bridge is there, what forwards for them, and the judgement of policies. */
function cniEntries({ context, capabilities }: OwnSurroundings, options: RoutingOptions): readonly Entry[] {
  const { cniFile } = options;
  if (cniFile === undefined || context.podCIDRs.length === 0) return [];
  const families = FAMILIES.filter(
    family => capabilities.iptables[family] && context.podCIDRs.some(prefix => prefixFamily(prefix) === family),
  );
  const hook = (family: Family, to: string): Requirement => ({ table: 'iptables', key: `${family} filter FORWARD -> ${to}` });
  const needs: readonly Requirement[] = [
    { table: 'link', key: POD_BRIDGE },
    ...families.map(family => hook(family, CHAINS.forward)),
    ...(options.overlay === undefined
      ? []
      : context.podCIDRs.map((from): Requirement => ({ table: 'rule', key: `${from} ${POD_SOURCE_TABLE}` }))),
    ...(options.policyFirst && capabilities.ipset ? families.map(family => hook(family, POLICY_CHAIN)) : []),
  ];
  return [entry('cniConfig', { path: cniFile, podCIDRs: context.podCIDRs, mtu: podMtu(context, options), needs })];
}

/** Where the policy module judges what is forwarded. */
const POLICY_CHAIN = 'FAIRWAY-POLICY-FORWARD';

function bgpEntries({ addresses, podCIDRs }: RoutingContext, { server, policies, externalPeers }: BgpPlan): readonly Entry[] {
  if (server === undefined) return [];
  return [
    entry('bgpServer', server),
    ...policies.map(policy => entry('bgpPolicy', policy)),
    ...externalPeers.map(peer => entry('bgpPeer', peer)),
    ...podCIDRs.flatMap(prefix => {
      const nextHop = addresses[prefixFamily(prefix)];
      return nextHop === undefined ? [] : [entry('bgpPath', { prefix, nextHop, audience: 'everyone' })];
    }),
  ];
}

function diagnosticsOf({ context, capabilities, bgp }: OwnSurroundings, options: RoutingOptions): readonly Diagnostic[] {
  const { nodeName, families, podCIDRs, sources } = context;
  const found: Diagnostic[] = [];
  const report = (code: DiagnosticCode, message: string): void => {
    found.push({ code, object: OWNER, message });
  };
  for (const problem of bgp.problems) report('FW_NODE_ROUTING', `Node ${nodeName}: ${problem}.`);
  for (const family of FAMILIES) {
    if (options.families[family] === 'on' && !families.includes(family))
      report(
        'FW_NODE_ADDRESS',
        `Node ${nodeName} has no ${title(family)} address although --enable-${family} is set: it is not routed here.`,
      );
  }
  if (families.length === 0)
    report('FW_NODE_ADDRESS', `Node ${nodeName} has no address of an enabled family: nothing is routed here.`);
  else if (podCIDRs.length === 0)
    report(
      'FW_NODE_ROUTING',
      `Node ${nodeName} has no pod CIDR: pods cannot be started by our CNI file, nor reached. Let the controller manager assign one (--allocate-node-cidrs), or annotate the Node with kube-router.io/pod-cidrs.`,
    );
  for (const family of families) {
    if (sources[family] === undefined)
      report(
        'FW_NODE_ADDRESS',
        `Node ${nodeName}: its ${title(family)} address is on no link of this host: there are no tunnels, and pods' packets keep the MTU of their links.`,
      );
    if (!capabilities.iptables[family])
      report(
        'FW_HOST_CAPABILITY',
        `${family === 'ipv6' ? 'ip6tables' : 'iptables'} is not usable: ${title(family)} packets of pods are neither accepted in FORWARD nor masqueraded.`,
      );
    else if (options.egress && !capabilities.ipset)
      report(
        'FW_HOST_CAPABILITY',
        `ipset is not usable: ${title(family)} packets of pods leave the cluster with the pod's address.`,
      );
  }
  return found;
}

function title(family: Family): string {
  return family === 'ipv6' ? 'IPv6' : 'IPv4';
}
