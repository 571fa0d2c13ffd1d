/**
 * Rules of the shape kube-router v2.11 gives them (iptables and ipset), for comparison: seven rules a pod in the built-in chains'
 * targets, one chain a pod with the conntrack rule in it, one chain a policy of the cluster with every match twice. Names are shorter.
 */
import type { LabelSelector, NetworkPolicy, Pod, PolicyPeer, PolicyPort } from '../daemon/cluster/kinds.ts';
import { matchesLabels, matchesNamespace } from '../daemon/cluster/selectors.ts';
import type { Snapshot } from '../daemon/cluster/snapshot.ts';
import { NODE_NAME } from './policy-cluster.ts';
import { filterTable, type RuleSet } from './policy-rules.ts';

const MATCHED = '0x10000/0x10000';
const PASSED = '0x20000/0x20000';
const [DEFAULT, COMMON, TAIL] = ['KUBE-NWPLCY-DEFAULT', 'KUBE-NWPLCY-COMMON', 'KUBE-NWPLCY-TAIL'];

const SIDES = {
  ingress: { own: 'dst', peer: 'src', flag: '-d' },
  egress: { own: 'src', peer: 'dst', flag: '-s' },
} as const;
type Direction = keyof typeof SIDES;

export function kubeRouterRules(snapshot: Snapshot): RuleSet {
  return new KubeRouterRules(snapshot).render();
}

class KubeRouterRules {
  readonly #snapshot: Snapshot;
  readonly #podsOf: ReadonlyMap<string, readonly Pod[]>;
  readonly #sets: string[] = [];
  readonly #chains: string[] = [DEFAULT, COMMON, TAIL, 'KUBE-ROUTER-INPUT', 'KUBE-ROUTER-FORWARD', 'KUBE-ROUTER-OUTPUT'];
  readonly #rules: string[] = [];

  constructor(snapshot: Snapshot) {
    this.#snapshot = snapshot;
    this.#podsOf = Map.groupBy(snapshot.pods.values(), pod => pod.meta.namespace);
  }

