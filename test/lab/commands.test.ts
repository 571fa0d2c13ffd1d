/** What an operator asks a running daemon, on real nodes: status, plan, snapshot, and what it says to a second daemon. */
import assert from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';
import type { StatusReport } from '../../daemon/observe/status.ts';
import { describeServices, POD_PORT, RANGES } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import { type ApiObject, endpoint, nodeObject, service, slice } from './objects.ts';
import { until } from './until.ts';

const VIP = '10.96.30.1';
const PASSWORD = Buffer.from('correct horse').toString('base64');

function web(annotations: Readonly<Record<string, string>> = {}): ApiObject {
  return service('web', { clusterIPs: [VIP], ports: [{ port: 80, targetPort: POD_PORT }] }, { annotations });
}

describeServices('commands of an operator', { daemons: [{ node: 1, flags: ['--audit-period=1h'] }] }, suite => {
  const node = () => suite().lab.node(1);
  const fairway = (...words: readonly string[]) => suite().lab.run(node(), [...FAIRWAY, ...words, '--hostname-override=node1']);

  async function status(): Promise<StatusReport> {
    const { stdout } = await fairway('status', '-o', 'json');
    return JSON.parse(stdout) as StatusReport;
  }

  before('a Service with two endpoints', async () => {
    const { lab, cluster } = suite();
    const pods = [endpoint(lab.pod(1, 1)), endpoint(lab.pod(2, 1))];
    const plain = nodeObject(lab.node(2));
    const peers = `[{ remoteip: 192.0.2.1, remoteasn: 65001, password: ${PASSWORD} }]`;
    const secretive: ApiObject = { ...plain, metadata: { ...plain.metadata, annotations: { 'kube-router.io/peers': peers } } };
    await cluster.put(web(), slice('web', [{ port: POD_PORT }], pods), secretive);
  });

  it('status says that all is well, in words and as JSON', async () => {
    const { status: code, stdout } = await fairway('status');
    assert.match(stdout, /^fairway \S+ on node1, pid \d+, for \S+: ready\n/);
    assert.match(stdout, /\n {2}services: ok\n/);
    assert.match(stdout, /\n {2}virtualServer +\d+ +\d+ +0 /);
    assert.equal(code, 0);
    const report = await status();
    assert.equal(report.isReady, true);
    assert.deepEqual(report.diagnostics, []);
    const servers = report.tables.find(({ table }) => table === 'virtualServer');
    assert.equal(servers?.entries, servers?.wanted);
    assert.ok(report.rounds.count > 0);
  });

  it('plan says that nothing would be changed', async () => {
    const { status: code, stdout } = await fairway('plan');
    assert.equal(stdout, 'nothing would be changed\n');
    assert.equal(code, 0);
  });

  it('plan shows what somebody took away, whose it is and the lines that bring it back', async () => {
    await suite().lab.expectRun(node(), [
      'ipvsadm',
      '-d',
      '-t',
      `${VIP}:80`,
      '-r',
      `${suite().lab.pod(2, 1).addresses.ipv4}:${POD_PORT}`,
    ]);
    await suite().lab.expectRun(node(), ['iptables', '-t', 'nat', '-F', 'FAIRWAY-MASQUERADE']);
    const { status: code, stdout } = await fairway('plan');
    assert.equal(code, 2);
    assert.match(
      stdout,
      new RegExp(
        `virtualServer\n {2}change TCP ${VIP}:80 {2}# Service lab/web\n {4}\\+ ipvsadm -a -t ${VIP}:80 -r ${suite().lab.pod(2, 1).addresses.ipv4}:${POD_PORT} -m -w 1\n`,
      ),
    );
    assert.match(
      stdout,
      /iptables\n {2}change ipv4 nat FAIRWAY-MASQUERADE {2}# \S.*\n {4}\+ iptables -t nat -A FAIRWAY-MASQUERADE /,
    );
    assert.match(stdout, /\n0 to create, 2 to change, 0 to remove\n$/);
    const script = await fairway('plan', '-o', 'script');
    assert.match(script.stdout, /^\*nat\n/m, 'what iptables-restore would be given');
    const report = JSON.parse((await fairway('plan', '-o', 'json')).stdout) as {
      changes: readonly { objects: readonly string[] }[];
    };
    assert.ok(report.changes.some(({ objects }) => objects.includes('Service lab/web')));
  });

  it('plan of other flags shows what these would change, and changes nothing', async () => {
    const flags = [
      '--manifests=/run/fairway-manifests',
      '--run-router=false',
      '--run-firewall=false',
      '--masquerade-all',
      ...RANGES,
    ];
    const { status: code, stdout } = await fairway('plan', ...flags);
    assert.equal(code, 2);
    assert.match(stdout, /\+ iptables -t nat -A FAIRWAY-MASQUERADE -j SNAT /);
    assert.match((await fairway('plan')).stdout, /2 to change/, 'the running daemon still finds its own');
  });

  it('plan with --run-loadbalancer shows which addresses would be handed out, and why one Service would get none', async () => {
    const balancer = (name: string, annotations: Readonly<Record<string, string>>): ApiObject =>
      service(name, { type: 'LoadBalancer', ipFamilies: ['IPv4'], ports: [{ port: 80 }] }, { annotations });
    const balancers = [balancer('given', {}), balancer('outside', { 'fairway.dev/lb-ips': '203.0.114.1' })];
    await suite().cluster.put(...balancers);
    const alone = ['--run-router=false', '--run-firewall=false', '--run-service-proxy=false', '--run-loadbalancer'];
    const pool = '--loadbalancer-ip-range=203.0.113.64-203.0.113.71';
    const { status: code, stdout, stderr } = await fairway('plan', '--manifests=/run/fairway-manifests', ...alone, pool);
    await suite().cluster.remove(...balancers);
    assert.match(
      stdout,
      /serviceStatus\n {2}create lab\/given {2}# Service lab\/given\n {4}\+ status of lab\/given: 203\.0\.113\.64\n/,
    );
    assert.match(stderr, /Service lab\/outside: fairway\.dev\/lb-ips asks for 203\.0\.114\.1, which is in no pool/);
    assert.equal(code, 2);
  });

  it('status names what was changed by others, once it was noticed, and it is repaired', async () => {
    // A link that goes is noticed at once, with all that belongs to it.
    await suite().lab.expectRun(node(), ['ip', 'link', 'delete', 'kube-dummy-if']);
    await until(
      'the change is noticed',
      status,
      ({ drift, tables }) => drift.count > 0 && tables.every(({ entries, wanted }) => entries === wanted),
    );
    const { stdout } = await fairway('status');
    assert.match(stdout, /changed by others\n(.*\n)*? {2}\S+ ago: link kube-dummy-if was gone\n/);
    assert.match(await suite().lab.expectRun(node(), ['ip', 'address', 'show', 'dev', 'kube-dummy-if']), new RegExp(VIP));
  });

  it('status names an annotation that cannot be used, with the Service', async () => {
    await suite().cluster.put(web({ 'kube-router.io/service.scheduler': 'fastest' }));
    const report = await status();
    assert.deepEqual(
      report.diagnostics.map(({ code, object }) => [code, object]),
      [['FW_SERVICE_SCHEDULER', 'Service lab/web']],
    );
    assert.match((await fairway('status')).stdout, /diagnostics\n {2}FW_SERVICE_SCHEDULER .*fastest/);
  });

  it('a snapshot holds no password, and a plan from it elsewhere finds what the node lacked', async () => {
    const { lab } = suite();
    const { stdout } = await fairway('snapshot', '/run/bundle.json.gz');
    assert.equal(stdout, '/run/bundle.json.gz\n');
    assert.equal((await lab.expectRun(node(), ['stat', '-c', '%a', '/run/bundle.json.gz'])).trim(), '600');
    const bytes = Buffer.from(await lab.expectRun(node(), ['base64', '-w0', '/run/bundle.json.gz']), 'base64');
    const text = gunzipSync(bytes).toString('utf8');
    assert.ok(text.includes('ipvsadm -Ln --stats') && text.includes(VIP));
    assert.ok(!text.includes(PASSWORD) && !text.includes('correct horse'));
    assert.ok(text.includes('192.0.2.1'), 'the neighbour itself is in it');
    // On a node that has nothing of all that.
    await lab.expectRun(lab.node(3), ['bash', '-c', 'base64 -d > /run/bundle.json.gz'], { input: bytes.toString('base64') });
    const replay = (...more: readonly string[]) =>
      lab.run(lab.node(3), [...FAIRWAY, 'plan', '--snapshot=/run/bundle.json.gz', ...more]);
    assert.deepEqual([(await replay()).stdout, (await replay()).status], ['nothing would be changed\n', 0]);
  });

  it('a profile of its processor time is one, and a word that is none is refused', async () => {
    const { stdout } = await fairway('profile', 'cpu', '/run/p.cpuprofile', '--duration=1s');
    assert.equal(stdout, '/run/p.cpuprofile\n');
    const profile = JSON.parse(await suite().lab.readFile(node(), '/run/p.cpuprofile')) as { nodes: readonly unknown[] };
    assert.ok(profile.nodes.length > 1);
    const wrong = await fairway('profile', 'speed');
    assert.equal(wrong.status, 78);
    assert.match(wrong.stderr, /profile speed: say what of, cpu or heap/);
  });

  it('a second daemon on the node is refused with the process that runs, and disturbs nothing', async () => {
    const before = await suite().lab.expectRun(node(), ['ipvsadm', '-Sn']);
    const { status: code, stderr } = await fairway('--manifests=/run/nothing-there', '--run-router=false', '--health-port=0');
    assert.equal(code, 1);
    assert.match(
      stderr,
      /FW_HOST_SECOND_DAEMON: another fairway runs on this node already \(pid \d+, \/run\/fairway\/node1\/fairway\.sock\): stop it first/,
    );
    assert.equal(await suite().lab.expectRun(node(), ['ipvsadm', '-Sn']), before);
  });

  it('without a daemon they say that none runs, and where it was looked for', async () => {
    const { lab } = suite();
    for (const command of ['status', 'plan', 'snapshot']) {
      const { status: code, stderr } = await lab.run(lab.node(2), [...FAIRWAY, command, '--hostname-override=node2']);
      assert.equal(code, 1, command);
      assert.match(
        stderr,
        /^fairway: FW_DAEMON_ABSENT: no running daemon on \/run\/fairway\/node2\/fairway\.sock: nobody answers there/,
      );
    }
  });
});
