import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import { answers, describeServices, POD_PORT, SILENCE_MS } from './describe-services.ts';
import type { Lab } from './lab.ts';
import {
  type ApiObject,
  endpoint,
  FAMILIES,
  type Family,
  NAMESPACE,
  namespaceObject,
  networkPolicyObject,
  podObject,
  service,
  slice,
} from './objects.ts';

const VIP = { ipv4: '10.96.9.1', ipv6: 'fd00:10:96::901' };
/** Of no range that the flags name. */
const OUTSIDE = '172.30.0.9';
const NODE_PORT = 30900;
const SERVERS: readonly (readonly [node: number, pod: number])[] = [
  [1, 1],
  [2, 1],
];

/** `server` pods: pod-1-1, pod-2-1. `client`: pod-1-2. `other`: pod-2-2. */
function objects(lab: Lab): readonly ApiObject[] {
  return [
    namespaceObject(NAMESPACE),
    ...SERVERS.map(([node, pod]) => podObject(lab.pod(node, pod), { labels: { app: 'server' } })),
    podObject(lab.pod(1, 2), { labels: { role: 'client' } }),
    podObject(lab.pod(2, 2), { labels: { role: 'other' } }),
    service('web', {
      type: 'NodePort',
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIP.ipv4, VIP.ipv6],
      ports: [
        { name: 'tcp', port: 80, targetPort: POD_PORT, nodePort: NODE_PORT },
        { name: 'udp', port: 80, targetPort: POD_PORT, protocol: 'UDP' },
      ],
    }),
    service('outside', { clusterIP: OUTSIDE, ports: [{ name: 'tcp', port: 80, targetPort: POD_PORT }] }),
    ...slices(lab, SERVERS),
  ];
}

