// Runs as root inside a kernel with IPVS that holds no virtual services of its own: in the lab's guest.
// Address plan: client 10.0.0.2, service 10.96.0.10, pods 10.244.1.0/24.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { connectionsOf } from '../../daemon/kernel/ipvs-connections.ts';
import { DrainingIpvs } from '../../daemon/kernel/ipvs-drain.ts';
import { ipvsDriver } from '../../daemon/kernel/ipvsadm.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { procLines } from '../../daemon/kernel/text-lines.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import { listenerKey, type VirtualServer } from '../../daemon/reconcile/tables.ts';
import { ManualClock } from '../fakes/clock.ts';
import { reconcile } from '../fakes/reconcile-servers.ts';
import { makeNode, PODS, Program, removeNode, run, VIP } from './ipvs-node.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock() });
const readLines = procLines(() => performance.now());
type PodName = keyof typeof PODS;

const LOOK = 5_000;
const GRACE = 600_000;
/** Milliseconds: the kernel forgets a connection that was reset after 10 s (ip_vs_proto_tcp.c, IP_VS_TCP_S_CLOSE). */
const RESET_LIMIT = 20_000;

const web = (...pods: readonly PodName[]): VirtualServer => ({
  listener: { by: 'address', protocol: 'TCP', address: VIP, port: 80 },
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations: pods.map(name => ({ address: PODS[name], port: 8080, weight: 1, forwarding: 'masquerade' })),
});
const KEY = listenerKey(web().listener);
const keyed = (server: VirtualServer): ReadonlyMap<string, VirtualServer> => new Map([[KEY, server]]);

/** Answers each line with its name in front. */
const serverOf = (name: PodName): string => `
require('node:net').createServer(socket => {
  socket.on('error', () => undefined);
  socket.on('data', text => socket.write('${name} ' + text));
}).listen(8080, () => console.log('ready'));
`;

/** Takes \`NUMBER TEXT\`, which it sends over the connection of that number, and \`reset NUMBER\`; prints what comes back, and errors. */
const CLIENT = `
const { connect } = require('node:net');
const sockets = new Map();
require('node:readline').createInterface({ input: process.stdin }).on('line', line => {
  const [number, text] = line.split(' ');
  if (number === 'reset') {
    sockets.get(text).resetAndDestroy();
    console.log(text + ' is reset');
    return;
  }
  if (!sockets.has(number)) {
    const socket = connect(80, '${VIP}');
    sockets.set(number, socket);
    socket.on('data', answer => console.log(number + ' ' + answer));
    socket.on('error', error => console.log(number + ' ' + error.code));
  }
  sockets.get(number).write(text);
});
console.log('ready');
`;

