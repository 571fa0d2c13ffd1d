// Runs as root inside a kernel with IPVS that holds no virtual services of its own: in the lab's guest.
// Address plan: client 10.0.0.2, service 10.96.0.10, pods 10.244.1.0/24.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { forgettingFlows } from '../../daemon/kernel/ipvs-flows.ts';
import { ipvsDriver } from '../../daemon/kernel/ipvsadm.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { procLines } from '../../daemon/kernel/text-lines.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { listenerKey, type VirtualServer } from '../../daemon/reconcile/tables.ts';
import { makeNode, PODS, Program, removeNode, run, VIP } from './ipvs-node.ts';

const never = new AbortController().signal;
const clock = systemClock();
const runner = processRunner({ environment: process.env, clock });
type PodName = keyof typeof PODS;

const dns = (...pods: readonly PodName[]): VirtualServer => ({
  listener: { by: 'address', protocol: 'UDP', address: VIP, port: 53 },
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations: pods.map(name => ({ address: PODS[name], port: 8053, weight: 1, forwarding: 'masquerade' })),
});
const KEY = listenerKey(dns().listener);
const create = (to: VirtualServer): Change<VirtualServer> => ({ op: 'create', key: KEY, to });
const update = (from: VirtualServer, to: VirtualServer): Change<VirtualServer> => ({ op: 'update', key: KEY, from, to });
const remove = (from: VirtualServer): Change<VirtualServer> => ({ op: 'delete', key: KEY, from });

/** Answers each datagram with its name in front. */
const serverOf = (name: PodName): string => `
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (text, from) => socket.send('${name} ' + text, from.port, from.address));
socket.bind(8053, () => console.log('ready'));
`;

/** Asks every 20 ms from each of two ports and every 300 ms from two others, and prints `asked PORT NUMBER TIME` and `answered PORT NUMBER POD`. */
const CLIENTS = `
console.log('ready');
for (const [port, interval] of [[1000, 20], [1001, 20], [1002, 300], [1003, 300]]) {
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', text => {
    const [pod, number] = String(text).split(' ');
    console.log('answered', port, number, pod);
  });
  socket.bind(port, () => {
    let number = 0;
    setInterval(() => {
      number++;
      console.log('asked', port, number, Date.now());
      socket.send(String(number), 53, '${VIP}');
    }, interval);
  });
}
`;

const PORTS = [1000, 1001, 1002, 1003];

interface Exchange {
  readonly askedAt: number;
  readonly answeredBy: string | undefined;
}

function exchangesOf(port: number, lines: readonly string[]): readonly Exchange[] {
  const words = lines.map(line => line.split(' ')).filter(([, each]) => each === String(port));
  const answers = new Map(words.flatMap(([verb, , number, pod]) => (verb === 'answered' ? [[number, pod] as const] : [])));
  return words.flatMap(([verb, , number, at]) =>
    verb === 'asked' ? [{ askedAt: Number(at), answeredBy: answers.get(number) }] : [],
  );
}

/** `id=17 ...` of the client's entry in conntrack. */
function entryOf(port: number): string {
  const shown = run(`conntrack -L -p udp --orig-port-src ${port} -o id`);
  return /id=\d+/.exec(shown)?.[0] ?? assert.fail(`no entry of port ${port}: ${shown}`);
}

const isAnswered = (port: number, from: number) => (lines: readonly string[]) =>
  exchangesOf(port, lines).some(({ askedAt, answeredBy }) => askedAt >= from && answeredBy !== undefined);

describe('UDP through IPVS', function () {
  this.timeout(60_000);
  const podOf = (port: number): string | undefined =>
    exchangesOf(port, clients.lines).findLast(({ answeredBy }) => answeredBy !== undefined)?.answeredBy;
  const driver = forgettingFlows({
    inner: ipvsDriver({ runner, readLines: procLines(() => clock.now()), excludedCidrs: [] }),
    runner,
    onTrouble: error => assert.fail(error?.message ?? 'trouble is over'),
  });
  const programs: Program[] = [];
  let clients: Program;

  before(async () => {
    makeNode();
    for (const name of ['pod-a', 'pod-b'] as const) programs.push(await Program.start(name, serverOf(name)));
  });

  afterEach(async () => {
    await clients.end();
    await driver.apply([remove(dns())], never);
    run('conntrack -F');
  });

  after(async () => {
    for (const program of programs) await program.end();
    removeNode();
  });

  it('meets another endpoint with the next packet after its own went; a client of the other one stays with its flow', async () => {
    const both = dns('pod-a', 'pod-b');
    assert.deepEqual(await driver.apply([create(both)], never), { failed: new Map() });
    clients = await Program.start('client', CLIENTS);
    const start = Date.now();
    for (const port of PORTS) await clients.until(isAnswered(port, start), `an answer to port ${port}`);
    const gone = podOf(1000);
    assert.notEqual(podOf(1001), gone, 'round robin');
    assert.notEqual(podOf(1003), podOf(1002), 'round robin');
    const entries = PORTS.filter(port => podOf(port) !== gone).map(port => [port, entryOf(port)] as const);
    assert.equal(entries.length, 2);

    const left = gone === 'pod-a' ? 'pod-b' : 'pod-a';
    const before = Date.now();
    assert.deepEqual(await driver.apply([update(both, dns(left))], never), { failed: new Map() });
    const after = Date.now();
    await delay(1_500);
    const end = Date.now();
    for (const port of PORTS) await clients.until(isAnswered(port, end), 'an answer after all that is looked at');
    for (const port of PORTS) {
      const stays = entries.some(([each]) => each === port);
      const exchanges = exchangesOf(port, clients.lines).filter(
        ({ askedAt }) => askedAt > (stays ? before : after) && askedAt < end,
      );
      assert.ok(exchanges.length > 2, `${exchanges.length} packets`);
      for (const { askedAt, answeredBy } of exchanges)
        assert.equal(answeredBy, left, `port ${port}, asked ${askedAt - after} ms after the change`);
    }
    for (const [port, entry] of entries) assert.equal(entryOf(port), entry, 'the same entry');
  });

  it('that went past IPVS until now meets the first endpoint with the next packet', async () => {
    clients = await Program.start('client', CLIENTS);
    await clients.until(lines => exchangesOf(1000, lines).length > 2, 'packets');
    entryOf(1000);
    assert.deepEqual(await driver.apply([create(dns('pod-a'))], never), { failed: new Map() });
    const after = Date.now();
    await delay(500);
    const end = Date.now();
    await clients.until(isAnswered(1000, end), 'an answer after all that is looked at');
    const answered = exchangesOf(1000, clients.lines).filter(({ askedAt }) => askedAt > after && askedAt < end);
    assert.ok(answered.length > 5, `${answered.length} packets`);
    for (const { answeredBy } of answered) assert.equal(answeredBy, 'pod-a');
  });
});
