/**
 * Changes of a cluster, and what a pair of pods sees of them. `server` (pod-1-1, node1) serves; `near` (pod-1-2, node1) and `far` (pod-2-1,
 * node2) are labelled `role: client`, `other` (pod-2-2, node2) `role: other`; `host` is node2 itself. Histories are outcomes of fresh flows, one every few
 * milliseconds, in their order: a pair that stays denied never opens, one that stays allowed never loses a flow.
 */
import type { Lab } from '../lab.ts';
import { type ApiObject, NAMESPACE, namespaceObject, networkPolicyObject, podObject } from '../objects.ts';

export interface Step {
  readonly put?: readonly ApiObject[];
  readonly remove?: readonly ApiObject[];
}

export interface ChangeCase {
  readonly title: string;
  /** There before the watch begins. */
  readonly before?: (lab: Lab) => readonly ApiObject[];
  readonly change: (lab: Lab) => Step;
  /** Where the client is whose history is told: on the other node unless told. Two nodes do not learn of a change in the same moment. */
  readonly client?: 'near' | 'far' | 'host';
  /** Of the client. */
  readonly seen: string;
  readonly other: string;
}

const SERVER = { matchLabels: { app: 'server' } };

export function serverObject(lab: Lab, labels: Readonly<Record<string, string>> = { app: 'server' }): ApiObject {
  return podObject(lab.pod(1, 1), { labels });
}

export function farObject(lab: Lab, role = 'client'): ApiObject {
  return podObject(lab.pod(2, 1), { labels: { role } });
}

export function nearObject(lab: Lab, role = 'client'): ApiObject {
  return podObject(lab.pod(1, 2), { labels: { role } });
}

export function otherObject(lab: Lab, role = 'other'): ApiObject {
  return podObject(lab.pod(2, 2), { labels: { role } });
}

/** A pod that is over; its address may be another's by now. */
function finished(pod: ApiObject): ApiObject {
  return { ...pod, status: { ...(pod['status'] as object), phase: 'Succeeded' } };
}

/** A younger pod with the address of the far client. */
function heirOfFar(lab: Lab, role: string): ApiObject {
  return podObject({ ...lab.pod(2, 1), name: 'heir' }, { labels: { role }, creationTimestamp: '2026-11-25T12:00:00Z' });
}

/** The cast as it is before every case. */
export function clusterOf(lab: Lab): readonly ApiObject[] {
  return [namespaceObject(NAMESPACE, { team: 'a' }), serverObject(lab), nearObject(lab), farObject(lab), otherObject(lab)];
}

/** Opens the server to pods of these roles. */
export function allow(name: string, ...roles: readonly string[]): ApiObject {
  return networkPolicyObject(name, {
    podSelector: SERVER,
    ingress: [{ from: roles.map(role => ({ podSelector: { matchLabels: { role } } })) }],
  });
}

const CLIENTS = allow('clients', 'client');
const DENY_ALL = networkPolicyObject('deny-all', {});

/** Pods that are not there: only their objects are. `count` of them with that role, on node `node`. */
export function crowd(node: number, count: number, role: string): readonly ApiObject[] {
  return Array.from({ length: count }, (_, index) =>
    podObject(
      {
        name: `crowd-${node}-${index}`,
        node: `node${node}`,
        addresses: {
          ipv4: `10.${200 + node}.${index >> 8}.${index & 255}`,
          ipv6: `fd00:200:${node}::${index.toString(16)}`,
        },
      },
      { labels: { role, number: String(index % 40) } },
    ),
  );
}