describe('draining in IPVS', function () {
  this.timeout(60_000);
  const inner = ipvsDriver({ runner, readLines, excludedCidrs: [] });
  const servers: Program[] = [];
  let client: Program;
  let clock: ManualClock;
  let record: string | undefined;
  let driver: DrainingIpvs;
  let connections = 0;

  const startAnew = (): DrainingIpvs =>
    new DrainingIpvs({
      inner,
      clock,
      readLines,
      record: {
        read: async () => record,
        write: async text => {
          record = text;
        },
      },
      graceOf: () => GRACE,
      lingerMs: 0,
    });

  const want = (server: VirtualServer): Promise<readonly string[]> => reconcile(driver, keyed(server));

  /** What comes back over the connection of this number. */
  const ask = async (number: number, text: string): Promise<string> => {
    const from = client.lines.length;
    client.say(`${number} ${text}`);
    const isAnswer = (line: string): boolean => line.startsWith(`${number} `);
    await client.until(lines => lines.slice(from).some(isAnswer), `an answer to connection ${number}`);
    return client.lines.slice(from).find(isAnswer) ?? '';
  };

  /** The number of a new connection, which this pod answers. */
  const connectTo = async (pod: PodName): Promise<number> => {
    for (;;) {
      const number = ++connections;
      if ((await ask(number, 'hello')) === `${number} ${pod} hello`) return number;
    }
  };

  /** Lets a look come, and waits until it is over: whoever reads has to wait for it. */
  const look = async (milliseconds = LOOK): Promise<void> => {
    await clock.advance(milliseconds);
    await driver.read(new Map(), never);
  };

  const weights = (): readonly string[] =>
    [...run('ipvsadm -Sn').matchAll(/-r (\S+):8080 -m -w (\d+)/g)].map(([, address, weight]) => `${address}=${weight}`).sort();

  before(async () => {
    makeNode();
    for (const name of ['pod-a', 'pod-b'] as const) servers.push(await Program.start(name, serverOf(name)));
  });

  beforeEach(async () => {
    clock = new ManualClock();
    record = undefined;
    driver = startAnew();
    client = await Program.start('client', CLIENT);
    assert.deepEqual(await want(web('pod-a', 'pod-b')), []);
  });

  afterEach(async () => {
    driver.stop();
    await client.end();
    run('ipvsadm -C');
  });

  after(async () => {
    for (const server of servers) await server.end();
    removeNode();
  });

  it('lets a connection go on, sends new ones elsewhere, and ends when the connection is gone', async () => {
    const number = await connectTo('pod-a');
    const wanted = web('pod-b');
    assert.deepEqual(await want(wanted), []);
    assert.deepEqual(weights(), ['10.244.1.5=0', '10.244.1.6=1']);
    assert.equal((await driver.read(keyed(wanted), never)).get(KEY), wanted, 'the very object expected');
    for (let round = 0; round < 3; round++) {
      await look();
      assert.equal(await ask(number, 'still'), `${number} pod-a still`);
      const another = ++connections;
      assert.equal(await ask(another, 'new'), `${another} pod-b new`);
    }
    assert.deepEqual(weights(), ['10.244.1.5=0', '10.244.1.6=1']);

    // All that the test before this line opened to the pod must end as well.
    for (let each = 1; each <= number; each++) client.say(`reset ${each}`);
    await client.until(lines => lines.includes(`${number} is reset`), 'the reset');
    for (const end = Date.now() + RESET_LIMIT; weights().length > 1 && Date.now() < end; ) {
      await delay(500);
      await look();
    }
    assert.deepEqual(weights(), ['10.244.1.6=1']);
    assert.equal(record, '');
  });

  it('ends at its deadline with its connections, which are reset; others are not', async () => {
    const [gone, kept] = [await connectTo('pod-a'), await connectTo('pod-b')];
    assert.deepEqual(await want(web('pod-b')), []);
    await look(GRACE - 1);
    assert.deepEqual(weights(), ['10.244.1.5=0', '10.244.1.6=1']);
    assert.equal(await ask(gone, 'still'), `${gone} pod-a still`);
    await look(1);
    assert.deepEqual(weights(), ['10.244.1.6=1']);
    assert.equal(await ask(gone, 'over'), `${gone} ECONNRESET`);
    assert.equal(await ask(kept, 'still'), `${kept} pod-b still`);
  });

  it('gives its weight back to one that is wanted again, whose connection goes on', async () => {
    const number = await connectTo('pod-a');
    await want(web('pod-b'));
    await look();
    assert.deepEqual(await want(web('pod-a', 'pod-b')), []);
    assert.deepEqual(weights(), ['10.244.1.5=1', '10.244.1.6=1']);
    await look(2 * GRACE);
    assert.equal(await ask(number, 'still'), `${number} pod-a still`);
    await connectTo('pod-a');
  });

  it('goes on in the next process, with the connection and the old deadline', async () => {
    const number = await connectTo('pod-a');
    const wanted = web('pod-b');
    await want(wanted);
    await look(GRACE - LOOK);
    driver.stop();
    driver = startAnew();
    assert.equal((await driver.read(keyed(wanted), never)).get(KEY), wanted, 'the very object expected');
    assert.deepEqual(await want(wanted), []);
    await look(LOOK - 1);
    assert.equal(await ask(number, 'still'), `${number} pod-a still`);
    await look(1);
    assert.deepEqual(weights(), ['10.244.1.6=1']);
  });

  it('counts the connections of both families and of services by mark', async () => {
    await connectTo('pod-a');
    run('ipvsadm -A -t [fd00:96::10]:80 -s rr');
    run('ipvsadm -a -t [fd00:96::10]:80 -r [fd00:244:1::5]:8080 -m');
    for (const family of ['', ' -6']) run(`ipvsadm -A -f 4660${family} -s rr`);
    run('ipvsadm -a -f 4660 -r 10.244.1.5:0 -i');
    run('ipvsadm -a -f 4660 -6 -r [fd00:244:1::5]:0 -i');
    const keys = [KEY, 'TCP [fd00:96::10]:80', 'FWM 4660 ipv4', 'FWM 4660 ipv6'];
    const found = await connectionsOf(readLines, new Set(keys), never);
    assert.deepEqual([...found.keys()].sort(), keys.toSorted());
    assert.ok((found.get(KEY)?.get('10.244.1.5:8080') ?? 0) > 0);
    assert.deepEqual(found.get('TCP [fd00:96::10]:80'), new Map([['[fd00:244:1::5]:8080', 0]]));
    assert.deepEqual(found.get('FWM 4660 ipv4'), new Map([['10.244.1.5:0', 0]]));
    assert.deepEqual(found.get('FWM 4660 ipv6'), new Map([['[fd00:244:1::5]:0', 0]]));
    assert.equal((await connectionsOf(readLines, new Set(), never)).size, 0);
  });
});
