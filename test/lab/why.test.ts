import assert from 'node:assert/strict';
import { runFolderOf } from '../../daemon/commands/run-folder.ts';
import type { Explanation } from '../../daemon/explain/explanation.ts';
import type { LabHost, LabNode } from './addresses.ts';
import { describeRouting } from './describe-routing.ts';
import { RANGES, SILENCE_MS } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import {
  type ApiObject,
  endpoint,
  type Family,
  NAMESPACE,
  namespaceObject,
  networkPolicyObject,
  podObject,
  service,
  slice,
} from './objects.ts';
import type { Reply } from './probe.ts';
import { until } from './until.ts';

const PORT = 8080;
const CLOSED_PORT = 8081;
const NODE_PORT = 30900;
const VIPS = {
  web: '10.96.9.1',
  web6: 'fd00:10:96::901',
  empty: '10.96.9.2',
  unready: '10.96.9.3',
  local: '10.96.9.4',
  mirror: '10.96.9.5',
  ranges: '203.0.113.130',
  open: '203.0.113.131',
  withdrawn: '203.0.113.132',
} as const;

/** What a real packet meets where `why` says so. Where there is no route, the kernel or silence says it. */
const MEETS: Readonly<Partial<Record<Explanation['verdict']['outcome'], readonly string[]>>> = {
  allowed: ['answer'],
  lost: ['answer'],
  denied: ['refused'],
  refused: ['refused'],
  dropped: ['timeout'],
  unreachable: ['timeout', 'failed', 'refused'],
  withdrawn: ['timeout', 'failed', 'refused'],
};

interface Situation {
  readonly title: string;
  /** As a host of the lab, which is a Pod, Node or stranger. */
  readonly from: (lab: Lab) => LabHost;
  /** As on the command line; a Service without its namespace. */
  readonly words: string;
  readonly address: (lab: Lab) => string;
  readonly port?: number;
  readonly outcome: Explanation['verdict']['outcome'];
  readonly reason: RegExp;
  /** The node that is asked; node1 unless told. */
  readonly on?: number;
}

const pod =
  (node: number, number: number) =>
  (lab: Lab): LabHost =>
    lab.pod(node, number);
const podAddress =
  (node: number, number: number, family: Family = 'ipv4') =>
  (lab: Lab): string =>
    lab.pod(node, number).addresses[family];
const at = (address: string) => (): string => address;

