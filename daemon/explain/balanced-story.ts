/** What becomes of a packet that IPVS balances: each endpoint that may get it, and what is in the way. */
import { keyOf } from '../cluster/kinds.ts';
import { familyOf, type IpAddress, withPort } from '../net/address.ts';
import { listenerKey } from '../reconcile/tables.ts';
import { type EndpointAnswer, type Judgement, type Step, summaryOf, type Verdict } from './explanation.ts';
import type { Fate, Way } from './packet-path.ts';
import { denialIn, type Passed, passed } from './passage-steps.ts';
import type { JudgedPacket } from './policy-opinions.ts';
import { expectation } from './policy-steps.ts';
import { type Question, transportText } from './question.ts';
import { carriageTo } from './route-steps.ts';
import { refText, type Scene } from './scene.ts';
import {
  conditionText,
  endpointsOf,
  type MeantService,
  noEndpointVerdict,
  virtualServerStep,
  winnerOf,
} from './service-steps.ts';
import type { Story } from './story.ts';
import { bareTransport } from './traced-packet.ts';

/** Ways to endpoints that are told in full; the others are one line each. */
const TOLD_IN_FULL = 2;

interface ToldWay {
  readonly answer: EndpointAnswer;
  readonly steps: readonly Step[];
  readonly judgements: readonly Judgement[];
}

export function balanced(
  { server, ways }: Extract<Fate, { kind: 'balanced' }>,
  before: Passed,
  question: Question,
  services: readonly MeantService[],
  scene: Scene,
): Story {
  const owner = scene.ownersOf('virtualServer', listenerKey(server.listener))[0];
  const meant =
    services.find(({ service }) => refText({ kind: 'Service', key: keyOf(service.meta) }) === owner) ?? winnerOf(services);
  const head = virtualServerStep(server, meant, server.listener.by === 'mark', scene);
  const told = ways.map(way => toldWay(way, question, scene));
  const list = endpointsStep(meant, told, question, scene);
  const steps = [...before.steps, head, ...(list === undefined ? [] : [list]), ...fullWays(told)];
  const judgements = [...before.judgements, ...told.flatMap(way => way.judgements)];
  const endpoints = told.map(({ answer }) => answer);
  const asked = services[0];
  if (asked !== undefined && meant !== undefined && asked.service !== meant.service && question.destination.who === 'service') {
    const name = keyOf(meant.service.meta);
    const reason = `Service ${name}, which is older, has ${transportText(question.transport)} at ${question.destination.address}; Service ${keyOf(asked.service.meta)} does not get it`;
    return { steps, judgements, endpoints, verdict: { outcome: 'lost', reason } };
  }
  const verdict = ways.length === 0 ? noEndpointVerdict(meant, question.destination.address, scene) : together(endpoints, scene);
  return { steps, judgements, endpoints, verdict };
}

function toldWay(way: Way, question: Question, scene: Scene): ToldWay {
  const { destination, port, source, stopped, passages } = way;
  const { address } = destination;
  const before = passed(passages, scene);
  const steps: Step[] = [...before.steps];
  const judgements = [...before.judgements];
  const end = (verdict: Verdict): ToldWay => ({ answer: { address, port, source, verdict }, steps, judgements });
  if (destination.forwarding !== 'masquerade')
    steps.push({
      what: `direct server return: sent to ${scene.objects.title(address)} in a tunnel, unchanged; it answers the client itself`,
      state: 'ok',
    });
  if (stopped !== undefined)
    return end(denialIn(passages.at(-1), scene) ?? { outcome: stopped, reason: `on its way to ${address}` });
  const client = passages[0]?.packet.source ?? source;
  if (address === client && source !== client)
    steps.push({
      what: `hairpin: ${scene.objects.title(address)} reaches itself, and sees ${source} as the client`,
      state: 'ok',
    });
  const carriage = carriageTo(address, client, scene);
  steps.push(carriage.step);
  if (carriage.stopped !== undefined) return end(carriage.stopped);
  const expected = expectation('ingress', asItArrives(way, question, scene), scene);
  if (expected !== undefined) {
    steps.push(expected.step);
    judgements.push(expected.judgement);
    if (expected.denied !== undefined) return end(expected.denied);
  }
  return end({ outcome: 'allowed', reason: `${scene.objects.title(address)} sees ${scene.objects.title(source)}` });
}