/** An address is that of the pod that has it now: "finished pods, and pods of their host's network, are no peers". */
const POD_LIVES: readonly ChangeCase[] = [
  {
    title: 'a client finishes, and its address is nobody’s',
    before: () => [CLIENTS],
    change: lab => ({ put: [finished(farObject(lab))] }),
    seen: 'answer refused',
    other: 'refused',
  },
  {
    title: 'a client finishes, and a pod that is not allowed gets its address',
    before: () => [CLIENTS],
    change: lab => ({ put: [finished(farObject(lab)), heirOfFar(lab, 'stranger')] }),
    seen: 'answer refused',
    other: 'refused',
  },
  {
    title: 'a client finishes, and another that is allowed gets its address',
    before: () => [CLIENTS],
    change: lab => ({ put: [finished(farObject(lab)), heirOfFar(lab, 'client')] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a pod that is not allowed is deleted, and one that is allowed gets its address',
    before: lab => [CLIENTS, farObject(lab, 'stranger')],
    change: lab => ({ remove: [farObject(lab)], put: [heirOfFar(lab, 'client')] }),
    seen: 'refused answer',
    other: 'refused',
  },
  {
    title: 'a younger pod has the address of a client whose object is still there',
    before: () => [CLIENTS],
    change: lab => ({ put: [heirOfFar(lab, 'stranger')] }),
    seen: 'answer refused',
    other: 'refused',
  },
  {
    title: 'the server finishes, and its successor has its address and its labels',
    before: () => [CLIENTS],
    change: lab => ({
      put: [finished(serverObject(lab)), podObject({ ...lab.pod(1, 1), name: 'successor' }, { labels: { app: 'server' } })],
    }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'the server finishes, and a pod that no policy selects gets its address',
    before: () => [CLIENTS],
    change: lab => ({
      put: [finished(serverObject(lab)), podObject({ ...lab.pod(1, 1), name: 'successor' }, { labels: { app: 'free' } })],
    }),
    seen: 'answer',
    other: 'refused answer',
  },
  {
    title: 'a pod with the label of clients comes in the network of its host',
    before: () => [CLIENTS],
    change: lab => ({
      put: [
        podObject(
          { name: 'host-client', node: lab.node(2).name, addresses: lab.node(2).addresses },
          { labels: { role: 'client' }, spec: { hostNetwork: true } },
        ),
      ],
    }),
    client: 'host',
    seen: 'refused',
    other: 'refused',
  },
];

export const CHANGES: readonly ChangeCase[] = [
  {
    title: 'the first policy comes',
    change: () => ({ put: [CLIENTS] }),
    seen: 'answer',
    other: 'answer refused',
  },
  {
    title: 'the last policy goes',
    before: () => [CLIENTS],
    change: () => ({ remove: [CLIENTS] }),
    seen: 'answer',
    other: 'refused answer',
  },
  {
    title: 'a policy that denies all comes beside one that allows',
    before: () => [CLIENTS],
    change: () => ({ put: [DENY_ALL] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'one of two policies that allow a pair goes',
    before: () => [CLIENTS, allow('more', 'client', 'x')],
    change: () => ({ remove: [CLIENTS] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'two policies change places',
    before: () => [CLIENTS],
    change: () => ({ remove: [CLIENTS], put: [allow('replacement', 'client', 'y')] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a rule chooses the same pods by another selector',
    before: () => [CLIENTS],
    change: () => ({
      put: [
        networkPolicyObject('clients', {
          podSelector: SERVER,
          ingress: [
            { from: [{ podSelector: { matchExpressions: [{ key: 'role', operator: 'In', values: ['client', 'z'] }] } }] },
          ],
        }),
      ],
    }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a rule gets other ports, the used one among them',
    before: () => [CLIENTS],
    change: () => ({
      put: [
        networkPolicyObject('clients', {
          podSelector: SERVER,
          ingress: [
            {
              from: [{ podSelector: { matchLabels: { role: 'client' } } }],
              ports: [
                { port: 8080, endPort: 8081 },
                { port: 8080, protocol: 'UDP' },
              ],
            },
          ],
        }),
      ],
    }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'clients are relabelled to what is allowed and what is not allowed as well',
    before: () => [allow('clients', 'client', 'friend')],
    change: lab => ({ put: [farObject(lab, 'friend'), otherObject(lab, 'enemy')] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'clients change places',
    before: () => [CLIENTS],
    change: lab => ({ put: [farObject(lab, 'other'), otherObject(lab, 'client')] }),
    seen: 'answer refused',
    other: 'refused answer',
  },
  {
    title: 'the server comes under other policies that allow the same',
    before: () => [
      CLIENTS,
      networkPolicyObject('second', {
        podSelector: { matchLabels: { app: 'second' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }] }],
      }),
    ],
    change: lab => ({ put: [serverObject(lab, { app: 'second' })] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'the server comes under one more policy',
    before: () => [CLIENTS, networkPolicyObject('second', { podSelector: { matchLabels: { extra: 'yes' } }, ingress: [] })],
    change: lab => ({ put: [serverObject(lab, { app: 'server', extra: 'yes' })] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a client is relabelled, and what its egress did not allow the ingress of the server does not allow now',
    before: () => [
      CLIENTS,
      networkPolicyObject('clients-out', {
        podSelector: { matchLabels: { role: 'client' } },
        policyTypes: ['Egress'],
        egress: [{ to: [{ podSelector: { matchLabels: { app: 'nobody' } } }] }],
      }),
      networkPolicyObject('friends-out', {
        podSelector: { matchLabels: { role: 'friend' } },
        policyTypes: ['Egress'],
        egress: [{}],
      }),
    ],
    change: lab => ({ put: [nearObject(lab, 'friend')] }),
    client: 'near',
    seen: 'refused',
    other: 'refused',
  },
  {
    title: 'a client is relabelled, and other policies of its own and other rules of the server allow the same',
    before: () => [
      allow('clients', 'client'),
      allow('friends', 'friend'),
      ...['client', 'friend'].map(role =>
        networkPolicyObject(`${role}-out`, {
          podSelector: { matchLabels: { role } },
          policyTypes: ['Egress'],
          egress: [{ to: [{ podSelector: SERVER }] }],
        }),
      ),
    ],
    change: lab => ({ put: [nearObject(lab, 'friend')] }),
    client: 'near',
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a namespace is relabelled from one allowed label to another',
    before: () => [
      networkPolicyObject('teams', {
        podSelector: SERVER,
        ingress: [
          {
            from: ['a', 'b'].map(team => ({
              namespaceSelector: { matchLabels: { team } },
              podSelector: { matchLabels: { role: 'client' } },
            })),
          },
        ],
      }),
    ],
    change: () => ({ put: [namespaceObject(NAMESPACE, { team: 'b' })] }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a set grows past the size it was made for',
    before: () => [CLIENTS],
    change: () => ({ put: crowd(2, 17_000, 'client') }),
    seen: 'answer',
    other: 'refused',
  },
  {
    title: 'a rule that cannot be read takes the place of one that could',
    before: () => [CLIENTS],
    change: () => ({
      put: [networkPolicyObject('clients', { podSelector: SERVER, ingress: [{ from: [{ ipBlock: { cidr: 'nonsense' } }] }] })],
    }),
    seen: 'answer refused',
    other: 'refused',
  },
  {
    title: 'groups of pods become so many that they are found in two steps',
    before: () => [CLIENTS, ...crowd(1, 40, 'crowd')],
    change: () => ({
      put: Array.from({ length: 30 }, (_, number) =>
        networkPolicyObject(`crowd-${number}`, { podSelector: { matchLabels: { number: String(number) } } }),
      ),
    }),
    seen: 'answer',
    other: 'refused',
  },
  ...POD_LIVES,
];
