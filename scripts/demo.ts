/**
 * `npm run demo`: three daemons on three nodes tell each other of their pods by BGP and a router of Services, balance real connections to real pods
 * through kernel IPVS, follow an endpoint that changes, enforce network policies and follow a pod that is relabelled, and leave nothing behind. Prints what it does and what it sees; any expectation that fails ends it with status 1.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { type LabHost, type LabNode, routerOn } from '../test/lab/addresses.ts';
import { FAIRWAY, Fleet, footprint } from '../test/lab/fleet.ts';
import { Lab } from '../test/lab/lab.ts';
import { BirdPeer } from '../test/lab/peers/bird.ts';
import { machineNow } from '../test/lab/place.ts';
import { prepareLab } from '../test/lab/prepare.ts';
import { type Reply, type Transport, tally } from '../test/lab/probe.ts';
import { until } from '../test/lab/until.ts';

const ROOT = join(import.meta.dirname, '..');
const SHOP = readFileSync(join(ROOT, 'examples', 'shop.yaml'), 'utf8');
const POLICY = readFileSync(join(ROOT, 'examples', 'shop-policy.yaml'), 'utf8');
const FLAGS = [
  '--enable-ipv6',
  '--service-external-ip-range=203.0.113.0/28',
  '--loadbalancer-ip-range=203.0.113.16/28',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
];
/** The lab's router, a BGP neighbour of every node on the node's own LAN. */
const ROUTER_ASN = 65_000;
const ROUTING_FLAGS = ['--advertise-external-ip', '--advertise-loadbalancer-ip'];
const CONNECTIONS = 30;
/** Of a long answer, the beginning. */
const WHY_LINES = 14;

const TOPOLOGY = `
   pod-1-1 pod-1-2      pod-2-1 pod-2-2           pod-3-1 pod-3-2
   10.244.1.11  .12     10.244.2.11  .12          10.244.3.11  .12
        |  kube-bridge       |  kube-bridge            |  kube-bridge
      node1                node2                     node3
      192.168.1.11         192.168.1.12              192.168.3.13
        +------- lan1 --------+------ router ------ lan3 --+
                                        |
                                       ext  10.10.1.200, outside the cluster        (IPv6 everywhere beside it)
`;

let failures = 0;

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function title(text: string): void {
  say(`\n${styleText('bold', `== ${text}`)}`);
}

function expect(isTrue: boolean, text: string): void {
  if (!isTrue) failures++;
  say(`   ${isTrue ? styleText('green', 'ok') : styleText('red', 'FAILED')} ${text}`);
}

/** Fresh connections one after the other, and how they spread. */
async function connections(
  lab: Lab,
  from: LabHost,
  transport: Transport,
  address: string,
  port: number,
): Promise<readonly Reply[]> {
  const replies = await lab.probe(from).burst({ transport, address, port }, CONNECTIONS);
  const spread = [...tally(replies)].sort().map(([server, count]) => `${server} ${count}`);
  const sources = new Set(replies.flatMap(reply => (reply.outcome === 'answer' ? [reply.peer] : [])));
  say(
    `   ${from.name} -> ${transport} ${address} port ${port}: ${spread.join(', ')}${sources.size === 0 ? '' : `; source seen: ${[...sources].join(' ')}`}`,
  );
  return replies;
}

/** True where exactly these servers answered, every time. */
function answeredBy(replies: readonly Reply[], ...servers: readonly string[]): boolean {
  return [...tally(replies).keys()].sort().join() === [...servers].sort().join();
}

