/** Which addresses of Services are announced: flags, annotations, traffic policies, endpoints. */
import type { EndpointSlice, Service } from '../../../daemon/cluster/kinds.ts';
import type { RoutingOptions } from '../../../modules/routing/options.ts';
import { ips, node, service, slice, terminatingEndpoint, unreadyEndpoint } from '../../fixtures/cluster.ts';
import type { Case } from './case.ts';

const ALL: Partial<RoutingOptions> = { advertise: { clusterIP: true, externalIP: true, loadBalancerIP: true } };
const HERE_AND_THERE = slice('web', ['10.244.1.5', '10.244.2.5']);
const ONLY_THERE = slice('web', ['10.244.2.5']);

/** With an address of each origin. */
function web(deviations: Partial<Service> = {}): Service {
  return service('web', {
    type: 'LoadBalancer',
    externalIPs: ips('203.0.113.7'),
    loadBalancerIPs: ips('198.51.100.7'),
    ...deviations,
  });
}

function announced(
  title: string,
  golden: string,
  {
    services = [web()],
    slices = [HERE_AND_THERE],
  }: { readonly services?: readonly Service[]; readonly slices?: readonly EndpointSlice[] } = {},
  options: Partial<RoutingOptions> = ALL,
): Case {
  return { title, golden: `service-${golden}`, cluster: { services, slices }, options };
}

function advertise(...origins: readonly (keyof RoutingOptions['advertise'])[]): Partial<RoutingOptions> {
  const has = (origin: keyof RoutingOptions['advertise']): boolean => origins.includes(origin);
  return { advertise: { clusterIP: has('clusterIP'), externalIP: has('externalIP'), loadBalancerIP: has('loadBalancerIP') } };
}