const SITUATIONS: readonly Situation[] = [
  {
    title: 'pod to pod',
    from: pod(1, 2),
    words: 'pod-1-1 8080',
    address: podAddress(1, 1),
    port: PORT,
    outcome: 'allowed',
    reason: /pod-1-1/,
  },
  {
    title: 'pod to pod, another node',
    from: pod(1, 2),
    words: 'pod-2-1 8080',
    address: podAddress(2, 1),
    port: PORT,
    outcome: 'allowed',
    reason: /pod-2-1/,
  },
  {
    title: 'cluster IP',
    from: pod(1, 2),
    words: 'web 80',
    address: at(VIPS.web),
    outcome: 'allowed',
    reason: /pod-1-1.*pod-2-1/,
  },
  {
    title: 'cluster IP, IPv6',
    from: pod(1, 2),
    words: `${VIPS.web6} 80`,
    address: at(VIPS.web6),
    outcome: 'allowed',
    reason: /pod-1-1/,
  },
  {
    title: 'cluster IP, from the node',
    from: lab => lab.node(1),
    words: 'web 80',
    address: at(VIPS.web),
    outcome: 'allowed',
    reason: /node1/,
  },
  {
    title: 'node port, from outside',
    from: lab => lab.ext,
    words: `node1 ${NODE_PORT}`,
    address: lab => lab.node(1).addresses.ipv4,
    port: NODE_PORT,
    outcome: 'allowed',
    reason: /pod-1-1/,
  },
  { title: 'hairpin', from: pod(1, 1), words: 'mirror 80', address: at(VIPS.mirror), outcome: 'allowed', reason: /sees node1/ },
  {
    title: 'ingress that a policy allows',
    from: pod(1, 2),
    words: 'pod-1-3 8080',
    address: podAddress(1, 3),
    port: PORT,
    outcome: 'allowed',
    reason: /pod-1-3/,
  },
  {
    title: 'ingress that no rule allows',
    from: pod(1, 1),
    words: 'pod-1-3 8080',
    address: podAddress(1, 3),
    port: PORT,
    outcome: 'denied',
    reason: /NetworkPolicy lab\/locked: no ingress rule of it allows tcp\/8080 from lab\/pod-1-1/,
  },
  {
    title: 'ingress at a port that no rule allows',
    from: pod(1, 2),
    words: `pod-1-3 ${CLOSED_PORT}`,
    address: podAddress(1, 3),
    port: CLOSED_PORT,
    outcome: 'denied',
    reason: /no ingress rule/,
  },
  {
    title: 'ingress from another node',
    from: pod(2, 1),
    words: 'pod-1-3 8080',
    address: podAddress(1, 3),
    port: PORT,
    outcome: 'denied',
    reason: /no ingress rule/,
  },
  {
    title: 'ingress on another node',
    from: pod(1, 1),
    words: 'pod-2-3 8080',
    address: podAddress(2, 3),
    port: PORT,
    outcome: 'denied',
    reason: /expected: node2 judges/,
  },
  {
    title: 'egress that no rule allows',
    from: pod(2, 2),
    words: 'pod-1-1 8080',
    address: podAddress(1, 1),
    port: PORT,
    on: 2,
    outcome: 'denied',
    reason: /NetworkPolicy lab\/mute: no egress rule/,
  },
  {
    title: 'no endpoint',
    from: pod(1, 2),
    words: 'empty 80',
    address: at(VIPS.empty),
    outcome: 'refused',
    reason: /it has none at all/,
  },
  {
    title: 'no endpoint that is ready',
    from: pod(1, 2),
    words: 'unready 80',
    address: at(VIPS.unready),
    outcome: 'refused',
    reason: /not ready/,
  },
  {
    title: 'a port that the Service has not',
    from: pod(1, 2),
    words: 'web 81',
    address: at(VIPS.web),
    port: 81,
    outcome: 'refused',
    reason: /Service lab\/web has tcp\/80/,
  },
  {
    title: 'policy Local without an endpoint here',
    from: pod(1, 2),
    words: 'local 80',
    address: at(VIPS.local),
    outcome: 'dropped',
    reason: /internal traffic policy/,
  },
  {
    title: 'inside the source ranges',
    from: lab => lab.ext,
    words: 'open 80',
    address: at(VIPS.open),
    outcome: 'allowed',
    reason: /pod-1-1/,
  },
  {
    title: 'outside the source ranges',
    from: lab => lab.ext,
    words: 'ranges 80',
    address: at(VIPS.ranges),
    outcome: 'dropped',
    reason: /loadBalancerSourceRanges/,
  },
  {
    title: 'a VIP that is not announced',
    from: lab => lab.ext,
    words: 'withdrawn 80',
    address: at(VIPS.withdrawn),
    outcome: 'withdrawn',
    reason: /service.advertise.loadbalancerip: 'false'/,
  },
  {
    title: 'an address that an older Service has',
    from: pod(1, 2),
    words: 'late 80',
    address: at(VIPS.web),
    outcome: 'lost',
    reason: /Service lab\/web, which is older/,
  },
  {
    title: 'a node that tells no route',
    from: pod(1, 2),
    words: 'pod-3-1 8080',
    address: podAddress(3, 1),
    port: PORT,
    outcome: 'unreachable',
    reason: /no route to node3's pod CIDR/,
  },
];