/** The routes of a node that BGP gave, and what they lead through. */
async function showRouting(lab: Lab, bird: BirdPeer): Promise<void> {
  title('Pods of three nodes reach each other: BGP between nodes, a tunnel where there is a router between');
  const begin = performance.now();
  const pairs = [
    [lab.pod(1, 1), lab.pod(2, 1)],
    [lab.pod(1, 1), lab.pod(3, 1)],
    [lab.pod(3, 2), lab.pod(1, 1)],
  ] as const;
  // The router has the pod CIDRs by BGP too, so that pods meet over it before the nodes know of each other.
  await until(
    'node1 leads to the pods of node3 by a tunnel',
    async () => (await lab.run(lab.node(1), ['ip', 'route', 'show', lab.node(3).podCidrs.ipv4])).stdout,
    route => route.includes(' dev tun-'),
    60_000,
  );
  for (const [from, to] of pairs) await awaited(lab, from, to.addresses.ipv4, 8080, new RegExp(`web@${to.name}`), 60_000);
  const waited = Math.round((performance.now() - begin) / 100) / 10;
  say(`   every pair meets${waited > 0 ? `, ${waited} s later` : ''}`);
  for (const [from, to] of pairs) {
    for (const family of ['ipv4', 'ipv6'] as const) {
      const reply = await lab.probe(from).connect({ transport: 'tcp', address: to.addresses[family], port: 8080 });
      const isRight = reply.outcome === 'answer' && reply.server === `web@${to.name}` && reply.peer === from.addresses[family];
      expect(isRight, `${from.name} -> ${to.name} over ${family}: ${reply.outcome}, with the address of the pod itself`);
    }
  }
  const out = await lab.probe(lab.pod(1, 1)).connect({ transport: 'tcp', address: lab.ext.addresses.ipv4, port: 8080 });
  expect(
    out.outcome === 'answer' && out.peer === lab.node(1).addresses.ipv4,
    'a pod to a host outside the cluster: with the address of its node',
  );
  for (const command of [
    ['ip', 'route', 'show', 'proto', '70'],
    ['ip', 'route', 'show', 'table', '77'],
  ])
    for (const line of (await lab.expectRun(lab.node(1), command)).trim().split('\n')) say(`     node1: ${line}`);

  title('The router (BIRD, AS 65000) learns the addresses of Services from all three nodes');
  const paths = (await bird.paths('ipv4')).filter(({ prefix }) => prefix === '203.0.113.10/32');
  for (const { prefix, nextHop, asPath } of paths) say(`     ${prefix} via ${nextHop}, AS path ${asPath.join(' ')}`);
  expect(paths.length === lab.nodes.length, '203.0.113.10, an external IP: three paths, one over each node');
}

/** Waits until the router has heard of a Service address from every node. */
async function routerKnows(lab: Lab, bird: BirdPeer, prefix: string): Promise<void> {
  await until(
    `the router knows ${prefix} from every node`,
    async () => (await bird.paths('ipv4')).filter(path => path.prefix === prefix),
    found => found.length === lab.nodes.length,
    60_000,
  );
}

async function showServices(lab: Lab): Promise<void> {
  title('Each node balances by itself: kernel IPVS, excerpt of `ipvsadm -Ln`');
  for (const node of lab.nodes) {
    const table = await lab.expectRun(node, ['ipvsadm', '-Ln']);
    const lines = table.split('\n').slice(3);
    const start = lines.findIndex(line => line.includes('10.96.0.10:80'));
    const rest = lines.slice(start + 1);
    const end = rest.findIndex(line => /^(TCP|UDP|SCTP)/.test(line));
    say(`   ${node.name} (${lines.filter(line => /^(TCP|UDP|SCTP)/.test(line)).length} virtual services)`);
    for (const line of [lines[start] ?? '', ...rest.slice(0, end < 0 ? 4 : end)]) say(`     ${line}`);
  }
}

