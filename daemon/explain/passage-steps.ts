/** What the rules of this node did to a packet on its way, as steps. */
import type { IpAddress } from '../net/address.ts';
import type { Judgement, Step, Verdict } from './explanation.ts';
import type { MetRule, Passage } from './packet-path.ts';
import type { Direction } from './policy-opinions.ts';
import { deniedVerdict, openStep, partJudgement, partStep, policyParts, ruleLines, ruleOwners } from './policy-steps.ts';
import type { Scene } from './scene.ts';
import type { TracedPacket } from './traced-packet.ts';

export interface Passed {
  readonly steps: readonly Step[];
  readonly judgements: readonly Judgement[];
}

/** Each direction that policies judged, rules that stopped it, marks that say which virtual service, and a source that became another. */
export function passed(passages: readonly Passage[], scene: Scene): Passed {
  const parts = passages.flatMap(policyParts);
  const steps = passages.flatMap(passage => [...policySteps(passage, scene), ...otherSteps(passage, scene)]);
  return { steps, judgements: parts.map(part => partJudgement(part, scene)) };
}

/** What leaves is judged before what comes in. */
function policySteps(passage: Passage, scene: Scene): readonly Step[] {
  const parts = policyParts(passage);
  const steps = (direction: Direction): readonly Step[] => {
    const of = parts.filter(part => part.direction === direction);
    return of.length > 0 ? of.map(part => partStep(part, scene)) : openSteps(passage, direction, scene);
  };
  return [...steps('egress'), ...steps('ingress')];
}

/** Where policies are asked at all, and none restricts this node's pod. In INPUT what is for a Service is left to the judgement behind it. */
function openSteps({ table, hook, packet, walk }: Passage, direction: Direction, scene: Scene): readonly Step[] {
  if (table !== 'filter' || hook === 'INPUT' || !scene.moduleNames.includes('policy')) return [];
  const isStopped = walk.verdict === 'reject' || walk.verdict === 'drop';
  if (isStopped || packet.isSourceLocal) return [];
  const pod = scene.objects.podAt(direction === 'egress' ? packet.source : packet.destination);
  return pod?.nodeName === scene.snapshot.node.name ? [openStep(direction, pod)] : [];
}

function otherSteps(passage: Passage, scene: Scene): readonly Step[] {
  return passage.met.flatMap(met => stepOf(met, passage, scene) ?? []);
}

/** Of a rule that changes or ends the packet's way and is no policy's. */
function stepOf(met: MetRule, passage: Passage, scene: Scene): Step | undefined {
  const { table, hook, packet, walk } = passage;
  const { target } = met.rule;
  const where = `${table} ${hook}`;
  const entries = (): Pick<Step, 'kernel' | 'objects'> => {
    const objects = ruleOwners(met, packet, scene);
    return { kernel: ruleLines(met, packet, scene), ...(objects.length === 0 ? {} : { objects }) };
  };
  switch (target.kind) {
    case 'mapped mark':
      if (target.markOf(packet) === undefined) return undefined;
      return { what: `marked in ${where}: IPVS looks for a virtual service by this mark first`, ...entries(), state: 'ok' };
    case 'new source': {
      const source = walk.source ?? scene.primary(packet.family);
      return { what: `masqueraded: the endpoint sees ${source} in place of ${packet.source}`, ...entries(), state: 'ok' };
    }
    case 'drop':
    case 'reject':
      if (policyParts(passage).some(({ isAllowed }) => !isAllowed)) return undefined;
      return { what: `${target.kind === 'drop' ? 'dropped' : 'refused'} in ${where}`, ...entries(), state: 'stops' };
    case 'unknown': {
      const note = `it is taken for one that matches nothing: ${target.reason}`;
      return { what: `unknown rule in ${where}, shown as it is`, ...entries(), note, state: 'unknown' };
    }
    case 'none':
    case 'accept':
    case 'return':
    case 'mark':
    case 'log':
    case 'jump':
    case 'goto':
      return undefined;
  }
}

/** By a policy, or by `--netpol-default-deny`, whose chain knows the pods that there are. */
export function denialIn(passage: Passage | undefined, scene: Scene): Verdict | undefined {
  if (passage === undefined) return undefined;
  const denied = policyParts(passage).find(({ isAllowed }) => !isAllowed);
  if (denied !== undefined) return deniedVerdict(denied, scene);
  if (passage.met.at(-1)?.chain !== 'FAIRWAY-DENY') return undefined;
  return {
    outcome: 'denied',
    reason: `by --netpol-default-deny: no known pod of this node has ${unknownEnd(passage.packet, scene)}`,
  };
}

function unknownEnd(packet: TracedPacket, scene: Scene): string {
  const isUnknown = (address: IpAddress): boolean =>
    scene.objects.isOfOwnPods(address) && scene.objects.podAt(address) === undefined;
  return [packet.source, packet.destination].filter(isUnknown).join(', ') || packet.destination;
}