function slices(lab: Lab, of: typeof SERVERS): readonly ApiObject[] {
  const pods = of.map(([node, pod]) => lab.pod(node, pod));
  const ports = [
    { name: 'tcp', port: POD_PORT },
    { name: 'udp', port: POD_PORT, protocol: 'UDP' as const },
  ];
  return [
    ...FAMILIES.map(family =>
      slice(
        'web',
        ports,
        pods.map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
    slice(
      'outside',
      ports,
      pods.map(pod => endpoint(pod)),
    ),
  ];
}

const SERVER = { matchLabels: { app: 'server' } };
const CLIENT = { matchLabels: { role: 'client' } };
const FROM_CLIENTS = networkPolicyObject('from-clients', { podSelector: SERVER, ingress: [{ from: [{ podSelector: CLIENT }] }] });
const DENY_BOTH = networkPolicyObject('deny-both', { policyTypes: ['Ingress', 'Egress'] });

describeServices(
  'network policy before and behind the balancing of Services',
  { nodes: 2, daemons: [1, 2].map(node => ({ node, flags: ['--run-firewall=true'] })), objects },
  suite => {
    const lab = () => suite().lab;
    /** Who answers at the Service, or `refused`. */
    const web = async (from: LabHost, family: Family = 'ipv4', transport: 'tcp' | 'udp' = 'tcp'): Promise<string> =>
      await answers(lab(), from, { transport, address: VIP[family], port: 80, timeoutMs: SILENCE_MS });
    let policies: readonly ApiObject[] = [];
    const enforce = async (...wanted: readonly ApiObject[]): Promise<void> => {
      await suite().cluster.change({ put: wanted, remove: policies.filter(policy => !wanted.includes(policy)) });
      policies = wanted;
    };

    afterEach(async () => {
      await enforce();
      await suite().cluster.change({ put: slices(lab(), SERVERS) });
    });

    for (const family of FAMILIES) {
      for (const transport of ['tcp', 'udp'] as const) {
        it(`lets in by the client's own address, on whichever node the endpoint is, ${transport} over ${family}`, async () => {
          await enforce(FROM_CLIENTS);
          assert.equal(await web(lab().pod(1, 2), family, transport), 'pod-1-1 pod-2-1');
          assert.equal(await web(lab().pod(2, 2), family, transport), 'refused');
        });
      }

      it(`lets out by the endpoint, not by the address of the Service, over ${family}`, async () => {
        const out = (name: string, to: unknown): ApiObject =>
          networkPolicyObject(name, {
            podSelector: CLIENT,
            policyTypes: ['Egress'],
            egress: [{ to: [to], ports: [{ port: POD_PORT }] }],
          });
        await enforce(out('to-servers', { podSelector: SERVER }));
        assert.equal(await web(lab().pod(1, 2), family), 'pod-1-1 pod-2-1');
        await enforce(out('to-vip', { ipBlock: { cidr: family === 'ipv4' ? `${VIP.ipv4}/32` : `${VIP.ipv6}/128` } }));
        assert.equal(await web(lab().pod(1, 2), family), 'refused');
        assert.equal(await web(lab().pod(2, 2), family), 'pod-1-1 pod-2-1');
      });

      it(`lets a pod reach itself through its Service although all is denied, over ${family}`, async () => {
        await suite().cluster.put(...slices(lab(), [[1, 1]]));
        await enforce(DENY_BOTH);
        assert.equal(await web(lab().pod(1, 1), family), 'pod-1-1');
        assert.equal(await web(lab().pod(1, 2), family), 'refused');
      });
    }

    it("judges an outside client of a node port by its own address where the endpoint is on the client's node", async () => {
      await suite().cluster.put(...slices(lab(), [[1, 1]]));
      const target = { transport: 'tcp', address: lab().node(1).addresses.ipv4, port: NODE_PORT, timeoutMs: SILENCE_MS } as const;
      const fromExt = (cidr: string): ApiObject =>
        networkPolicyObject('from-ext', { podSelector: SERVER, ingress: [{ from: [{ ipBlock: { cidr } }] }] });
      await enforce(fromExt(`${lab().ext.addresses.ipv4}/32`));
      assert.equal(await answers(lab(), lab().ext, target), 'pod-1-1');
      await enforce(fromExt('198.51.100.0/24'));
      assert.equal(await answers(lab(), lab().ext, target), 'refused');
    });

    it('lets a pod with an egress policy use node ports and Services of any address, and no other port of the node', async () => {
      await enforce(
        networkPolicyObject('to-servers', {
          podSelector: CLIENT,
          policyTypes: ['Egress'],
          egress: [{ to: [{ podSelector: SERVER }] }],
        }),
      );
      const ask = async (address: string, port: number): Promise<string> =>
        await answers(lab(), lab().pod(1, 2), { transport: 'tcp', address, port, timeoutMs: SILENCE_MS });
      assert.equal(await ask(OUTSIDE, 80), 'pod-1-1 pod-2-1');
      assert.equal(await ask(lab().node(1).addresses.ipv4, NODE_PORT), 'pod-1-1 pod-2-1');
      assert.equal(await ask(lab().node(1).addresses.ipv4, 9999), 'refused');
    });

    it('leaves a rule of others where it was put between ours, and both go on deciding', async () => {
      const INPUT = ['iptables', '-S', 'INPUT'];
      const rules = async (): Promise<readonly string[]> =>
        (await lab().expectRun(lab().node(1), INPUT)).split('\n').filter(line => line.startsWith('-A '));
      const before = await rules();
      assert.match(before[0] ?? '', /-j FAIRWAY-POLICY-INPUT$/);
      assert.match(before[1] ?? '', /FAIRWAY-INPUT$/);
      const foreign = ['-s', `${lab().pod(1, 2).addresses.ipv4}/32`, '-p', 'tcp', '-m', 'tcp', '--dport', '80', '-j', 'DROP'];
      await lab().expectRun(lab().node(1), ['iptables', '-I', 'INPUT', '2', ...foreign]);
      try {
        await enforce(FROM_CLIENTS);
        assert.deepEqual(await rules(), [before[0], `-A INPUT ${foreign.join(' ')}`, ...before.slice(1)]);
        assert.equal(await web(lab().pod(1, 2)), 'timeout');
        assert.equal(await web(lab().pod(1, 2), 'ipv4', 'udp'), 'pod-1-1 pod-2-1');
        assert.equal(await web(lab().pod(2, 2), 'ipv4', 'udp'), 'refused');
      } finally {
        await lab().expectRun(lab().node(1), ['iptables', '-D', 'INPUT', ...foreign]);
      }
    });

    it('lets the node to its own pods and not to those of another, through the Service too', async () => {
      await enforce(DENY_BOTH);
      await suite().cluster.put(...slices(lab(), [[1, 1]]));
      assert.equal(await web(lab().node(1)), 'pod-1-1');
      assert.equal(await web(lab().node(2)), 'refused');
    });
  },
);