async function showTraffic(lab: Lab): Promise<void> {
  title(`${CONNECTIONS} connections to each kind of address`);
  const [pod, ext, node1] = [lab.pod(1, 2), lab.ext, lab.node(1)];
  const web = ['web@pod-1-1', 'web@pod-2-1', 'web@pod-3-1'];
  expect(answeredBy(await connections(lab, pod, 'tcp', '10.96.0.10', 80), ...web), 'cluster IP, from a pod: all three endpoints');
  expect(answeredBy(await connections(lab, pod, 'tcp', 'fd00:10:96::10', 80), ...web), 'the same over IPv6');
  expect(answeredBy(await connections(lab, node1, 'tcp', '10.96.0.10', 80), ...web), 'cluster IP, from the node itself');
  expect(
    answeredBy(await connections(lab, lab.pod(1, 1), 'tcp', '10.96.0.10', 80), ...web),
    'an endpoint reaches its own Service, itself included',
  );
  expect(answeredBy(await connections(lab, pod, 'udp', '10.96.0.53', 53), 'dns@pod-1-2', 'dns@pod-2-2'), 'UDP');
  expect(
    (await connections(lab, pod, 'tcp', '10.96.0.30', 80)).every(isAnswer) &&
      sticks(await connections(lab, pod, 'tcp', '10.96.0.30', 80)),
    'session affinity: one endpoint for one client',
  );
  expect(answeredBy(await connections(lab, ext, 'tcp', lab.node(2).addresses.ipv4, 30080), ...web), 'node port, from outside');
  expect(
    answeredBy(await connections(lab, ext, 'tcp', '203.0.113.10', 80), ...web),
    'external IP, from outside, by the routes the router learned',
  );
  expect(answeredBy(await connections(lab, ext, 'tcp', '203.0.113.20', 80), ...web), 'load-balancer IP, from outside');
  const local = await connections(lab, ext, 'tcp', node1.addresses.ipv4, 30090);
  expect(
    local.every(reply => reply.outcome === 'answer' && reply.server === 'web@pod-1-1' && reply.peer === ext.addresses.ipv4),
    "traffic policy Local: the pod on this node, and it sees the client's own address",
  );
  const closed = await connections(lab, pod, 'tcp', '10.96.0.99', 80);
  expect(
    closed.every(({ outcome }) => outcome === 'refused'),
    'a Service without endpoints refuses at once, every time',
  );
  const [ssh] = await lab.probe(ext).burst({ transport: 'tcp', address: '203.0.113.20', port: 22 }, 1);
  expect(ssh?.outcome === 'refused', `a Service address answers for nothing else of the node (port 22: ${ssh?.outcome})`);
}

function isAnswer(reply: Reply): boolean {
  return reply.outcome === 'answer';
}

function sticks(replies: readonly Reply[]): boolean {
  return tally(replies).size === 1;
}

