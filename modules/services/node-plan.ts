/** What the module wants on its own account, whatever the Services: settings, the link, sets, chains. */
import type { Family } from '../../daemon/net/address.ts';
import {
  type Diagnostic,
  type DiagnosticCode,
  type Entry,
  entry,
  type Fragment,
  type ObjectRef,
} from '../../daemon/reconcile/fragment.ts';
import { LEAST_ELEMENTS } from '../../daemon/reconcile/set-size.ts';
import type { NodeContext } from './context.ts';
import { firewallEntries } from './firewall.ts';
import { deliveryEntries, markingEntries } from './marking.ts';
import { masqueradeEntries } from './masquerade.ts';
import { POD_BRIDGE, SETS, type SetRole, setName, VIP_LINK } from './names.ts';
import type { ServicesOptions } from './options.ts';
import { sysctlEntries } from './sysctls.ts';

const OWNER: ObjectRef = { kind: 'Module', key: 'services', since: 0 };

/** `maxElements` by name of the sets for which {@link LEAST_ELEMENTS} are too few. */
export type SetSizes = Readonly<Record<string, number>>;

/** What the Services together ask of the node. */
export interface Needs {
  readonly sizes: SetSizes;
  /** By family, whether a Service has direct server return. */
  readonly direct: Readonly<Record<Family, boolean>>;
  /** A Service with direct server return is balanced by hash (scheduler mh). */
  readonly sloppyTcp: boolean;
}

export function planNode(node: NodeContext, needs: Needs, options: ServicesOptions): Fragment {
  const entries: readonly Entry[] =
    node.families.length === 0
      ? []
      : [
          ...sysctlEntries(node, { foreignSource: needs.direct.ipv4, sloppyTcp: needs.sloppyTcp }),
          ...(node.capabilities.dummyLink ? [entry('link', { name: VIP_LINK, type: 'dummy' })] : []),
          ...node.families.flatMap(family => [
            ...setEntries(node, needs, family),
            ...firewallEntries(node, family),
            ...markingEntries(node, family, needs.direct[family]),
            ...(needs.direct[family] ? deliveryEntries(family) : []),
            ...masqueradeEntries(node, options, family),
          ]),
        ];
  return { owner: OWNER, entries, diagnostics: diagnosticsOf(node) };
}

/** A pod that is balanced to itself gets its own frames back through the port they came in by. */
export function planBridgePorts(ports: readonly string[]): Fragment {
  const entries = ports.map(link => entry('bridgePort', { link, bridge: POD_BRIDGE }));
  return { owner: { kind: 'Module', key: 'services/hairpin', since: 0 }, entries, diagnostics: [] };
}

function setEntries(node: NodeContext, { sizes, direct }: Needs, family: Family): readonly Entry[] {
  const roles = node.sets[family].filter(role => role !== 'direct' || direct[family]);
  return roles.flatMap(role => [
    entry('ipset', {
      kind: 'set',
      name: setName(role, family),
      type: SETS[role].type,
      family,
      maxElements: sizes[setName(role, family)] ?? LEAST_ELEMENTS,
      ...('carriesMarks' in SETS[role] ? { carriesMarks: true } : {}),
    }),
    ...(role === 'hostAddresses' ? hostAddressEntries(node, role, family) : []),
  ]);
}

function hostAddressEntries(node: NodeContext, role: SetRole, family: Family): readonly Entry[] {
  return node.hostAddresses
    .filter(address => address.includes(':') === (family === 'ipv6'))
    .map(address => entry('ipset', { kind: 'element', set: setName(role, family), value: address }));
}

function diagnosticsOf(node: NodeContext): readonly Diagnostic[] {
  const found: Diagnostic[] = [];
  const report = (code: DiagnosticCode, message: string): void => {
    found.push({ code, object: OWNER, message });
  };
  for (const family of node.missingFamilies) {
    report(
      'FW_NODE_ADDRESS',
      `Node ${node.nodeName} has no ${title(family)} address although --enable-${family} is set: no Service is served on ${title(family)} here.`,
    );
  }
  if (!node.capabilities.ipvs) {
    report(
      'FW_HOST_CAPABILITY',
      'No Service is served: the kernel lacks IPVS (CONFIG_IP_VS, module ip_vs) or ipvsadm is not installed.',
    );
    return found;
  }
  if (node.families.length === 0 && node.missingFamilies.length === 0) {
    report('FW_NODE_ADDRESS', `Node ${node.nodeName} has no address of an enabled family: no Service is served here.`);
  }
  for (const message of missingFacilities(node)) report('FW_HOST_CAPABILITY', message);
  for (const family of familiesWithoutSource(node)) {
    report(
      'FW_HOST_CAPABILITY',
      `Connections from this node to ${title(family)} virtual addresses cannot be masqueraded, and the node's primary address is on no link of the host to be named by their routes: the node does not reach endpoints on other nodes.`,
    );
  }
  return found;
}

/** Families in which connections from the node to a virtual address keep that address as their source, wherever the endpoint is. */
function familiesWithoutSource({ capabilities, families, masqueradeAddress }: NodeContext): readonly Family[] {
  const { dummyLink, xtIpvs, iptables } = capabilities;
  if (!dummyLink) return [];
  return families.filter(family => masqueradeAddress[family] === undefined && !(xtIpvs && iptables[family]));
}

/** One sentence a facility: what is missing, and what does not work for it. */
function missingFacilities(node: NodeContext): readonly string[] {
  const { dummyLink, ipset, iptables, xtIpvs, bridgeNetfilter } = node.capabilities;
  return [
    ...(dummyLink
      ? []
      : [
          `The kernel makes no dummy links (CONFIG_DUMMY, module dummy): virtual addresses answer to processes of this node only, node ports work.`,
        ]),
    ...(ipset
      ? []
      : [
          'ipset is not installed or the kernel lacks it (CONFIG_IP_SET, CONFIG_NETFILTER_XT_SET): virtual addresses have no firewall, endpoints do not reach themselves through their Service, and what a Local policy would drop is refused.',
        ]),
    ...node.families
      .filter(family => !iptables[family])
      .map(
        family =>
          `${family === 'ipv6' ? 'ip6tables' : 'iptables'} is not installed or the kernel lacks its tables filter and nat: ${title(family)} virtual addresses have no firewall and no client outside is masqueraded.`,
      ),
    ...(xtIpvs
      ? []
      : [
          'iptables cannot match balanced packets (CONFIG_NETFILTER_XT_MATCH_IPVS, module xt_ipvs): no client outside is masqueraded, so that it does not reach endpoints on other nodes.',
        ]),
    ...(bridgeNetfilter
      ? []
      : [
          'Bridged packets do not pass iptables (CONFIG_BRIDGE_NETFILTER, module br_netfilter): pods that reach another pod of this node through a Service are masqueraded; where the node has no pod CIDRs, every client is.',
        ]),
  ];
}

function title(family: Family): string {
  return family === 'ipv6' ? 'IPv6' : 'IPv4';
}
