/** A small cluster that one can read, and what it looks like under other options. */
import type { PolicyOptions } from '../../../modules/policy/options.ts';
import {
  ALL_CAPABILITIES,
  blockPeer,
  type Cluster,
  containerPort,
  direction,
  hostFacts,
  ips,
  namespace,
  networkPolicy,
  pod,
  podPeer,
  policyPort,
  policyRule,
  selector,
  service,
  slice,
} from '../../fixtures/cluster.ts';

export interface EmitCase {
  readonly title: string;
  /** Below `test/golden/policy`. */
  readonly golden: string;
  readonly cluster: Cluster;
  readonly options?: Partial<PolicyOptions>;
}

/** `web` and `db` are on this node, `client` is not; `idle` is selected by no policy. Two families. */
const SHOP: Cluster = {
  namespaces: [namespace('shop'), namespace('ops', { team: 'ops' })],
  pods: [
    pod('shop/web', '10.244.1.5', {
      labels: { app: 'web' },
      addresses: ips('10.244.1.5', 'fd00:10:1::5'),
      namedPorts: [containerPort('http', 8080)],
    }),
    pod('shop/db', '10.244.1.6', { labels: { app: 'db' }, addresses: ips('10.244.1.6', 'fd00:10:1::6') }),
    pod('shop/idle', '10.244.1.7', { labels: { app: 'idle' } }),
    pod('shop/client', '10.244.2.5', { labels: { app: 'client' }, addresses: ips('10.244.2.5', 'fd00:10:2::5') }),
    pod('ops/prometheus', '10.244.2.6', { labels: { app: 'prometheus' } }),
  ],
  networkPolicies: [
    networkPolicy('shop/web', {
      podSelector: selector({ app: 'web' }),
      ingress: direction(
        policyRule({ peers: [podPeer(selector({ app: 'client' }))], ports: [{ match: 'name', protocol: 'TCP', name: 'http' }] }),
        policyRule({
          peers: [podPeer(undefined, selector({ team: 'ops' }))],
          ports: [policyPort(9090), policyPort(9100, { last: 9110 })],
        }),
      ),
      egress: direction(
        policyRule({ peers: [podPeer(selector({ app: 'db' }))], ports: [policyPort(5432)] }),
        policyRule({ peers: [podPeer(undefined, selector())], ports: [policyPort(53, { protocol: 'UDP' })] }),
        policyRule({ peers: [blockPeer('0.0.0.0/0', '10.0.0.0/8', '192.168.1.1/32'), blockPeer('2001:db8::/32')] }),
      ),
    }),
    networkPolicy('shop/db', { podSelector: selector({ app: 'db' }) }),
  ],
  slices: [slice('shop/web', ['10.244.1.5', '10.244.2.5'])],
  services: [service('shop/outside', { clusterIPs: ips('172.20.0.1') })],
};

/** Each with a policy of its own. */
const ROW = Array.from({ length: 17 }, (_, number) => `p${number}`);

export const CASES: readonly EmitCase[] = [
  { title: 'a small cluster in both families', golden: 'shop', cluster: SHOP },
  {
    title: '--netpol-default-deny closes addresses of the pod CIDRs that are no known pod',
    golden: 'default-deny',
    cluster: SHOP,
    options: { defaultDeny: true, families: { ipv4: 'on', ipv6: 'off' } },
  },
  {
    title: '--netpol-deny-with=drop says nothing to anyone; a host without NFLOG tells nothing either',
    golden: 'drop-without-nflog',
    cluster: { ...SHOP, host: hostFacts({ capabilities: { ...ALL_CAPABILITIES, nflog: false } }) },
    options: { denyWith: 'drop', families: { ipv4: 'off', ipv6: 'on' } },
  },
  {
    title: 'a node without policies has what is cheap to ask and nothing else',
    golden: 'no-policies',
    cluster: { ...SHOP, networkPolicies: [] },
  },
  {
    title: 'more than 16 groups are found in two steps',
    golden: 'buckets',
    cluster: {
      namespaces: [namespace('default')],
      pods: ROW.map((name, index) => pod(name, `10.244.1.${10 + index}`, { labels: { name } })),
      networkPolicies: ROW.map(name => networkPolicy(name, { podSelector: selector({ name }) })),
    },
    options: { families: { ipv4: 'on', ipv6: 'off' } },
  },
];