async function showChange(lab: Lab, fleet: Fleet): Promise<void> {
  title('An endpoint goes: pod-3-1 is taken out of Service web');
  const without = SHOP.replaceAll(/^ {2}- \{ addresses: \[(10\.244\.3\.11|'fd00:10:244:3::11')\].*\n/gm, '');
  const begin = performance.now();
  await fleet.apply({ 'shop.yaml': without });
  const applied = await Promise.all(
    lab.nodes.map(async node => {
      await fleet.daemon(node).waitForLine(/virtualServer changed created=0 updated=[1-9]/, 10_000);
      return performance.now() - begin;
    }),
  );
  const replies = await connections(lab, lab.pod(1, 2), 'tcp', '10.96.0.10', 80);
  const total = performance.now() - begin;
  expect(answeredBy(replies, 'web@pod-1-1', 'web@pod-2-1'), 'traffic follows: no connection goes to pod-3-1 any more');
  say(
    `   file written -> IPVS changed on all three nodes: ${Math.round(Math.max(...applied))} ms; and ${CONNECTIONS} more connections made after ${Math.round(total)} ms`,
  );
}

/** How a fresh connection ends: the server's name, `refused` ... */
async function outcomeOf(lab: Lab, from: LabHost, address: string, port: number): Promise<string> {
  const reply = await lab.probe(from).connect({ transport: 'tcp', address, port });
  return reply.outcome === 'answer' ? reply.server : reply.outcome;
}

/** Asks again until it ends as wanted. */
async function awaited(lab: Lab, from: LabHost, address: string, port: number, wanted: RegExp, limitMs = 10_000): Promise<void> {
  const begin = performance.now();
  while (!wanted.test(await outcomeOf(lab, from, address, port))) {
    if (performance.now() - begin > limitMs) throw new Error(`${from.name} -> ${address}:${port} never ended as ${wanted}`);
  }
}

async function showPolicy(lab: Lab, fleet: Fleet): Promise<void> {
  title('Network policy: examples/shop-policy.yaml opens the web pods to pods labelled role: front, and to no one else');
  const [front, other] = [lab.pod(1, 2), lab.pod(2, 2)];
  const pods = [lab.pod(1, 1), lab.pod(2, 1)];
  await fleet.apply({ 'shop-policy.yaml': POLICY });
  for (const pod of pods) await awaited(lab, other, pod.addresses.ipv4, 8080, /refused/);
  const ask = async (from: LabHost, address: string, port: number, wanted: RegExp, text: string): Promise<void> => {
    const outcome = await outcomeOf(lab, from, address, port);
    expect(wanted.test(outcome), `${from.name} -> ${address} port ${port}: ${outcome}: ${text}`);
  };
  for (const pod of pods) {
    await ask(front, pod.addresses.ipv4, 8080, /^web@/, 'the front end, to the pod itself');
    await ask(front, pod.addresses.ipv6, 8080, /^web@/, 'over IPv6');
    await ask(other, pod.addresses.ipv4, 8080, /refused/, 'another pod is refused at once');
  }
  await ask(front, '10.96.0.10', 80, /^web@/, 'the front end through the Service');
  await ask(other, '10.96.0.10', 80, /refused/, 'another pod through the Service: judged behind IPVS, by its own address');
  await ask(lab.ext, lab.node(1).addresses.ipv4, 30080, /refused/, 'an outside host by the node port');
  await ask(lab.node(1), lab.pod(1, 1).addresses.ipv4, 8080, /^web@/, 'a node always reaches its own pods');
  const saved = await lab.expectRun(lab.node(1), ['iptables-save', '-t', 'filter']);
  const chain = /^-A (FAIRWAY-PI-\S+) /m.exec(saved)?.[1] ?? '';
  for (const line of saved.split('\n').filter(text => text.includes(chain) && text.startsWith('-A'))) say(`     ${line}`);

  await showWhy(lab, /^denied by NetworkPolicy .*shop\/web: no ingress rule/, 'the daemon of node2 says why');

  title('A pod is relabelled: pod-2-2 becomes a front end');
  const begin = performance.now();
  await fleet.apply({ 'shop-policy.yaml': POLICY.replace('role: other', 'role: front') });
  await Promise.all(pods.map(async pod => await awaited(lab, other, pod.addresses.ipv4, 8080, /^web@/)));
  const took = performance.now() - begin;
  expect(true, `traffic follows: file written -> first connection on both nodes ${Math.round(took)} ms later`);
  await ask(other, '10.96.0.10', 80, /^web@/, 'through the Service as well');
  await showWhy(lab, /^allowed/, 'and the daemon says that, too');
}

/** What the daemon says of pod-2-2, by its name in the cluster, and the Service. */
async function showWhy(lab: Lab, verdict: RegExp, text: string): Promise<void> {
  const words = ['why', 'shop/other-2', 'svc/shop/web', '80'];
  const { stdout } = await lab.run(lab.node(2), [...FAIRWAY, ...words, '--hostname-override=node2']);
  const lines = stdout.trim().split('\n');
  say(`   $ fairway ${words.join(' ')}`);
  for (const line of lines.slice(0, WHY_LINES)) say(`     ${line}`);
  if (lines.length > WHY_LINES) say(`     ... ${lines.length - WHY_LINES} lines more`);
  expect(verdict.test(stdout), text);
}

async function showStatus(lab: Lab): Promise<void> {
  title('What the daemon of node1 says of itself');
  const { stdout, status } = await lab.run(lab.node(1), [...FAIRWAY, 'status', '--hostname-override=node1']);
  for (const line of stdout.trimEnd().split('\n')) say(`     ${line}`);
  expect(status === 0, 'every module works as it should');
}

function peerFlags(node: LabNode): readonly string[] {
  return [`--peer-router-ips=${routerOn(node.lan).ipv4}`, `--peer-router-asns=${ROUTER_ASN}`];
}

async function main(): Promise<void> {
  const begin = performance.now();
  title('Building');
  execFileSync(process.execPath, [join(ROOT, 'scripts', 'build.ts')], { stdio: 'inherit' });

  const unavailable = await prepareLab(machineNow(), line => {
    say(`   ${line}`);
  });
  if (unavailable !== '') throw new Error(unavailable);
  title('Three nodes in two subnets, a router, pods, a host outside');
  const lab = await Lab.start({ podRoutes: 'none' });
  try {
    say(`   ${lab.description}`);
    say(TOPOLOGY);
    for (const node of lab.nodes) {
      const [first, second] = node.pods;
      if (first === undefined || second === undefined) throw new Error('the demo needs two pods a node');
      await lab.probe(first).serve('tcp', '0.0.0.0', 8080, `web@${first.name}`);
      await lab.probe(first).serve('tcp', '::', 8080, `web@${first.name}`);
      await lab.probe(second).serve('udp', second.addresses.ipv4, 5353, `dns@${second.name}`);
    }
    await lab.probe(lab.ext).serve('tcp', lab.ext.addresses.ipv4, 8080, 'outside');
    const before = new Map(await Promise.all(lab.nodes.map(async node => [node.name, await footprint(lab, node)] as const)));

    title('One daemon on each node, fed from examples/shop.yaml');
    const fleet = new Fleet(lab, { runs: ['service-proxy', 'firewall', 'router'], flags: [...FLAGS, ...ROUTING_FLAGS] });
    const bird = await BirdPeer.start(lab, {
      host: lab.router,
      asn: ROUTER_ASN,
      neighbors: lab.nodes.map(node => ({ address: node.addresses.ipv4 })),
    });
    const starting = performance.now();
    await fleet.apply({ 'shop.yaml': SHOP });
    for (const node of lab.nodes) fleet.startOn(node, { flags: peerFlags(node) });
    await Promise.all(lab.nodes.map(node => fleet.daemon(node).waitForLine(/ready: the first round is in/, 120_000)));
    say(`   all three ready after ${Math.round(performance.now() - starting)} ms`);
    await routerKnows(lab, bird, '203.0.113.10/32');
    await showRouting(lab, bird);
    await showServices(lab);
    await showTraffic(lab);
    await showChange(lab, fleet);
    await showPolicy(lab, fleet);
    await showStatus(lab);

    title('Cleanup');
    await fleet.stop();
    const [still] = await lab.probe(lab.pod(1, 2)).burst({ transport: 'tcp', address: '10.96.0.10', port: 80 }, 1);
    expect(still?.outcome === 'answer', 'a daemon that stops leaves the data path in place');
    for (const [node, printed] of await fleet.cleanup()) say(`   ${node}: ${printed.trim().replaceAll('\n', ', ')}`);
    for (const node of lab.nodes) {
      const after = await footprint(lab, node);
      expect(after === before.get(node.name), `${node.name}: iptables-save, ipset list, ip addr and ipvsadm -Sn are as before`);
      if (after !== before.get(node.name)) say(`before:\n${before.get(node.name)}after:\n${after}`);
    }
  } finally {
    await lab.close();
  }
  title(
    failures === 0
      ? `All as it should be, in ${Math.round((performance.now() - begin) / 1000)} s`
      : `${failures} expectations FAILED`,
  );
}

await main();
process.exitCode = failures === 0 ? 0 : 1;