const advertised = (origin: string, value: string): Service['annotations'] => ({
  [`kube-router.io/service.advertise.${origin}`]: value,
});
const LOCAL = { internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' } as const;

export const SERVICE_CASES: readonly Case[] = [
  announced('by default no address is announced', 'nothing', {}, {}),
  announced('--advertise-cluster-ip', 'cluster-ip', {}, advertise('clusterIP')),
  announced('--advertise-external-ip', 'external-ip', {}, advertise('externalIP')),
  announced('--advertise-loadbalancer-ip', 'load-balancer-ip', {}, advertise('loadBalancerIP')),
  announced(
    'an annotation announces what the flag does not',
    'annotation-on',
    { services: [web({ annotations: advertised('clusterip', 'T') })] },
    {},
  ),
  announced('an annotation keeps back what the flag announces', 'annotation-off', {
    services: [web({ annotations: advertised('externalip', '0') })],
  }),
  announced('an annotation that is no truth value is told, and that address is not announced', 'annotation-broken', {
    services: [web({ annotations: { ...advertised('loadbalancerip', 'yes'), ...advertised('clusterip', 'TRUE') } })],
  }),
  announced('load-balancer addresses of another type of Service are not announced', 'load-balancer-ip-of-node-port', {
    services: [web({ type: 'NodePort' })],
  }),
  announced('Local policies: announced where an endpoint is on this node', 'local-here', { services: [web(LOCAL)] }),
  announced('Local policies: not announced where none is', 'local-elsewhere', { services: [web(LOCAL)], slices: [ONLY_THERE] }),
  announced('internalTrafficPolicy Local concerns the ClusterIP alone', 'internal-local', {
    services: [web({ internalTrafficPolicy: 'Local' })],
    slices: [ONLY_THERE],
  }),
  announced('externalTrafficPolicy Local concerns the other addresses alone', 'external-local', {
    services: [web({ externalTrafficPolicy: 'Local' })],
    slices: [ONLY_THERE],
  }),
  announced('kube-router.io/service.local makes both policies Local', 'annotation-local', {
    services: [web({ annotations: { 'kube-router.io/service.local': 'true' } })],
    slices: [ONLY_THERE],
  }),
  announced('an unready local endpoint does not count', 'local-unready', {
    services: [web(LOCAL)],
    slices: [slice('web', [unreadyEndpoint('10.244.1.5'), '10.244.2.5'])],
  }),
  announced('a local endpoint that terminates and still serves does', 'local-terminating', {
    services: [web(LOCAL)],
    slices: [slice('web', [terminatingEndpoint('10.244.1.5'), '10.244.2.5'])],
  }),
  announced('an endpoint whose node is not told is on no node', 'local-no-node', {
    services: [web(LOCAL)],
    slices: [slice('web', ['172.16.0.9'])],
  }),
  announced('without a usable endpoint anywhere nothing is announced', 'no-endpoints', {
    slices: [slice('web', [unreadyEndpoint('10.244.2.5')])],
  }),
  announced('without slices nothing is announced', 'no-slices', { slices: [] }),
  announced('a dual-stack Service announces of each family what has endpoints of it', 'dual-stack', {
    services: [web({ clusterIPs: ips('10.96.0.10', 'fd00:96::a'), loadBalancerIPs: ips('198.51.100.7', '2001:db8:2::7') })],
    slices: [HERE_AND_THERE, slice('web', [unreadyEndpoint('fd00:10:1::5')], { name: 'web-v6' })],
  }),
  announced('an IPv6 Service', 'ipv6', {
    services: [web({ clusterIPs: ips('fd00:96::a'), loadBalancerIPs: ips('2001:db8:2::7'), externalIPs: [] })],
    slices: [slice('web', ['fd00:10:2::5'])],
  }),
  announced('two Services with one address announce it together', 'shared-address', {
    services: [web(), service('other', { clusterIPs: ips('10.96.0.11'), externalIPs: ips('203.0.113.7') })],
    slices: [HERE_AND_THERE, slice('other', ['10.244.2.6'])],
  }),
  announced(
    'an address that is external and of the load balancer is announced where either is',
    'address-twice',
    { services: [web({ externalIPs: ips('198.51.100.7') })] },
    { ...advertise('loadBalancerIP'), strictExternalIpValidation: false },
  ),
  announced('kube-router.io/service.skiplbips leaves out load-balancer addresses', 'skiplbips', {
    services: [web({ annotations: { 'kube-router.io/service.skiplbips': '' } })],
  }),
  announced(
    'addresses outside the ranges are not announced; where the proxy is off this is told here',
    'strict',
    {
      services: [web({ externalIPs: ips('192.0.2.1'), loadBalancerIPs: ips('10.96.7.7') })],
    },
    { ...ALL, tellsOfAddresses: true },
  ),
  announced(
    '--strict-external-ip-validation=false takes all',
    'not-strict',
    {
      services: [web({ externalIPs: ips('192.0.2.1'), loadBalancerIPs: ips('10.96.7.7') })],
    },
    { ...ALL, strictExternalIpValidation: false },
  ),
  announced(
    'a nonsense service.local is told where the proxy is off',
    'local-nonsense',
    {
      services: [web({ annotations: { 'kube-router.io/service.local': 'maybe' } })],
    },
    { ...ALL, tellsOfAddresses: true },
  ),
  announced('headless and ExternalName Services have nothing to announce', 'headless', {
    services: [web({ headless: true }), service('ext', { type: 'ExternalName', externalIPs: ips('203.0.113.9') })],
    slices: [HERE_AND_THERE, slice('ext', ['10.244.1.9'])],
  }),
  announced('a Service without selector is announced by the endpoints that its author wrote', 'selector-less', {
    slices: [slice('web', ['172.16.0.9'])],
  }),
  {
    ...announced('without any BGP there is nobody to tell', 'without-bgp', {}, { ...ALL, ibgp: false }),
    golden: 'service-without-bgp',
  },
  {
    title: 'a node without an address of the family has no next hop to tell',
    golden: 'service-no-next-hop',
    cluster: {
      nodes: [node(1, { internalIPs: ips('192.168.1.1') }), node(2)],
      services: [web({ clusterIPs: ips('10.96.0.10', 'fd00:96::a'), externalIPs: [], loadBalancerIPs: [] })],
      slices: [HERE_AND_THERE, slice('web', ['fd00:10:1::5'], { name: 'web-v6' })],
    },
    options: ALL,
  },
];