/** pod-N-3 takes only pod-1-2, and only at 8080; pod-2-2 sends nothing. node3 has a Node object and no daemon. */
function objects(lab: Lab): readonly ApiObject[] {
  const tcp = (port: number, more: object = {}) => [{ name: 'http', port, targetPort: PORT, ...more }];
  const ready = [{ name: 'http', port: PORT }];
  const balancer = (
    name: string,
    ip: string,
    clusterIP: string,
    sources: readonly string[],
    annotations = {},
  ): readonly ApiObject[] => [
    service(
      name,
      { type: 'LoadBalancer', clusterIP, ports: tcp(80), ...(sources.length === 0 ? {} : { loadBalancerSourceRanges: sources }) },
      { loadBalancerIPs: [ip], annotations },
    ),
    slice(name, ready, [endpoint(lab.pod(1, 1))]),
  ];
  const web = [lab.pod(1, 1), lab.pod(2, 1)];
  return [
    namespaceObject(NAMESPACE),
    ...lab.pods.map(each => podObject(each, { labels: { pod: each.name, number: each.name.slice(-1) } })),
    networkPolicyObject('locked', {
      podSelector: { matchLabels: { number: '3' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { pod: 'pod-1-2' } } }], ports: [{ port: PORT }] }],
    }),
    networkPolicyObject('mute', { podSelector: { matchLabels: { pod: 'pod-2-2' } }, policyTypes: ['Egress'] }),
    service(
      'web',
      {
        type: 'NodePort',
        ipFamilies: ['IPv4', 'IPv6'],
        clusterIPs: [VIPS.web, VIPS.web6],
        ports: tcp(80, { nodePort: NODE_PORT }),
      },
      { creationTimestamp: '2026-01-01T00:00:00Z' },
    ),
    ...(['ipv4', 'ipv6'] as const).map(family =>
      slice(
        'web',
        ready,
        web.map(each => endpoint(each, family)),
        { family },
      ),
    ),
    service('late', { clusterIP: VIPS.web, ports: tcp(80) }, { creationTimestamp: '2026-01-02T00:00:00Z' }),
    slice('late', ready, [endpoint(lab.pod(2, 1))]),
    service('empty', { clusterIP: VIPS.empty, ports: tcp(80) }),
    service('unready', { clusterIP: VIPS.unready, ports: tcp(80) }),
    slice('unready', ready, [endpoint(lab.pod(1, 1), 'ipv4', { ready: false, serving: false })]),
    service('local', { clusterIP: VIPS.local, internalTrafficPolicy: 'Local', ports: tcp(80) }),
    slice('local', ready, [endpoint(lab.pod(2, 1))]),
    service('mirror', { clusterIP: VIPS.mirror, ports: tcp(80) }),
    slice('mirror', ready, [endpoint(lab.pod(1, 1))]),
    ...balancer('ranges', VIPS.ranges, '10.96.9.6', ['192.0.2.0/24']),
    ...balancer('open', VIPS.open, '10.96.9.7', [`${lab.ext.addresses.ipv4}/32`]),
    ...balancer('withdrawn', VIPS.withdrawn, '10.96.9.8', [], { 'kube-router.io/service.advertise.loadbalancerip': 'false' }),
  ];
}

/** What a router that hears BGP would know. */
async function prepare(lab: Lab): Promise<void> {
  for (const vip of [VIPS.ranges, VIPS.open])
    await lab.expectRun(lab.router, ['ip', 'route', 'add', `${vip}/32`, 'via', lab.node(1).addresses.ipv4]);
  await Promise.all(
    lab.pods.flatMap(each =>
      (['ipv4', 'ipv6'] as const).flatMap(family =>
        [PORT, CLOSED_PORT].map(port => lab.probe(each).serve('tcp', each.addresses[family], port, each.name)),
      ),
    ),
  );
}

/** Asks the daemon as the command does, without the 0.6 s that the command takes to start in a guest. */
const ASK =
  'my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print $s "GET $ARGV[1] HTTP/1.0\\r\\n\\r\\n"; local $/; my $a = <$s>; $a =~ s/^.*?\\r\\n\\r\\n//s; print $a;';

