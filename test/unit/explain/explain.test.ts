import assert from 'node:assert/strict';
import { explanationText } from '../../../daemon/explain/explanation.ts';
import { tunnelName } from '../../../daemon/net/names.ts';
import type { IptablesEntry } from '../../../daemon/reconcile/tables.ts';
import { lanAnnouncerModule } from '../../../modules/lan-announcer/module.ts';
import { routingModule } from '../../../modules/routing/module.ts';
import { servicesModule } from '../../../modules/services/module.ts';
import {
  blockPeer,
  type Cluster,
  cidrs,
  direction,
  endpoint,
  endpointPort,
  ip,
  ips,
  networkPolicy,
  pod,
  podPeer,
  policyPort,
  policyRule,
  rib,
  selector,
  service,
  servicePort,
  slice,
  unreadyEndpoint,
  unusableDirection,
} from '../../fixtures/cluster.ts';
import { CLUSTER, clusterWith } from '../../fixtures/explain-cluster.ts';
import { type ExplainScene, explained, viewOf } from '../../fixtures/explain-scene.ts';
import { assertGolden } from '../../fixtures/golden.ts';
import { lanOptions, loadBalancer } from '../../fixtures/lan.ts';
import { routingOptions } from '../../fixtures/routing-options.ts';
import { servicesOptions } from '../../fixtures/services-options.ts';

interface Situation extends Partial<ExplainScene> {
  readonly cluster?: Cluster;
  /** What is asked, as on the command line. */
  readonly ask: string;
  /** The first line of the answer. */
  readonly answer: string;
}

const WEB = selector({ app: 'web' });
const ONLY_CLIENT = policyRule({ peers: [podPeer(selector({ app: 'client' }))], ports: [policyPort(8080)] });
const fromClient = networkPolicy('web', { podSelector: WEB, ingress: direction(ONLY_CLIENT) });
const HTTP = [endpointPort({ name: 'http', port: 8080 })];

const TUNNEL = tunnelName(ip('192.168.1.2'));

/** Announced by default. */
const ADVERTISING = { advertise: { clusterIP: false, externalIP: true, loadBalancerIP: true } } as const;
const vip = (deviations: Parameters<typeof service>[1] = {}): ReturnType<typeof service> =>
  service('vip', { type: 'LoadBalancer', clusterIPs: ips('10.96.0.12'), loadBalancerIPs: ips('198.51.100.9'), ...deviations });

