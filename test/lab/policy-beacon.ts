/**
 * The {@link Beacon} of suites about network policy: a pod of each node, in a namespace of its own, whose address changes with every
 * revision. Its policy selects the pod of the same revision, and allows the namespace by its label: pods, namespaces and policies may come
 * by ways of their own, and the beacon shows in each. No chain changes with it.
 *
 * Elements of sets in use go last, all in one batch, and the daemon says when it is through.
 */
import type { LabHost, LabNode } from './addresses.ts';
import type { Beacon } from './beacon.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, namespaceObject, networkPolicyObject, type PodPlace, podObject } from './objects.ts';

const NAMESPACE = 'beacon';

/** Not what is done to sets before the rules that use them: there may be deletions, too. Chains without any use may go later. */
const LAST_BATCH = /ipset changed .*deleted=[1-9](?![\s\S]*iptables changed created=(?!0 updated=0))/;

export function policyBeacon(lab: Lab): Beacon {
  return {
    objects: revision => objects(lab, revision),
    async look(host, revision, said) {
      if (said !== undefined && !LAST_BATCH.test(said)) return { hasArrived: false, shown: 'no element was deleted yet' };
      const [sets = '', ...rules] = await Promise.all(
        // Of both flavours: which one the node uses is the daemon's choice.
        ['ipset save', 'iptables-legacy-save', 'iptables-nft-save'].map(
          async command => await lab.expectRun(host, command.split(' ')),
        ),
      );
      const node = nodeOf(lab, host);
      const holds = (set: string, { addresses }: PodPlace): boolean =>
        new RegExp(`^add ${set} ${addresses.ipv4.replaceAll('.', '[.]')}$`, 'm').test(sets);
      /** Selections in use that a pod is in; policies of the test may choose from all namespaces, and then both pods are in theirs. */
      const chosen = ({ addresses }: PodPlace): number =>
        [...sets.matchAll(new RegExp(`^add (fairway-p-\\S+) ${addresses.ipv4.replaceAll('.', '[.]')}$`, 'gm'))].filter(
          ([, set]) => rules.some(saved => saved.includes(` ${set} `)),
        ).length;
      const [now, before, second] = [first(node, revision), first(node, revision - 1), secondOf(node)];
      const traces = {
        'pod and policy': holds('fairway-ingress', now) && !holds('fairway-ingress', before),
        namespace: chosen(second) > 0 && chosen(second) - chosen(now) === (phaseOf(revision) === 'odd' ? 0 : 1),
      };
      return { hasArrived: Object.values(traces).every(is => is), shown: { traces, sets } };
    },
  };
}

/** In odd phases the policy allows all pods of the namespace, in even ones only the second. */
function objects(lab: Lab, revision: number): readonly ApiObject[] {
  const labels = { revision: String(revision) };
  const from = [
    { namespaceSelector: { matchLabels: { beacon: 'odd' } } },
    { namespaceSelector: { matchLabels: { beacon: 'even' } }, podSelector: { matchLabels: { pod: 'second' } } },
  ];
  return [
    namespaceObject(NAMESPACE, { beacon: phaseOf(revision) }),
    ...lab.nodes.flatMap(node => [
      podObject(first(node, revision), { namespace: NAMESPACE, labels }),
      podObject(secondOf(node), { namespace: NAMESPACE, labels: { pod: 'second' } }),
    ]),
    networkPolicyObject('beacon', { podSelector: { matchLabels: labels }, ingress: [{ from }] }, { namespace: NAMESPACE }),
  ];
}

function phaseOf(revision: number): 'odd' | 'even' {
  return revision % 2 === 0 ? 'even' : 'odd';
}

function first(node: LabNode, revision: number): PodPlace {
  return pod(node, 'first', 220 + ((revision + 16) % 16));
}

function secondOf(node: LabNode): PodPlace {
  return pod(node, 'second', 240);
}

/** A pod that is not there: only its object is. */
function pod(node: LabNode, name: string, number: number): PodPlace {
  const { ipv4, ipv6 } = node.bridge;
  const addresses = { ipv4: ipv4.replace(/[.]1$/, `.${number}`), ipv6: ipv6.replace(/:1$/, `:${number}`) };
  return { name: `${name}-${node.number}`, node: node.name, addresses };
}

function nodeOf(lab: Lab, host: LabHost): LabNode {
  const node = lab.nodes.find(one => one.name === host.name);
  if (node === undefined) throw new Error(`${host.name} is no node`);
  return node;
}
