/**
 * What happens to a packet, step by step with the kernel entries and the objects behind them. A node knows all objects of the cluster, and only its
 * own kernel: what is decided here is traced through the entries that are believed to be in force; what another node decides is read off the objects
 * and said to be expected.
 */
import { keyOf } from '../cluster/kinds.ts';
import type { IpAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import { LOCAL_TABLE } from '../reconcile/tables.ts';
import { announcementOf } from './announcement.ts';
import type { Explanation, Step, Verdict } from './explanation.ts';
import { summaryOf } from './explanation.ts';
import type { Fate } from './packet-path.ts';
import { expectation } from './policy-steps.ts';
import { type End, type Question, title, transportText } from './question.ts';
import { nodeLink, POD_BRIDGE } from './routes.ts';
import { deviationStep, refText, Scene, type View } from './scene.ts';
import { endpointsOf, type MeantService, meantServices } from './service-steps.ts';
import { type Story, storyOf } from './story.ts';
import { type TracedPacket, tracedPacket } from './traced-packet.ts';
import { viewedKernel } from './viewed-kernel.ts';

export type { View } from './scene.ts';

export function explain(question: Question, view: View): Explanation {
  const scene = new Scene(view);
  const services = meantServices(question, scene);
  const from = scene.objects.placeOf(question.source.address);
  const begin = beginStep(question, services, scene);
  const story = from.at === 'node' ? fromElsewhere(question, services, from.node, scene) : fromHere(question, services, scene);
  const { verdict } = story;
  return {
    verdict,
    summary: summaryOf(verdict),
    steps: [begin, ...story.steps, ...complaints(question, services, scene)],
    endpoints: story.endpoints,
    judgements: story.judgements,
  };
}

function beginStep({ source, destination, transport }: Question, services: readonly MeantService[], scene: Scene): Step {
  const { objects, snapshot } = scene;
  const place = objects.placeOf(source.address);
  const where =
    place.at === 'here'
      ? 'on this node'
      : place.at === 'node'
        ? `on ${place.node}`
        : 'outside the cluster, taken to arrive at this node';
  const at = `${endText(source, scene)} (${where}) to ${targetText(destination, services, scene)}, ${transportText(transport)}`;
  return { what: `${at}, as ${snapshot.node.name} sees it`, state: 'ok' };
}

function targetText(destination: End, [asked]: readonly MeantService[], scene: Scene): string {
  if (asked === undefined) return endText(destination, scene);
  const { service, through } = asked;
  return `${destination.address}, ${through === 'nodePort' ? `node port of` : `${through} of`} Service ${keyOf(service.meta)}`;
}

function endText(end: End, { objects }: Scene): string {
  return end.who === 'address' ? objects.title(end.address) : `${title(end)} at ${end.address}`;
}

/** Of this node and its pods, and what comes from outside. */
function fromHere(question: Question, services: readonly MeantService[], scene: Scene): Story {
  const story = traced(question, services, scene);
  const meant = services.find(({ port }) => port !== undefined) ?? services[0];
  const isOutside = scene.objects.placeOf(question.source.address).at === 'outside';
  const announcement = isOutside && meant !== undefined ? announcementOf(question.destination.address, meant, scene) : undefined;
  if (announcement === undefined) return story;
  const { step, withdrawn } = announcement;
  if (withdrawn === undefined) return { ...story, steps: [step, ...story.steps] };
  const meanwhile: Step = { what: `what comes here all the same is ${summaryOf(story.verdict)}`, state: 'ok' };
  return { ...story, steps: [step, ...story.steps, meanwhile], verdict: withdrawn };
}

/** Through the kernel as it is; what would be otherwise if it were as wanted is named. */
function traced(question: Question, services: readonly MeantService[], scene: Scene): Story {
  const actual = fateOf(question, scene, 'actual');
  const wanted = fateOf(question, scene, 'wanted');
  const deviations = scene.deviations();
  const story = honest(storyOf(actual, question, services, scene), actual);
  const steps = [...story.steps, ...deviations.map(deviationStep)];
  if (signature(actual) === signature(wanted)) return { ...story, steps };
  const culprit = deviations.find(({ entry }) => entry.failure !== undefined) ?? deviations[0];
  if (culprit === undefined) return { ...story, steps };
  const { entry, table } = culprit;
  const of = entry.owners.length === 0 ? '' : ` of ${entry.owners.map(refText).join(', ')}`;
  const how =
    entry.failure === undefined
      ? 'is not in the kernel as wanted yet'
      : `is not in the kernel as wanted: ${entry.failure.error.message}`;
  const verdict: Verdict = {
    outcome: entry.failure === undefined ? 'pending' : 'failing',
    reason: `${table} ${entry.key}${of} ${how}; until then ${summaryOf(story.verdict)}`,
  };
  return { ...story, steps, verdict };
}

/** A rule that is not known was passed over: it may decide otherwise. */
function honest(story: Story, fate: Fate): Story {
  const passages = [...fate.passages, ...(fate.kind === 'balanced' ? fate.ways.flatMap(way => way.passages) : [])];
  if (!passages.some(({ met }) => met.some(({ rule }) => rule.target.kind === 'unknown'))) return story;
  const { outcome, reason } = story.verdict;
  return { ...story, verdict: { outcome, reason: `${reason}; unless a rule decides otherwise that is not known here` } };
}

function fateOf(question: Question, scene: Scene, side: 'actual' | 'wanted'): Fate {
  const { source, destination, transport } = question;
  const kernel = viewedKernel(scene.tables, scene.snapshot.host, side, scene.asked);
  const path = scene.path(side);
  const isOfHost = kernel.isLocal(source.address);
  const packet: TracedPacket = {
    ...tracedPacket(source.address, destination.address, transport),
    inLink: isOfHost ? '' : scene.objects.isOfOwnPods(source.address) ? POD_BRIDGE : nodeLink(scene.snapshot),
  };
  if (!isOfHost) return path.arrive(packet);
  const own = kernel.isLocal(destination.address) ? sourceTowards(destination.address, scene) : source.address;
  return path.leave(tracedPacket(own, destination.address, transport));
}

/** To an address of its own the host connects from that very address, unless the route says otherwise. */
function sourceTowards(address: IpAddress, { tables }: Scene): IpAddress {
  return tables.entry('route', `${LOCAL_TABLE} ${hostPrefix(address)}`)?.actual?.source ?? address;
}

/** What matters of a fate: where it ends, and who is seen there. */
function signature(fate: Fate): string {
  switch (fate.kind) {
    case 'stopped':
      return fate.how;
    case 'delivered':
      return fate.kind;
    case 'sent':
      return `sent ${fate.source}`;
    case 'balanced': {
      const ways = fate.ways.map(
        ({ destination, port, source, stopped }) => `${destination.address} ${port} ${source} ${stopped ?? ''}`,
      );
      return ways.sort().join();
    }
  }
}

/** The kernel of the source's node decides first; what comes here is traced. */
function fromElsewhere(question: Question, services: readonly MeantService[], node: string, scene: Scene): Story {
  const { source, destination, transport } = question;
  const place = scene.objects.placeOf(destination.address);
  const isNodePort = services.some(({ through }) => through === 'nodePort');
  const isVirtual = services.length > 0 && !isNodePort;
  const egress =
    isVirtual || isNodePort
      ? undefined
      : expectation('egress', { source: source.address, destination: destination.address, transport }, scene);
  const first = egress === undefined ? [] : [egress.step];
  const judgements = egress === undefined ? [] : [egress.judgement];
  if (!isVirtual && place.at === 'here') {
    const story = traced(question, services, scene);
    const verdict = egress?.denied ?? story.verdict;
    return { ...story, steps: [...first, ...story.steps], judgements: [...judgements, ...story.judgements], verdict };
  }
  if (isVirtual) return balancedElsewhere(question, services, node, scene);
  const ingress = expectation('ingress', { source: source.address, destination: destination.address, transport }, scene);
  const expected = egress?.denied ?? ingress?.denied;
  return {
    steps: [...first, ...(ingress === undefined ? [] : [ingress.step])],
    judgements: [...judgements, ...(ingress === undefined ? [] : [ingress.judgement])],
    endpoints: [],
    verdict: elsewhere(node, expected),
  };
}

/** By the node that the client is on; of its choice only the ready endpoints are known here, and of those on this node what meets the packet. */
function balancedElsewhere(question: Question, services: readonly MeantService[], node: string, scene: Scene): Story {
  const { source, destination } = question;
  const meant = services.find(({ port }) => port !== undefined);
  const ready =
    meant === undefined ? [] : endpointsOf(meant, destination.address, scene).filter(({ endpoint }) => endpoint.ready);
  const stories = ready.slice(0, MOST_TRACED).map(({ endpoint, port }): Story => {
    const protocol = meant?.port?.protocol ?? 'TCP';
    const straight: Question = {
      source,
      destination: { who: 'address', name: endpoint.address, address: endpoint.address },
      transport: { protocol, port },
    };
    return fromElsewhere(straight, [], node, scene);
  });
  const balancing: Step = {
    what: `${node} balances it: ${ready.length} ready endpoints are known`,
    note: 'which of them it chooses, and whose address they see, its own kernel decides',
    state: 'expected',
  };
  const denied = stories.map(({ verdict }) => verdict).find(({ outcome }) => outcome === 'denied');
  const none: Verdict | undefined =
    ready.length === 0 ? { outcome: 'refused', reason: 'no endpoint is known to be ready' } : undefined;
  return {
    steps: [
      balancing,
      ...stories.flatMap(({ steps }, index) =>
        steps.map(step => ({ ...step, what: `to ${ready[index]?.endpoint.address ?? ''}: ${step.what}` })),
      ),
    ],
    judgements: stories.flatMap(({ judgements }) => judgements),
    endpoints: [],
    verdict: elsewhere(node, none ?? denied),
  };
}

/** Endpoints that are followed one by one where another node balances. */
const MOST_TRACED = 3;

function elsewhere(node: string, expected: Verdict | undefined): Verdict {
  const outlook = expected === undefined ? 'allowed' : summaryOf(expected);
  return { outcome: 'elsewhere', reason: `on ${node}: run it there; read off the objects, expected: ${outlook}` };
}

/** Of the objects that are involved. */
function complaints({ source, destination }: Question, services: readonly MeantService[], scene: Scene): readonly Step[] {
  const involved = new Set(services.map(({ service }) => `Service ${keyOf(service.meta)}`));
  for (const { address } of [source, destination]) {
    const pod = scene.objects.podAt(address);
    if (pod !== undefined) {
      involved.add(`Pod ${keyOf(pod.meta)}`);
      for (const [key, policy] of scene.snapshot.networkPolicies)
        if (policy.meta.namespace === pod.meta.namespace) involved.add(`NetworkPolicy ${key}`);
    }
    const place = scene.objects.placeOf(address);
    if (place.at === 'node') involved.add(`Node ${place.node}`);
  }
  return scene.diagnostics
    .filter(({ object }) => involved.has(refText(object)))
    .map(({ code, object, message }): Step => ({ what: `${code}: ${message}`, objects: [refText(object)], state: 'warning' }));
}