  render(): RuleSet {
    const policies = [...this.#snapshot.networkPolicies.values()];
    const local = [...this.#snapshot.pods.values()].filter(pod => pod.nodeName === NODE_NAME);
    this.#common();
    for (const [number, policy] of policies.entries()) this.#policy(`KUBE-NWPLCY-${number}`, number, policy);
    for (const [number, pod] of local.entries()) {
      const selecting = [...policies.entries()].filter(
        ([, policy]) => policy.meta.namespace === pod.meta.namespace && matchesLabels(policy.podSelector, pod.labels),
      );
      this.#pod(`KUBE-POD-FW-${number}`, pod, selecting);
    }
    for (const hook of ['INPUT', 'FORWARD', 'OUTPUT']) {
      this.#rules.push(
        `-A KUBE-ROUTER-${hook} -j ${TAIL}`,
        `-A KUBE-ROUTER-${hook} -m comment --comment "KUBE-ROUTER rule to explicitly ACCEPT traffic that comply to network policies" -m mark --mark ${PASSED} -j ACCEPT`,
      );
    }
    return { ipset: this.#sets.join(''), iptables: filterTable(this.#chains, this.#rules) };
  }

  #common(): void {
    for (const hook of ['INPUT', 'FORWARD', 'OUTPUT']) {
      this.#rules.push(`-A ${hook} -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-${hook}`);
    }
    this.#rules.push(
      '-A KUBE-ROUTER-INPUT -d 10.96.0.0/12 -j RETURN',
      ...['tcp', 'udp', 'sctp'].map(
        protocol =>
          `-A KUBE-ROUTER-INPUT -p ${protocol} -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN`,
      ),
      `-A ${DEFAULT} -j MARK --set-xmark ${MATCHED}`,
      `-A ${COMMON} -m conntrack --ctstate INVALID -j DROP`,
      `-A ${COMMON} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      ...[8, 3, 11].map(type => `-A ${COMMON} -p icmp -m icmp --icmp-type ${type} -j ACCEPT`),
      `-A ${TAIL} -m mark --mark ${PASSED} -j ACCEPT`,
    );
  }

  #pod(chain: string, pod: Pod, policies: readonly (readonly [number, NetworkPolicy])[]): void {
    const [address = ''] = pod.addresses;
    const open = (['ingress', 'egress'] as const).filter(way => policies.every(([, policy]) => policy[way] === undefined));
    const add = (text: string): void => void this.#rules.push(`-A ${text}`);
    this.#chains.push(chain);
    for (const match of [`-d ${address}`, `-m physdev --physdev-is-bridged -d ${address}`]) {
      add(`KUBE-ROUTER-FORWARD ${match} -j ${chain}`);
    }
    for (const match of [`-s ${address}`, `-m physdev --physdev-is-bridged -s ${address}`]) {
      add(`KUBE-ROUTER-FORWARD ${match} -j ${chain}`);
    }
    add(`KUBE-ROUTER-OUTPUT -d ${address} -j ${chain}`);
    add(`KUBE-ROUTER-OUTPUT -s ${address} -j ${chain}`);
    add(`KUBE-ROUTER-INPUT -s ${address} -j ${chain}`);
    add(`${chain} -j ${COMMON}`);
    add(`${chain} -m addrtype --src-type LOCAL -d ${address} -j ACCEPT`);
    for (const way of open) add(`${chain} ${SIDES[way].flag} ${address} -j ${DEFAULT}`);
    for (const [number, { ingress, egress }] of policies) {
      const side = ingress && egress ? '' : ingress ? `-d ${address} ` : `-s ${address} `;
      add(`${chain} ${side}-j KUBE-NWPLCY-${number}`);
    }
    const denied = `${chain} -m mark ! --mark ${MATCHED}`;
    add(`${denied} -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100`);
    add(`${denied} -j REJECT --reject-with icmp-port-unreachable`);
    add(`${chain} -j MARK --set-xmark 0x0/0x10000`);
    add(`${chain} -j MARK --set-xmark ${PASSED}`);
  }

  #policy(chain: string, number: number, policy: NetworkPolicy): void {
    this.#chains.push(chain);
    for (const way of ['ingress', 'egress'] as const) {
      const rules = policy[way]?.rules;
      if (rules === undefined) continue;
      const target = this.#set(`KUBE-${way}-${number}`, 'hash:ip', this.#pods(policy.meta.namespace, policy.podSelector));
      for (const [index, rule] of rules.entries()) {
        const peers = rule.peers.map((peer, at) => this.#peer(`KUBE-${way}-${number}-${index}-${at}`, policy, peer));
        for (const peer of peers.length === 0 ? [''] : peers) {
          for (const ports of rule.ports.length === 0 ? [''] : rule.ports.map(portMatch)) {
            this.#twice(chain, way, target, peer, ports);
          }
        }
      }
    }
  }

  #twice(chain: string, way: Direction, target: string, peer: string, ports: string): void {
    const { own, peer: other } = SIDES[way];
    const from = peer === '' ? '' : `-m set --match-set ${peer} ${other} `;
    const match = `-m comment --comment "rule to ACCEPT traffic" ${from}-m set --match-set ${target} ${own} ${ports}`;
    this.#rules.push(`-A ${chain} ${match}-j MARK --set-xmark ${MATCHED}`);
    this.#rules.push(`-A ${chain} ${match}-m mark --mark ${MATCHED} -j RETURN`);
  }

  #peer(name: string, policy: NetworkPolicy, peer: PolicyPeer): string {
    if (peer.match === 'block') {
      return this.#set(name, 'hash:net', [peer.cidr, ...peer.except.map(block => `${block} nomatch`)]);
    }
    const { namespaceSelector, podSelector } = peer;
    const namespaces =
      namespaceSelector === undefined
        ? [policy.meta.namespace]
        : [...this.#snapshot.namespaces.values()]
            .filter(namespace => matchesNamespace(namespaceSelector, namespace.meta.name, namespace))
            .map(namespace => namespace.meta.name);
    return this.#set(
      name,
      'hash:ip',
      namespaces.flatMap(namespace => this.#pods(namespace, podSelector)),
    );
  }

  #pods(namespace: string, selector: LabelSelector | undefined): readonly string[] {
    const pods = this.#podsOf.get(namespace) ?? [];
    return pods.filter(pod => selector === undefined || matchesLabels(selector, pod.labels)).flatMap(pod => pod.addresses);
  }

  #set(name: string, type: 'hash:ip' | 'hash:net', elements: readonly string[]): string {
    this.#sets.push(`create ${name} ${type} family inet hashsize 1024 maxelem 65536\n`);
    for (const element of new Set(elements)) this.#sets.push(`add ${name} ${element}\n`);
    return name;
  }
}

/** Named ports, which kube-router puts into sets, stand as the number every pod of the bench has. */
function portMatch(port: PolicyPort): string {
  const protocol = `-p ${port.protocol.toLowerCase()}`;
  switch (port.match) {
    case 'all':
      return `${protocol} `;
    case 'range':
      return `${protocol} -m ${port.protocol.toLowerCase()} --dport ${port.first === port.last ? port.first : `${port.first}:${port.last}`} `;
    case 'name':
      return `${protocol} -m ${port.protocol.toLowerCase()} --dport ${port.name === 'http' ? 8080 : 9090} `;
  }
}
