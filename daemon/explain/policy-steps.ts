/** What NetworkPolicies say of a packet, where this node's chains judge it and where another node's are expected to. */
import { keyOf, type Pod } from '../cluster/kinds.ts';
import { kernelText, ruleLine } from '../reconcile/kernel-text.ts';
import { chainKey, elementName } from '../reconcile/tables.ts';
import type { Judgement, Step, Verdict } from './explanation.ts';
import { elementsBy, type MetRule, type Passage } from './packet-path.ts';
import { type Direction, isAllowedBy, type JudgedPacket, opinionsOn, type PolicyOpinion } from './policy-opinions.ts';
import { transportText } from './question.ts';
import { refText, type Scene } from './scene.ts';
import { bareTransport, type TracedPacket } from './traced-packet.ts';

/** A direction as the chains of one passage judged it. */
export interface PolicyPart {
  readonly direction: Direction;
  readonly isAllowed: boolean;
  readonly packet: TracedPacket;
  readonly met: readonly MetRule[];
}

const DISPATCH: Readonly<Record<string, Direction>> = { 'FAIRWAY-EGRESS': 'egress', 'FAIRWAY-INGRESS': 'ingress' };
/** Chains whose rules say who judged and how it ended; the others keep books of marks. */
const TELLING = /^FAIRWAY-(EGRESS|INGRESS|G[EI]-|P[EI]-|ALLOW|DENY|DEFAULT-DENY)/;

/** Of the passage through one of the filter table's hooks; none where no policy is asked. */
export function policyParts({ met, packet }: Passage): readonly PolicyPart[] {
  const parts: { direction: Direction; isAllowed: boolean; packet: TracedPacket; met: MetRule[] }[] = [];
  for (const step of met) {
    const { target } = step.rule;
    const direction = 'chain' in target ? DISPATCH[target.chain] : undefined;
    if (direction !== undefined) parts.push({ direction, isAllowed: true, packet, met: [step] });
    else {
      const part = parts.at(-1);
      part?.met.push(step);
      if (part !== undefined && (target.kind === 'reject' || target.kind === 'drop')) part.isAllowed = false;
    }
  }
  return parts;
}

export function partStep({ direction, isAllowed, packet, met }: PolicyPart, scene: Scene): Step {
  const { family } = packet;
  const telling = met.filter(({ rule: { target } }) =>
    'chain' in target ? TELLING.test(target.chain) : target.kind === 'reject' || target.kind === 'drop',
  );
  const kernel = telling.flatMap(step => ruleLines(step, packet, scene));
  const owners = telling
    .filter(({ chain }) => /^FAIRWAY-P[EI]-/.test(chain))
    .flatMap(({ chain }) => scene.ownersOf('iptables', chainKey(family, 'filter', chain)));
  const opinions = opinionsAt(direction, judged(packet), scene);
  return {
    what: `${title(direction, packet, scene)}: ${isAllowed ? 'allowed' : 'denied'}`,
    kernel,
    objects: [...new Set([...owners, ...opinions.map(({ policy }) => `NetworkPolicy ${policy}`)])],
    ...(isAllowed ? {} : { note: wantsText(opinions) }),
    state: isAllowed ? 'ok' : 'stops',
  };
}

/** Where the pod is this node's and no chain judged. */
export function openStep(direction: Direction, pod: Pod): Step {
  const what = `${direction} of Pod ${keyOf(pod.meta)}: open, no NetworkPolicy restricts it`;
  return { what, state: 'ok' };
}

export function partJudgement({ direction, isAllowed, packet }: PolicyPart, scene: Scene): Judgement {
  const address = direction === 'egress' ? packet.source : packet.destination;
  const pod = scene.objects.podAt(address);
  return { direction, pod: pod === undefined ? '' : keyOf(pod.meta), address, by: 'kernel', isAllowed };
}

export function deniedVerdict({ direction, packet }: PolicyPart, scene: Scene): Verdict {
  return deniedBy(direction, judged(packet), opinionsAt(direction, judged(packet), scene), scene);
}

function deniedBy(direction: Direction, packet: JudgedPacket, opinions: readonly PolicyOpinion[], scene: Scene): Verdict {
  const [subject, other] = direction === 'egress' ? [packet.source, packet.destination] : [packet.destination, packet.source];
  if (opinions.length === 0) {
    const who = scene.objects.podAt(subject) === undefined ? `no known pod has ${subject}` : 'no NetworkPolicy selects the pod';
    return { outcome: 'denied', reason: `by the chains of ${direction}: ${who}` };
  }
  const names = opinions.map(({ policy }) => policy).join(', ');
  const unusable = opinions.find(each => each.unusable !== undefined);
  const reason =
    unusable !== undefined && opinions.every(each => each.wants.length === 0)
      ? `its ${direction} cannot be used: ${unusable.unusable ?? ''}`
      : `no ${direction} rule of ${opinions.length === 1 ? 'it' : 'them'} allows ${transportText(packet.transport)} ${direction === 'egress' ? 'to' : 'from'} ${scene.objects.title(other)}`;
  return { outcome: 'denied', reason: `by NetworkPolicy ${names}: ${reason}` };
}

