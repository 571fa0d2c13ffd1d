/**
 * Builds the lab's machines out of network namespaces: nodes with a kube-bridge and pods on it, a router between two LANs and an outside
 * host. One `ip -batch` per namespace, because a spawn in a guest costs 10 to 40 ms.
 */

import {
  type Addresses,
  type AddressPlan,
  IPV4_LENGTH,
  IPV6_LENGTH,
  type LabHost,
  type LabNode,
  type LabPod,
  planAddresses,
  routerOn,
  type TopologyOptions,
} from './addresses.ts';
import { type Agent, LabError } from './agent.ts';
import { runProgram } from './process.ts';
import { until } from './until.ts';

/** Builds it in the agent's place. Rejects with LabError, naming the namespace and what `ip` said. */
export async function buildTopology(agent: Agent, options: TopologyOptions = {}): Promise<AddressPlan> {
  const plan = planAddresses(options);
  const forwarding = [plan.router, ...plan.nodes];
  const hosts: readonly LabHost[] = [...forwarding, plan.outside, ...plan.nodes.flatMap(node => node.pods)];
  await batch(agent, '', ['link set lo up', ...hosts.map(host => `netns add ${host.name}`)]);
  // Before there are links: a link takes over what is the default when it arrives.
  await Promise.all(hosts.map(async host => await setSysctls(agent, host, forwarding.includes(host) ? 'router' : 'host')));
  // The namespaces that make links for others come first; then the ends can be configured in any order.
  await Promise.all([
    batch(agent, plan.router.name, routerLines(plan, options)),
    ...plan.nodes.map(node => batch(agent, node.name, bridgeLines(node))),
  ]);
  await Promise.all([
    batch(agent, plan.outside.name, outsideLines(plan)),
    ...plan.nodes.map(node => batch(agent, node.name, nodeLines(node, plan, options))),
    ...plan.nodes.flatMap(node => node.pods.map(pod => batch(agent, pod.name, podLines(pod, node)))),
  ]);
  await Promise.all([...plan.nodes, plan.outside, ...plan.nodes.flatMap(({ pods }) => pods)].map(host => hasIpv6(agent, host)));
  return plan;
}

/**
 * The kernel notices once a second at most that links came up (net/core/link_watch.c), later the more of them: until then eth0 has neither a
 * link-local address nor a route for multicast, and no neighbour solicitation gets through.
 */
async function hasIpv6(agent: Agent, host: LabHost): Promise<void> {
  const look = async (): Promise<string> => {
    const [addresses] = await agent.ask('read', host.name, '/proc/net/if_inet6');
    return String(addresses);
  };
  await until(`IPv6 works at eth0 of ${host.name}`, look, addresses => /^fe80.* eth0$/m.test(addresses));
}

async function batch(agent: Agent, namespace: string, lines: readonly string[]): Promise<void> {
  const input = lines.map(line => `${line}\n`).join('');
  const { status, stderr } = await runProgram(agent, '', ['ip', ...(namespace === '' ? [] : ['-n', namespace]), '-batch', '-'], {
    input,
    directory: '/',
  });
  if (status !== 0)
    throw new LabError(`ip -batch in ${namespace === '' ? 'the root namespace' : namespace}: ${stderr.trim()}\n${input}`);
}

async function setSysctls(agent: Agent, host: LabHost, role: 'router' | 'host'): Promise<void> {
  const forwarding = role === 'router' ? '1' : '0';
  const values: Readonly<Record<string, string>> = {
    'ipv4/ip_forward': forwarding,
    'ipv6/conf/all/forwarding': forwarding,
    // No duplicate address detection: addresses work from the first moment. It is off only when off in `all` and on the link.
    'ipv6/conf/all/accept_dad': '0',
    'ipv6/conf/default/accept_dad': '0',
    // The machine's distribution may have its own idea of these; here they are the kernel's.
    'ipv4/conf/all/rp_filter': '0',
    'ipv4/conf/default/rp_filter': '0',
    'ipv6/conf/all/disable_ipv6': '0',
    'ipv6/conf/default/disable_ipv6': '0',
  };
  await agent.ask('write', host.name, ...Object.entries(values).flatMap(([key, value]) => [`/proc/sys/net/${key}`, value]));
}

function addressLines(device: string, addresses: Addresses): string[] {
  return [
    `addr add ${addresses.ipv4}/${IPV4_LENGTH} dev ${device}`,
    `addr add ${addresses.ipv6}/${IPV6_LENGTH} dev ${device} nodad`,
    `link set ${device} up`,
  ];
}

function defaultRoutes(gateway: Addresses): string[] {
  return [`route add default via ${gateway.ipv4}`, `route add ::/0 via ${gateway.ipv6}`];
}

/** The router's bridges are the switches of the two LANs; every host gets the other end of a cable as its eth0. */
function routerLines(plan: AddressPlan, options: TopologyOptions): string[] {
  const cable = (host: LabHost, port: string): string => `link add ${port} type veth peer name eth0 netns ${host.name}`;
  return [
    'link set lo up',
    ...([1, 3] as const).flatMap(lan => [`link add lan${lan} type bridge`, ...addressLines(`lan${lan}`, routerOn(lan))]),
    ...plan.nodes.flatMap(node => [cable(node, node.name), `link set ${node.name} master lan${node.lan} up`]),
    cable(plan.outside, 'outside'),
    ...addressLines('outside', routerOn('outside')),
    ...(options.podRoutes === 'none' ? [] : plan.nodes.flatMap(node => podRoute(node, node.addresses))),
  ];
}

function podRoute(to: LabNode, via: Addresses): string[] {
  return [`route add ${to.podCidrs.ipv4} via ${via.ipv4}`, `route add ${to.podCidrs.ipv6} via ${via.ipv6}`];
}

function bridgeLines(node: LabNode): string[] {
  return [
    'link set lo up',
    'link add kube-bridge type bridge',
    ...addressLines('kube-bridge', node.bridge),
    // Hairpin mode, as the CNI configuration kube-router ships asks for it.
    ...node.pods.flatMap(pod => [
      `link add ${pod.name} type veth peer name eth0 netns ${pod.name}`,
      `link set ${pod.name} master kube-bridge up`,
      `link set ${pod.name} type bridge_slave hairpin on`,
    ]),
  ];
}

function nodeLines(node: LabNode, plan: AddressPlan, options: TopologyOptions): string[] {
  const others = options.podRoutes === 'none' ? [] : plan.nodes.filter(other => other !== node);
  return [
    ...addressLines('eth0', node.addresses),
    ...defaultRoutes(routerOn(node.lan)),
    ...others.flatMap(other => podRoute(other, other.lan === node.lan ? other.addresses : routerOn(node.lan))),
  ];
}

function podLines(pod: LabPod, node: LabNode): string[] {
  return ['link set lo up', ...addressLines('eth0', pod.addresses), ...defaultRoutes(node.bridge)];
}

function outsideLines(plan: AddressPlan): string[] {
  return ['link set lo up', ...addressLines('eth0', plan.outside.addresses), ...defaultRoutes(routerOn('outside'))];
}