/** By tunnel the endpoint's node judges what is around the client's packet, which comes from this node. */
function asItArrives({ destination, source, passages }: Way, question: Question, scene: Scene): JudgedPacket {
  const { address } = destination;
  if (destination.forwarding !== 'masquerade')
    return { source: scene.primary(familyOf(address)), destination: address, transport: { protocol: 'IPIP' } };
  const last = passages.at(-1)?.packet;
  return { source, destination: address, transport: last === undefined ? question.transport : bareTransport(last) };
}

/** One way of each kind of end in full, and not too many. */
function fullWays(ways: readonly ToldWay[]): readonly Step[] {
  const seen = new Set<string>();
  const chosen = ways.filter(({ answer, steps }) => {
    const kind = `${answer.verdict.outcome} ${steps.map(({ what }) => what.split(':')[0]?.replace(/\S+\/\S+/, '')).join()}`;
    if (seen.has(kind) || seen.size >= TOLD_IN_FULL) return false;
    seen.add(kind);
    return true;
  });
  return chosen.flatMap(({ answer, steps }) =>
    ways.length === 1
      ? steps
      : steps.map(step => ({ ...step, what: `to ${withPort(answer.address, answer.port)}: ${step.what}` })),
  );
}

const MOST_ENDPOINTS = 8;

function endpointsStep(
  meant: MeantService | undefined,
  ways: readonly ToldWay[],
  question: Question,
  scene: Scene,
): Step | undefined {
  if (meant === undefined) return undefined;
  const answers = new Map(ways.map(({ answer }) => [answer.address, answer]));
  const known = endpointsOf(meant, question.destination.address, scene);
  const lines = known.map(({ endpoint, port }) => {
    const answer = answers.get(endpoint.address);
    const place =
      endpoint.nodeName === scene.snapshot.node.name ? 'on this node' : endpoint.nodeName === '' ? '' : `on ${endpoint.nodeName}`;
    const pod = scene.objects.podAt(endpoint.address);
    const who = [withPort(endpoint.address, port), ...(pod === undefined ? [] : [`Pod ${keyOf(pod.meta)}`])].join(' ');
    const fate = answer === undefined ? 'gets nothing of this client' : answer.verdict.outcome;
    return `${[who, conditionText(endpoint), place].filter(text => text !== '').join(', ')}: ${fate}`;
  });
  const shown =
    lines.length <= MOST_ENDPOINTS ? lines : [...lines.slice(0, MOST_ENDPOINTS), `... ${lines.length - MOST_ENDPOINTS} more`];
  return {
    what: `endpoints of Service ${keyOf(meant.service.meta)}: ${ways.length} of ${known.length} may get it`,
    note: shown.join('\n'),
    state: ways.length === 0 ? 'stops' : 'ok',
  };
}

/** All alike, or in part. */
function together(answers: readonly EndpointAnswer[], scene: Scene): Verdict {
  const [first] = answers;
  const good = answers.filter(({ verdict }) => verdict.outcome === 'allowed');
  const bad = answers.find(({ verdict }) => verdict.outcome !== 'allowed');
  if (first === undefined) return { outcome: 'refused', reason: 'there is no endpoint' };
  if (bad === undefined) {
    const where = answers.slice(0, 3).map(({ address, port }) => nameWithPort(address, port, scene));
    const more = answers.length > 3 ? ` and ${answers.length - 3} more` : '';
    const sources = [...new Set(answers.map(({ source }) => source))].map(source => scene.objects.title(source)).join(' or ');
    return {
      outcome: 'allowed',
      reason: `to ${where.join(', ')}${more}, which ${answers.length === 1 ? 'sees' : 'see'} ${sources}`,
    };
  }
  if (good.length === 0) return bad.verdict;
  return {
    outcome: 'partly',
    reason: `${good.length} of ${answers.length} endpoints answer; ${nameWithPort(bad.address, bad.port, scene)}: ${summaryOf(bad.verdict)}`,
  };
}

function nameWithPort(address: IpAddress, port: number, { objects }: Scene): string {
  const pod = objects.podAt(address);
  return pod === undefined ? withPort(address, port) : `${keyOf(pod.meta)} (${withPort(address, port)})`;
}