const SITUATIONS: Readonly<Record<string, Situation>> = {
  'cluster-ip': {
    ask: 'client svc/web http',
    answer: 'allowed: to default/web-1 (10.244.1.5:8080), default/web-2 (10.244.2.5:8080), which see default/client (10.244.1.6)',
  },
  'allowed-by-policy': {
    cluster: clusterWith({ networkPolicies: [fromClient] }),
    ask: 'default/client default/web-1 tcp/8080',
    answer: 'allowed: default/web-1 (10.244.1.5) sees default/client (10.244.1.6)',
  },
  'denied-ingress': {
    cluster: clusterWith({ networkPolicies: [fromClient] }),
    ask: 'other web-1 8080',
    answer: 'denied by NetworkPolicy default/web: no ingress rule of it allows tcp/8080 from default/other (10.244.2.6)',
  },
  'denied-port': {
    cluster: clusterWith({ networkPolicies: [fromClient] }),
    ask: 'client web-1 9090',
    answer: 'denied by NetworkPolicy default/web: no ingress rule of it allows tcp/9090 from default/client (10.244.1.6)',
  },
  'denied-egress': {
    cluster: clusterWith({
      networkPolicies: [
        networkPolicy('leave', {
          podSelector: selector({ app: 'client' }),
          ingress: undefined,
          egress: direction(policyRule({ peers: [blockPeer('10.0.0.0/8', '10.244.0.0/16')] })),
        }),
      ],
    }),
    ask: 'client web 80',
    answer: 'denied by NetworkPolicy default/leave: no egress rule of it allows tcp/8080 to default/web-1 (10.244.1.5)',
  },
  'denied-expected': {
    cluster: clusterWith({ networkPolicies: [fromClient] }),
    ask: 'host web-2 8080',
    answer:
      'denied by NetworkPolicy default/web: no ingress rule of it allows tcp/8080 from node-1 (192.168.1.1) (expected: node-2 judges)',
  },
  'default-deny': {
    cluster: clusterWith({ networkPolicies: [networkPolicy('deny-all'), fromClient] }),
    ask: 'other web-1 8080',
    answer:
      'denied by NetworkPolicy default/deny-all, default/web: no ingress rule of them allows tcp/8080 from default/other (10.244.2.6)',
  },
  'unusable-policy': {
    cluster: clusterWith({ networkPolicies: [networkPolicy('broken', { ingress: unusableDirection() })] }),
    ask: 'client web-1 8080',
    answer: 'denied by NetworkPolicy default/broken: its ingress cannot be used: spec.ingress: 5: not a list',
  },
  'no-endpoint': {
    cluster: clusterWith({ services: [service('empty', { clusterIPs: ips('10.96.0.20') })] }),
    ask: 'client empty 80',
    answer: 'refused: Service default/empty has no ready endpoint for tcp/80: it has none at all',
  },
  'endpoint-not-ready': {
    cluster: clusterWith({ slices: [slice('web', [unreadyEndpoint('10.244.1.5')], { ports: HTTP })] }),
    ask: 'client web 80',
    answer: 'refused: Service default/web has no ready endpoint for tcp/80: it has 10.244.1.5:8080 not ready',
  },
  'endpoint-not-ready-among-others': {
    cluster: clusterWith({ slices: [slice('web', [unreadyEndpoint('10.244.1.5'), '10.244.2.5'], { ports: HTTP })] }),
    ask: 'client web 80',
    answer: 'allowed: to default/web-2 (10.244.2.5:8080), which sees default/client (10.244.1.6)',
  },
  'wrong-port': {
    ask: 'client web 81',
    answer: 'refused: no Service has tcp/81 at 10.96.0.10: Service default/web has tcp/80',
  },
  'outside-source-ranges': {
    ask: '8.8.8.8 shop 80',
    routing: ADVERTISING,
    answer: 'dropped: client outside loadBalancerSourceRanges of Service default/shop: 8.8.8.8 is in none of 172.16.0.0/12',
  },
  'inside-source-ranges': {
    ask: '172.16.0.9 shop 80',
    routing: ADVERTISING,
    answer: 'allowed: to default/web-1 (10.244.1.5:8080), which sees 172.16.0.9',
  },
  'missing-route': {
    ask: 'client far 80',
    answer:
      "unreachable: no route to node-3's pod CIDR 10.244.3.0/24: no BGP path, and no route from its Node object: the session with node-3 (192.168.1.3) told none",
  },
  'route-from-node-object': {
    ask: 'client far 80',
    routing: { podRoutes: 'api' },
    answer: 'allowed: default/far (10.244.3.6) sees default/client (10.244.1.6)',
  },
  'failing-route': {
    ask: 'client far 80',
    routing: { podRoutes: 'api' },
    refused: { 'unicastRoute 254 10.244.3.0/24': 'RTNETLINK answers: Network is unreachable' },
    answer: "failing: no route to node-3's pod CIDR 10.244.3.0/24: RTNETLINK answers: Network is unreachable",
  },
  'missing-tunnel': {
    ask: 'client web-2 8080',
    routing: { overlay: { reach: 'full', encapsulation: 'ipip', port: 5555 } },
    missing: [`link ${TUNNEL}`],
    answer: `unreachable: the tunnel ${TUNNEL} to it is not in the kernel`,
  },
  'withdrawn-by-annotation': {
    cluster: clusterWith({
      services: [vip({ annotations: { 'kube-router.io/service.advertise.loadbalancerip': 'false' } })],
      slices: [slice('vip', ['10.244.1.5'])],
    }),
    routing: ADVERTISING,
    ask: '172.16.0.9 vip 80',
    answer:
      "withdrawn: the VIP 198.51.100.9 is not announced by node-1 because Service default/vip has the annotation kube-router.io/service.advertise.loadbalancerip: 'false'",
  },
  'withdrawn-by-flags': {
    cluster: clusterWith({ services: [vip()], slices: [slice('vip', ['10.244.1.5'])] }),
    ask: '172.16.0.9 vip 80',
    answer:
      'withdrawn: the VIP 198.51.100.9 is not announced by node-1 because neither a flag (--advertise-cluster-ip, --advertise-external-ip, --advertise-loadbalancer-ip) nor the annotation kube-router.io/service.advertise.loadbalancerip of Service default/vip asks for it',
  },
  'withdrawn-no-local-endpoint': {
    cluster: clusterWith({ services: [vip({ externalTrafficPolicy: 'Local' })], slices: [slice('vip', ['10.244.2.5'])] }),
    routing: ADVERTISING,
    ask: '172.16.0.9 vip 80',
    answer:
      'withdrawn: the VIP 198.51.100.9 is not announced by node-1 because Service default/vip has traffic policy Local and no ready endpoint on node-1; nodes with one announce it',
  },
  'withdrawn-no-endpoint': {
    cluster: clusterWith({ services: [vip()] }),
    routing: ADVERTISING,
    ask: '172.16.0.9 vip 80',
    answer: 'withdrawn: the VIP 198.51.100.9 is not announced by node-1 because Service default/vip has no ready endpoint',
  },
  'address-outside-ranges': {
    cluster: clusterWith({ services: [vip({ loadBalancerIPs: ips('192.0.2.1') })], slices: [slice('vip', ['10.244.1.5'])] }),
    ask: 'client 192.0.2.1 80',
    answer:
      'unserved: Service default/vip, tcp/80 at 192.0.2.1: Service default/vip: load-balancer IP 192.0.2.1 is rejected: it is outside --loadbalancer-ip-range (198.51.100.0/24,2001:db8:2::/64). Add a range that holds it to --loadbalancer-ip-range, or set --strict-external-ip-validation=false.',
  },
  'local-policy-none-here': {
    cluster: clusterWith({
      services: [service('local', { clusterIPs: ips('10.96.0.21'), internalTrafficPolicy: 'Local' })],
      slices: [slice('local', ['10.244.2.5'])],
    }),
    ask: 'client local 80',
    answer: 'dropped: the internal traffic policy of Service default/local is Local, and it has no ready endpoint on node-1',
  },
  'local-policy-from-inside': {
    cluster: clusterWith({ services: [vip({ externalTrafficPolicy: 'Local' })], slices: [slice('vip', ['10.244.2.5'])] }),
    ask: 'client 198.51.100.9 80',
    answer: 'allowed: to default/web-2 (10.244.2.5:8080), which sees default/client (10.244.1.6)',
  },
  'contest-lost': {
    cluster: clusterWith({ services: [service('late', { age: 60_000 })], slices: [slice('late', ['10.244.2.6'])] }),
    ask: 'client late 80',
    answer: 'lost: Service default/web, which is older, has tcp/80 at 10.96.0.10; Service default/late does not get it',
  },
  'failing-virtual-server': {
    refused: { 'virtualServer TCP 10.96.0.10:80': 'ipvsadm: Memory allocation problem' },
    ask: 'client web 80',
    answer:
      'failing: virtualServer TCP 10.96.0.10:80 of Service default/web is not in the kernel as wanted: ipvsadm: Memory allocation problem; until then unserved: Service default/web, tcp/80 at 10.96.0.10: IPVS has no virtual service for it',
  },
  'pending-endpoint-set': {
    missing: ['ipset kube-router-svip-prt 10.96.0.10,tcp:80'],
    ask: 'client web 80',
    answer:
      'pending: ipset kube-router-svip-prt 10.96.0.10,tcp:80 of Service default/web is not in the kernel as wanted yet; until then refused: no Service has tcp/80 at 10.96.0.10: Service default/web has tcp/80',
  },
  hairpin: {
    ask: 'web-1 web 80',
    answer:
      'allowed: to default/web-1 (10.244.1.5:8080), default/web-2 (10.244.2.5:8080), which see node-1 (192.168.1.1) or default/web-1 (10.244.1.5)',
  },
  'node-port': {
    ask: '172.16.0.9 node-1 30080',
    answer:
      'allowed: to default/web-1 (10.244.1.5:8080), default/web-2 (10.244.2.5:8080), which see 172.16.0.9 or node-1 (192.168.1.1)',
  },
  'node-port-of-other-node': {
    ask: 'client node-2 30080',
    answer: 'decided on node-2: it balances the node port of Service default/web; nothing here stops the packet on its way there',
  },
  'host-network': {
    ask: 'host web 80',
    answer: 'allowed: to default/web-1 (10.244.1.5:8080), default/web-2 (10.244.2.5:8080), which see node-1 (192.168.1.1)',
  },
  'host-network-endpoint': {
    cluster: clusterWith({
      slices: [slice('web', [endpoint('192.168.1.1', { nodeName: 'node-1' })], { ports: HTTP })],
    }),
    ask: 'client web 80',
    answer: 'allowed: to 192.168.1.1:8080, which sees default/client (10.244.1.6)',
  },
  'to-the-node': {
    ask: 'client node-1 22',
    answer: 'allowed: no rule of ours stops it; a process of the host answers, if one listens on tcp/22',
  },
  'to-the-world': {
    ask: 'client 8.8.8.8 443',
    answer: 'allowed: 8.8.8.8 sees node-1 (192.168.1.1)',
  },
  ping: {
    ask: 'client web icmp',
    answer: 'allowed: the host answers',
  },
  ipv6: {
    cluster: clusterWith({ pods: [pod('client', 'fd00:10:1::9')] }),
    ask: 'client six 80',
    answer: 'allowed: to default/six ([fd00:10:1::6]:8080), which sees default/client (fd00:10:1::9)',
  },
  'client-elsewhere': {
    cluster: clusterWith({ networkPolicies: [fromClient] }),
    ask: 'other web 80',
    answer:
      'decided on node-2: run it there; read off the objects, expected: denied by NetworkPolicy default/web: no ingress rule of it allows tcp/8080 from default/other (10.244.2.6)',
  },
  'between-other-nodes': {
    ask: 'other far 80',
    answer: 'decided on node-2: run it there; read off the objects, expected: allowed',
  },
  'direct-return': {
    cluster: clusterWith({
      services: [vip({ annotations: { 'kube-router.io/service.dsr': 'tunnel' }, ports: [servicePort({ port: 8080 })] })],
      slices: [slice('vip', ['10.244.2.5'])],
    }),
    routing: ADVERTISING,
    ask: '172.16.0.9 vip 8080',
    answer: 'allowed: to default/web-2 (10.244.2.5:8080), which sees 172.16.0.9',
  },
  partly: {
    cluster: clusterWith({
      services: [service('web', { ports: [servicePort({ name: 'http' })] })],
      slices: [slice('web', ['10.244.1.5', '10.244.3.6'], { ports: HTTP })],
    }),
    ask: 'client web 80',
    answer:
      "partly: 1 of 2 endpoints answer; default/far (10.244.3.6:8080): unreachable: no route to node-3's pod CIDR 10.244.3.0/24: no BGP path, and no route from its Node object: the session with node-3 (192.168.1.3) told none",
  },
  'unknown-rule': {
    changed: {
      'iptables ipv4 filter FAIRWAY-SERVICES': {
        kind: 'chain',
        family: 'ipv4',
        table: 'filter',
        name: 'FAIRWAY-SERVICES',
        rules: ['-m physdev --physdev-is-bridged -j DROP', '-m set --match-set kube-router-svip-prt dst,dst -j ACCEPT'],
      } satisfies IptablesEntry,
    },
    ask: 'client web 80',
    answer:
      'allowed: to default/web-1 (10.244.1.5:8080), default/web-2 (10.244.2.5:8080), which see default/client (10.244.1.6); unless a rule decides otherwise that is not known here',
  },
  'direct-return-denied': {
    cluster: clusterWith({
      services: [vip({ annotations: { 'kube-router.io/service.dsr': 'tunnel' }, ports: [servicePort({ port: 8080 })] })],
      slices: [slice('vip', ['10.244.2.5'])],
      networkPolicies: [
        networkPolicy('clients', {
          podSelector: WEB,
          ingress: direction(policyRule({ peers: [blockPeer('172.16.0.0/12')], ports: [policyPort(8080)] })),
        }),
      ],
    }),
    routing: ADVERTISING,
    ask: '172.16.0.9 vip 8080',
    answer:
      'denied by NetworkPolicy default/clients: no ingress rule of it allows ipip from node-1 (192.168.1.1) (expected: node-2 judges)',
  },
  unsettled: {
    cluster: clusterWith({ rib: { ...rib(), isSettled: false } }),
    ask: 'client other 80',
    answer:
      "unreachable: no route to node-2's pod CIDR 10.244.2.0/24: no BGP path, and no route from its Node object: the session with node-2 (192.168.1.2) told none; not every neighbour has told all it has yet",
  },
};