async function asked(lab: Lab, node: LabNode, words: readonly string[]): Promise<Explanation> {
  const query = new URLSearchParams(words.map((word): [string, string] => ['word', word]));
  const socket = `${runFolderOf(node.name)}/fairway.sock`;
  const text = await lab.expectRun(node, ['perl', '-MIO::Socket::UNIX', '-e', ASK, socket, `/why?${query.toString()}`]);
  assert.match(text, /^\{"verdict"/, text);
  return JSON.parse(text) as Explanation;
}

async function why(
  lab: Lab,
  node: LabNode,
  words: readonly string[],
): Promise<{ readonly status: number; readonly text: string }> {
  const argv = [...FAIRWAY, 'why', `--hostname-override=${node.name}`, ...words];
  const { status, stdout, stderr } = await lab.run(node, argv);
  return { status, text: `${stdout}${stderr}` };
}

/** A pod by its name, a node by its own, the host outside by its address. */
function nameOf(host: LabHost): string {
  return host.name === 'ext' ? host.addresses.ipv4 : host.name;
}

describeRouting(
  'fairway why',
  {
    podsPerNode: 3,
    runs: ['service-proxy', 'firewall', 'router'],
    flags: [...RANGES.slice(1), '--advertise-loadbalancer-ip=true'],
    objects,
    prepare,
  },
  suite => {
    const lab = (): Lab => suite().lab;
    /** What a packet met, by title. */
    const replies = new Map<string, Reply>();

    before('two of three daemons, and the session between them', async function () {
      this.timeout(120_000);
      const nodes = [lab().node(1), lab().node(2)];
      await suite().start([], nodes);
      await suite().reached([{ from: lab().pod(1, 1), to: lab().pod(2, 1) }], 60_000, ['ipv4', 'ipv6']);
      await until(
        'BGP has settled',
        async () => (await asked(lab(), lab().node(1), ['pod-1-2', 'pod-2-1', `${PORT}`])).summary,
        summary => summary.startsWith('allowed'),
        60_000,
      );
    });

    before('a packet of each situation, all at once: silence takes its time', async () => {
      await Promise.all(
        SITUATIONS.map(async ({ title, from, address, port = 80 }) => {
          const target = { transport: 'tcp', address: address(lab()), port, timeoutMs: SILENCE_MS } as const;
          replies.set(title, await lab().probe(from(lab())).connect(target));
        }),
      );
    });

    for (const { title, from, words, outcome, reason, on = 1 } of SITUATIONS) {
      it(`${title}: ${outcome}, and a packet meets just that`, async () => {
        const client = from(lab());
        const { verdict, summary } = await asked(lab(), lab().node(on), [nameOf(client), ...words.split(' ')]);
        assert.equal(verdict.outcome, outcome, summary);
        assert.match(verdict.reason, reason);
        const reply = replies.get(title);
        assert.ok(MEETS[outcome]?.includes(reply?.outcome ?? ''), `${summary}\na packet met ${JSON.stringify(reply)}`);
      });
    }

    it('says for people the verdict first, then the steps with the entries of this kernel', async () => {
      const node = lab().node(1);
      const { status, text } = await why(lab(), node, ['pod-1-2', 'web', 'http']);
      const [verdict, ...steps] = text.trimEnd().split('\n');
      assert.match(verdict ?? '', /^allowed: /);
      assert.equal(status, 0);
      const [rules, sets, servers] = await Promise.all([
        lab().expectRun(node, ['iptables-save']),
        lab().expectRun(node, ['ipset', 'save']),
        lab().expectRun(node, ['ipvsadm', '-Sn']),
      ]);
      const kernel = `${rules}\n${sets}\n${servers}`;
      const shown = steps.flatMap(line => /^ {6}((?:-[Aa]|add) .*)$/.exec(line)?.[1] ?? []);
      assert.ok(shown.length > 2, text);
      for (const line of shown) assert.ok(kernel.includes(line), `not in the kernel: ${line}`);
    });

    it('ends with status 1 where it does not get there', async () => {
      const { status, text } = await why(lab(), lab().node(1), ['pod-1-1', 'pod-1-3', `${PORT}`]);
      assert.match(text, /^denied by NetworkPolicy lab\/locked/);
      assert.equal(status, 1);
    });

    it('names what is not there, with what may have been meant', async () => {
      const { status, text } = await why(lab(), lab().node(1), ['pod-1-22', 'web', '80']);
      assert.equal(status, 2);
      assert.match(text, /There is no Pod or Node 'pod-1-22'. Did you mean lab\/pod-1-2/);
    });
  },
);