/** What another node's chains are to say of a pod of theirs. */
export interface Expectation {
  readonly step: Step;
  readonly judgement: Judgement;
  /** Undefined where the packet passes. */
  readonly denied: Verdict | undefined;
}

/** Undefined where the end is no pod of another node. */
export function expectation(direction: Direction, packet: JudgedPacket, scene: Scene): Expectation | undefined {
  const address = direction === 'egress' ? packet.source : packet.destination;
  const pod = scene.objects.podAt(address);
  if (pod === undefined || pod.nodeName === '' || pod.nodeName === scene.snapshot.node.name) return undefined;
  const opinions = opinionsAt(direction, packet, scene);
  const isAllowed = passesAnyhow(packet, pod, scene) || isAllowedBy(opinions);
  const allowing = opinions.find(({ allowedBy }) => allowedBy !== undefined);
  const why =
    opinions.length === 0
      ? 'open, no NetworkPolicy restricts it'
      : isAllowed
        ? `allowed${allowing === undefined ? '' : ` by ${allowing.policy} ${direction}[${allowing.allowedBy ?? 0}]`}`
        : 'denied';
  const denied = isAllowed ? undefined : deniedBy(direction, packet, opinions, scene);
  return {
    step: {
      what: `on ${pod.nodeName}, ${direction} of Pod ${keyOf(pod.meta)}: ${why}`,
      objects: opinions.map(({ policy }) => `NetworkPolicy ${policy}`),
      note: isAllowed
        ? `read off the objects; ${pod.nodeName} judges`
        : `${wantsText(opinions)}\nread off the objects; ${pod.nodeName} judges`,
      state: 'expected',
    },
    judgement: { direction, pod: keyOf(pod.meta), address, by: 'objects', isAllowed },
    denied: denied === undefined ? undefined : { ...denied, reason: `${denied.reason} (expected: ${pod.nodeName} judges)` },
  };
}

/** ICMP echo, a pod to itself, and a node to its own pods. */
function passesAnyhow({ source, destination, transport }: JudgedPacket, pod: Pod, { objects }: Scene): boolean {
  if (transport.protocol === 'ICMP' || source === destination) return true;
  return objects.nodeAt(source)?.meta.name === pod.nodeName;
}

function opinionsAt(direction: Direction, packet: JudgedPacket, { snapshot, objects }: Scene): readonly PolicyOpinion[] {
  const pod = objects.podAt(direction === 'egress' ? packet.source : packet.destination);
  return pod === undefined ? [] : opinionsOn(pod, direction, packet, snapshot, objects);
}

function wantsText(opinions: readonly PolicyOpinion[]): string {
  return opinions
    .flatMap(({ policy, wants, unusable }) => {
      if (unusable !== undefined) return [`${policy} cannot be used: ${unusable}`];
      return wants.length === 0 ? [`${policy} allows nothing in this direction`] : wants.map(want => `${policy} ${want}`);
    })
    .join('\n');
}

function title(direction: Direction, packet: TracedPacket, { objects }: Scene): string {
  const address = direction === 'egress' ? packet.source : packet.destination;
  const pod = objects.podAt(address);
  return `${direction} of ${pod === undefined ? address : refText({ kind: 'Pod', key: keyOf(pod.meta) })}`;
}

export function judged(packet: TracedPacket): JudgedPacket {
  const { source, destination } = packet;
  return { source, destination, transport: bareTransport(packet) };
}

/** The lines of the entries by which a rule took the packet. */
export function ruleLines({ chain, rule }: MetRule, packet: TracedPacket, scene: Scene): readonly string[] {
  return [
    ruleLine(chain, rule.text),
    ...elementsBy(rule, packet).flatMap(({ set, element }) => {
      const entry = scene.tables.entry('ipset', `${set} ${elementName(element)}`)?.actual;
      return entry === undefined ? [] : kernelText('ipset', set, entry);
    }),
  ];
}

/** Objects that the elements by which a rule took the packet are there for. */
export function ruleOwners({ rule }: MetRule, packet: TracedPacket, scene: Scene): readonly string[] {
  const owners = elementsBy(rule, packet).flatMap(({ set, element }) =>
    scene.ownersOf('ipset', `${set} ${elementName(element)}`),
  );
  return [...new Set(owners)];
}
