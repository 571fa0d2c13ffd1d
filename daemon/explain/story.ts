/** What a traced packet met on this node, as steps and a verdict for each place where it may end. */
import { keyOf } from '../cluster/kinds.ts';
import type { IpAddress } from '../net/address.ts';
import { balanced } from './balanced-story.ts';
import type { EndpointAnswer, Judgement, Step, Verdict } from './explanation.ts';
import type { Fate, MetRule, Passage } from './packet-path.ts';
import { denialIn, type Passed, passed } from './passage-steps.ts';
import { expectation } from './policy-steps.ts';
import { type Question, transportText } from './question.ts';
import { carriageTo } from './route-steps.ts';
import type { Scene } from './scene.ts';
import {
  droppedByPolicyVerdict,
  type MeantService,
  noEndpointVerdict,
  noSuchPortVerdict,
  outsideRangesVerdict,
  unservedVerdict,
  winnerOf,
} from './service-steps.ts';

export interface Story {
  readonly verdict: Verdict;
  readonly steps: readonly Step[];
  readonly endpoints: readonly EndpointAnswer[];
  readonly judgements: readonly Judgement[];
}

export function storyOf(fate: Fate, question: Question, services: readonly MeantService[], scene: Scene): Story {
  const before = passed(fate.passages, scene);
  switch (fate.kind) {
    case 'stopped':
      return { ...before, verdict: stopVerdict(fate.passages, fate.how, question, services, scene), endpoints: [] };
    case 'delivered':
      return delivered(before, question, services, scene);
    case 'sent':
      return sent(before, fate.source, question, services, scene);
    case 'balanced':
      return balanced(fate, before, question, services, scene);
  }
}

function stopVerdict(
  passages: readonly Passage[],
  how: 'dropped' | 'refused',
  question: Question,
  services: readonly MeantService[],
  scene: Scene,
): Verdict {
  const passage = passages.at(-1);
  const denied = denialIn(passage, scene);
  if (denied !== undefined) return denied;
  const last = passage?.met.at(-1);
  const meant = winnerOf(services);
  const { address } = question.destination;
  if (asks(last, 'fairway-closed') && passage !== undefined) return outsideRangesVerdict(meant, passage.packet.source);
  if (asks(last, 'fairway-drop')) return droppedByPolicyVerdict(meant, scene);
  if (asks(last, 'fairway-refuse')) return noEndpointVerdict(meant, address, scene);
  if (last?.chain === 'FAIRWAY-SERVICES') return noSuchPortVerdict(services, question);
  return { outcome: how, reason: last === undefined ? 'by a rule of this node' : `by -A ${last.chain} ${last.rule.text}` };
}

function asks(met: MetRule | undefined, set: string): boolean {
  return met?.rule.sets.some(({ set: { head } }) => head.name === set || head.name === `inet6:${set}`) ?? false;
}

/** No virtual service took it, and the address is the host's. */
function delivered(before: Passed, question: Question, services: readonly MeantService[], scene: Scene): Story {
  const { destination, transport, source } = question;
  const what = `delivered to the host: ${scene.objects.title(destination.address)}`;
  const end = (verdict: Verdict, state: Step['state']): Story => ({
    ...before,
    steps: [...before.steps, { what, state }],
    verdict,
    endpoints:
      verdict.outcome === 'allowed'
        ? [
            {
              address: destination.address,
              port: transport.protocol === 'ICMP' ? 0 : transport.port,
              source: source.address,
              verdict,
            },
          ]
        : [],
  });
  const isVirtual =
    scene.objects.servicesAt(destination.address).length > 0 && scene.objects.nodeAt(destination.address) === undefined;
  if (transport.protocol === 'ICMP') return end({ outcome: 'allowed', reason: 'the host answers' }, 'ok');
  const unserved = unservedVerdict(services, question, scene);
  if (unserved !== undefined) return end(unserved, 'missing');
  // Without the firewall in front of virtual addresses (`--ipvs-permit-all=false`) whatever the host listens on answers there too.
  if (isVirtual) return end({ ...noSuchPortVerdict(services, question), outcome: 'unserved' }, 'unknown');
  return end(
    {
      outcome: 'allowed',
      reason: `no rule of ours stops it; a process of the host answers, if one listens on ${transportText(transport)}`,
    },
    'ok',
  );
}

/** Straight to a pod, a node or elsewhere. */
function sent(before: Passed, source: IpAddress, question: Question, services: readonly MeantService[], scene: Scene): Story {
  const { destination, transport } = question;
  const port = transport.protocol === 'ICMP' ? 0 : transport.port;
  const carriage = carriageTo(destination.address, question.source.address, scene);
  const balancing = balancedThere(services, question, scene) ?? unservedVerdict(services, question, scene);
  if (balancing !== undefined) return { ...before, steps: [...before.steps, carriage.step], endpoints: [], verdict: balancing };
  const expected = expectation('ingress', { source, destination: destination.address, transport }, scene);
  const steps = [
    ...before.steps,
    carriage.step,
    ...(expected === undefined || carriage.stopped !== undefined ? [] : [expected.step]),
  ];
  const verdict = carriage.stopped ??
    expected?.denied ?? { outcome: 'allowed', reason: seenText(destination.address, source, scene) };
  return {
    steps,
    judgements: [...before.judgements, ...(expected === undefined ? [] : [expected.judgement])],
    endpoints: [{ address: destination.address, port, source, verdict }],
    verdict,
  };
}

function seenText(address: IpAddress, source: IpAddress, { objects, snapshot }: Scene): string {
  const isNobody = snapshot.pods.size > 0 && objects.podAt(address) === undefined && objects.podNetworkOf(address) !== undefined;
  const unknown = isNobody && objects.placeOf(address).at === 'here' ? ', which no known pod has' : '';
  return `${objects.title(address)}${unknown} sees ${objects.title(source)}`;
}

/** A node port of another node. */
function balancedThere(services: readonly MeantService[], { destination }: Question, { objects }: Scene): Verdict | undefined {
  const meant = services.find(({ through }) => through === 'nodePort');
  const node = objects.nodeAt(destination.address)?.meta.name;
  if (meant === undefined || node === undefined) return undefined;
  return {
    outcome: 'elsewhere',
    reason: `on ${node}: it balances the node port of Service ${keyOf(meant.service.meta)}; nothing here stops the packet on its way there`,
  };
}
