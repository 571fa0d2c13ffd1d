import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { LabError } from './agent.ts';
import { describeLab } from './describe-lab.ts';
import { type Reply, type Transport, tally } from './probe.ts';

const TRANSPORTS: readonly Transport[] = ['tcp', 'udp', 'sctp'];
const FAMILIES = ['ipv4', 'ipv6'] as const;

function sourceSeen(reply: Reply): string {
  return reply.outcome === 'answer' ? reply.peer : JSON.stringify(reply);
}

describeLab('the lab', {}, lab => {
  it('says where it runs and how long it took', () => {
    process.stdout.write(`      ${lab().description}\n`);
    assert.equal(lab().nodes.length, 3);
    assert.equal(lab().pods.length, 6);
    assert.ok(lab().took.topologyMs < 5000, lab().description);
  });

  for (const transport of TRANSPORTS) {
    for (const family of FAMILIES) {
      it(`carries ${transport} over ${family} from every pod, node and the outside to a pod behind the router, with the client's address`, async () => {
        const server = lab().pod(3, 1);
        const address = server.addresses[family];
        const running = await lab().probe(server).serve(transport, address, 80, server.name);
        for (const client of [...lab().pods, ...lab().nodes, lab().ext]) {
          const reply = await lab().probe(client).connect({ transport, address, port: 80 });
          // A pod's own node reaches it from the bridge.
          const expected = client === lab().node(3) ? lab().node(3).bridge[family] : client.addresses[family];
          assert.equal(sourceSeen(reply), expected, `from ${client.name}`);
        }
        running.end();
        const after = await lab().probe(lab().ext).connect({ transport, address, port: 80 });
        assert.equal(after.outcome, 'refused');
      });
    }
  }

  for (const [family, tool] of [
    ['ipv4', 'iptables'],
    ['ipv6', 'ip6tables'],
  ] as const) {
    it(`tells refused from silent over ${family}`, async () => {
      const server = lab().pod(2, 1);
      const address = server.addresses[family];
      const rule = (op: string, port: number, target: string): readonly string[] => [
        tool,
        '-w',
        op,
        'FORWARD',
        '-d',
        address,
        '-p',
        'tcp',
        '--dport',
        String(port),
        '-j',
        target,
      ];
      await lab().expectRun(lab().node(2), rule('-I', 7001, 'DROP'));
      await lab().expectRun(lab().node(2), rule('-I', 7002, 'REJECT'));
      const client = lab().probe(lab().pod(1, 1));
      const open = await client.connect({ transport: 'tcp', address, port: 7000 });
      const dropped = await client.connect({ transport: 'tcp', address, port: 7001, timeoutMs: 300 });
      const rejected = await client.connect({ transport: 'tcp', address, port: 7002 });
      await lab().expectRun(lab().node(2), rule('-D', 7001, 'DROP'));
      await lab().expectRun(lab().node(2), rule('-D', 7002, 'REJECT'));
      assert.deepEqual(open, { outcome: 'refused', errno: 'ECONNREFUSED', during: 'connect' });
      assert.deepEqual(dropped, { outcome: 'timeout', during: 'connect' });
      assert.deepEqual(rejected, { outcome: 'refused', errno: 'ECONNREFUSED', during: 'connect' });
    });

    it(`balances a burst of 30 connections through IPVS over ${family}, from a pod, the node itself and another node`, async () => {
      const node = lab().node(1);
      const vip = { ipv4: '10.96.0.10', ipv6: 'fd00:10:96::10' }[family];
      const spelled = (address: string, port: number): string =>
        family === 'ipv6' ? `[${address}]:${port}` : `${address}:${port}`;
      const backends = [lab().pod(1, 1), lab().pod(2, 1), lab().pod(3, 1)];
      const servers = await Promise.all(
        backends.map(pod => lab().probe(pod).serve('tcp', pod.addresses[family], 8080, pod.name)),
      );
      const ipvs = [
        `-A -t ${spelled(vip, 80)} -s rr`,
        ...backends.map(pod => `-a -t ${spelled(vip, 80)} -r ${spelled(pod.addresses[family], 8080)} -m`),
      ];
      await lab().expectRun(node, ['ip', '-batch', '-'], {
        input: `link add kube-dummy-if type dummy\nlink set kube-dummy-if up\naddr add ${vip} dev kube-dummy-if\n`,
      });
      await lab().writeFile(node, '/proc/sys/net/ipv4/vs/conntrack', '1');
      await lab().expectRun(node, ['ipvsadm', '-R'], { input: `${ipvs.join('\n')}\n` });
      const masquerade = ['POSTROUTING', '-m', 'ipvs', '--ipvs', '--vdir', 'ORIGINAL', '--vmethod', 'MASQ', '-j', 'MASQUERADE'];
      await lab().expectRun(node, [tool, '-w', '-t', 'nat', '-A', ...masquerade]);
      const ipFamily = family === 'ipv6' ? '-6' : '-4';
      await lab().expectRun(lab().node(2), ['ip', ipFamily, 'route', 'add', vip, 'via', node.addresses[family]]);
      for (const client of [lab().pod(1, 1), lab().pod(1, 2), node, lab().node(2)]) {
        const replies = await lab().probe(client).burst({ transport: 'tcp', address: vip, port: 80 }, 30);
        const even = backends.map(pod => [pod.name, 10] as const);
        assert.deepEqual([...tally(replies)].sort(), even, `from ${client.name}`);
      }
      for (const server of servers) server.end();
      await lab().expectRun(node, ['ipvsadm', '-C']);
      await lab().expectRun(node, [tool, '-w', '-t', 'nat', '-D', ...masquerade]);
      await lab().expectRun(node, ['ip', 'link', 'del', 'kube-dummy-if']);
      await lab().expectRun(lab().node(2), ['ip', ipFamily, 'route', 'del', vip]);
    });
  }

  it('keeps a connection open between exchanges and sees it end', async () => {
    for (const transport of TRANSPORTS) {
      const pod = lab().pod(1, 2);
      const server = await lab().probe(pod).serve(transport, pod.addresses.ipv4, 9000, 'held');
      const connection = await lab()
        .probe(lab().ext)
        .hold({ transport, address: pod.addresses.ipv4, port: 9000, sourcePort: 45_000 });
      const again = await connection.say('still there?');
      server.end();
      const gone = await connection.say('and now?', 500);
      connection.close();
      const expected = {
        outcome: 'answer',
        server: 'held',
        peer: '10.10.1.200',
        peerPort: 45_000,
        local: pod.addresses.ipv4,
        localPort: 9000,
      };
      assert.deepEqual(connection.opened, expected, transport);
      assert.deepEqual(again, expected, transport);
      assert.ok(['closed', 'reset', 'refused'].includes(gone.outcome), `${transport}: ${JSON.stringify(gone)}`);
    }
  });

  it('runs twenty probes at once', async () => {
    const pod = lab().pod(2, 2);
    const server = await lab().probe(pod).serve('tcp', pod.addresses.ipv6, 9001, pod.name);
    const clients = Array.from({ length: 20 }, (_, index) => lab().pods[index % lab().pods.length] ?? pod);
    const bursts = await Promise.all(
      clients.map(client => lab().probe(client).burst({ transport: 'tcp', address: pod.addresses.ipv6, port: 9001 }, 20)),
    );
    assert.deepEqual([...tally(bursts.flat())], [[pod.name, 400]]);
    server.end();
  });

  it('runs programs with input, environment and exit status, and daemons with their lines', async () => {
    const node = lab().node(1);
    const large = 'x'.repeat(200_000);
    const copied = await lab().run(node, ['sh', '-c', 'cat; echo "$GREETING" >&2; exit 7'], {
      input: large,
      environment: { GREETING: 'hello' },
    });
    assert.deepEqual(copied, { status: 7, stdout: large, stderr: 'hello\n' });
    assert.equal((await lab().run(node, ['no-such-program'])).status, 127);
    const daemon = lab().startDaemon(node, [
      process.execPath,
      '-e',
      'process.on("SIGTERM", () => process.exit(3)); setInterval(() => {}, 1000); console.log("up")',
    ]);
    const line = await daemon.waitForLine(/^up$/, 20_000);
    assert.equal(line.stream, 'stdout');
    assert.equal(await daemon.stop(), 3);
    await assert.rejects(daemon.waitForLine(/never/, 1000), LabError);
  });

  it('gives every node a name, a /run and kernel settings of its own', async () => {
    const [first, second] = [lab().node(1), lab().node(2)];
    assert.equal(await lab().expectRun(first, ['hostname']), 'node1\n');
    await lab().writeFile(first, '/run/fairway/manifests/a.yaml', 'one');
    assert.equal(await lab().readFile(first, '/run/fairway/manifests/a.yaml'), 'one');
    assert.equal(await lab().expectRun(first, ['cat', '/run/fairway/manifests/a.yaml']), 'one');
    await assert.rejects(lab().readFile(second, '/run/fairway/manifests/a.yaml'), LabError);
    await lab().writeFile(first, '/proc/sys/net/ipv4/vs/conntrack', '1');
    await lab().writeFile(second, '/proc/sys/net/ipv4/vs/conntrack', '0');
    assert.equal(await lab().readFile(first, '/proc/sys/net/ipv4/vs/conntrack'), '1\n');
    assert.equal(await lab().readFile(second, '/proc/sys/net/ipv4/vs/conntrack'), '0\n');
  });

  it("shows a server of the test's own at an address of the lab", async () => {
    const body = 'y'.repeat(50_000);
    const server = createServer(socket => socket.once('data', () => socket.end(body))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const bound = server.address();
    assert.ok(bound !== null && typeof bound === 'object');
    const address = lab().ext.addresses.ipv4;
    const exposed = await lab().expose(lab().ext, address, 6443, { port: bound.port });
    const script = `require("net").connect(6443, "${address}").on("data", d => process.stdout.write(d)).write("hello")`;
    const got = await lab().expectRun(lab().node(3), [process.execPath, '-e', script]);
    assert.equal(got, body);
    exposed.end();
    server.close();
  });
});