describe('an address that is answered for on the local network', () => {
  const services = [vip({ loadBalancer: loadBalancer('', ips('198.51.100.9')) })];
  const cluster = clusterWith({ services, slices: [slice('vip', ['10.244.1.5'])] });
  const modules = [servicesModule(servicesOptions()), lanAnnouncerModule(lanOptions()), routingModule(routingOptions())];

  it('is not withdrawn, though BGP says nothing of it', () => {
    const answer = explanationText(explained({ cluster, modules }, '172.16.0.9 vip 80'));
    assert.match(answer, /^allowed: /);
    assert.match(answer, /answered for on the local network by node-1: 198.51.100.9 on eth0/);
  });

  it('is withdrawn here where another node answers', () => {
    const missing = ['lanAddress 198.51.100.9 eth0'];
    assert.match(explanationText(explained({ cluster, modules, missing }, '172.16.0.9 vip 80')), /^withdrawn: /);
  });
});

describe('fairway why', () => {
  for (const [name, { ask, answer, ...scene }] of Object.entries(SITUATIONS)) {
    it(`${name}: ${ask}`, () => {
      const explanation = explained({ cluster: CLUSTER, ...scene }, ask);
      assert.equal(explanation.summary, answer);
      assertGolden(`explain/${name}.txt`, `$ fairway why ${ask}\n${explanationText(explanation)}`);
      // It goes over a socket.
      assert.deepEqual(JSON.parse(JSON.stringify(explanation)), explanation);
    });
  }

  it('says that Services are not its own where that module does not run', () => {
    const view = viewOf({ cluster: CLUSTER, modules: [] });
    assert.deepEqual(view.moduleNames, []);
    const { verdict } = explained({ cluster: CLUSTER, modules: [] }, 'client web 80');
    assert.equal(verdict.outcome, 'unserved');
    assert.match(verdict.reason, /the module services does not run here/);
  });

  it('says nothing of routes where that module does not run', () => {
    const { verdict, steps } = explained({ cluster: CLUSTER, modules: [] }, 'client far 80');
    assert.equal(verdict.outcome, 'allowed');
    assert.ok(steps.some(({ what, state }) => state === 'unknown' && what.includes('not ours to know')));
  });

  it('names the complaints about the objects that are involved, and no others', () => {
    const cluster = clusterWith({
      services: [
        service('web', { annotations: { 'kube-router.io/service.scheduler': 'nonsense' } }),
        service('else', { clusterIPs: ips('10.96.0.30'), annotations: { 'kube-router.io/service.scheduler': 'nonsense' } }),
      ],
      slices: [slice('web', ['10.244.1.5'])],
    });
    const warnings = explained({ cluster }, 'client web 80').steps.filter(({ state }) => state === 'warning');
    assert.deepEqual(
      warnings.map(({ objects }) => objects),
      [['Service default/web']],
    );
  });

  it('tells of a set of many ranges by the one that lets in', () => {
    const ranges = cidrs('10.0.0.0/9', '172.16.0.0/12', '192.0.2.0/24');
    const cluster = clusterWith({
      services: [vip({ loadBalancerSourceRanges: ranges })],
      slices: [slice('vip', ['10.244.1.5'])],
    });
    assert.equal(explained({ cluster, routing: ADVERTISING }, '172.31.255.255 vip 80').verdict.outcome, 'allowed');
    assert.equal(explained({ cluster, routing: ADVERTISING }, '172.32.0.0 vip 80').verdict.outcome, 'dropped');
  });
});
