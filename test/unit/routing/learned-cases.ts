/** What becomes of a route that a neighbour told. */
import type { LearnedRoute } from '../../../daemon/cluster/snapshot.ts';
import type { RoutingOptions } from '../../../modules/routing/options.ts';
import { type Cluster, hostAddress, hostFacts, learned, rib } from '../../fixtures/cluster.ts';
import { overlay } from '../../fixtures/routing-options.ts';
import { POD_ROUTES } from '../../fixtures/routing-scene.ts';
import type { Case } from './case.ts';

const ROUTER = '192.168.1.254';

function told(
  title: string,
  golden: string,
  routes: readonly LearnedRoute[],
  options: Partial<RoutingOptions> = {},
  cluster: Cluster = {},
): Case {
  return { title, golden: `learned-${golden}`, cluster: { ...cluster, rib: rib(...POD_ROUTES, ...routes) }, options };
}

export const LEARNED_CASES: readonly Case[] = [
  told('from a router on our network: straight to it', 'router', [
    learned('10.9.0.0/16', ROUTER),
    learned('2001:db8:9::/48', 'fd00:1::fe'),
  ]),
  told('default routes and martians are refused, and what holds martians is not', 'martians', [
    learned('0.0.0.0/0', ROUTER),
    learned('::/0', 'fd00:1::fe'),
    learned('127.0.0.0/9', ROUTER),
    learned('0.1.0.0/16', ROUTER),
    learned('169.254.169.254/32', ROUTER),
    learned('224.0.0.0/4', ROUTER),
    learned('255.255.255.255/32', ROUTER),
    learned('::1/128', 'fd00:1::fe'),
    learned('::ffff:10.0.0.0/104', 'fd00:1::fe'),
    learned('fe80::/64', 'fd00:1::fe'),
    learned('ff02::/16', 'fd00:1::fe'),
    learned('128.0.0.0/1', ROUTER),
  ]),
  told('our own pod CIDR and what lies in it are refused; what holds it is not', 'own-pods', [
    learned('10.244.1.0/24', ROUTER),
    learned('10.244.1.128/25', 'node 192.168.1.2'),
    learned('fd00:10:1::5/128', 'fd00:1::fe'),
    learned('10.244.0.0/16', ROUTER),
  ]),
  told('addresses of nodes and of this host are refused', 'node-addresses', [
    learned('192.168.1.2/32', ROUTER),
    learned('192.168.2.4/32', ROUTER),
    learned('fd00:2::4/128', 'fd00:1::fe'),
    learned('192.168.1.1/32', ROUTER),
    learned('10.244.1.1/32', ROUTER),
    learned('192.168.2.5/32', ROUTER),
  ]),
  told('a next hop that is this host is none', 'ourselves', [
    learned('10.9.0.0/16', '192.168.1.1'),
    learned('10.8.0.0/16', 'node 10.244.1.1'),
  ]),
  told('what an external neighbour tells over a router further away is left to the fabric', 'off-subnet-external', [
    learned('10.9.0.0/16', '192.168.7.1'),
  ]),
  told('what leads over a node elsewhere goes through its tunnel, whoever told it', 'off-subnet-node', [
    learned('10.9.0.0/16', 'node 192.168.2.4'),
    learned('10.8.0.0/16', '192.168.2.4'),
  ]),
  told('without an overlay neither has a way', 'off-subnet-overlay-off', [learned('10.9.0.0/16', 'node 192.168.2.4')], {
    overlay: undefined,
  }),
  told('equal best paths share the flows', 'ecmp', [learned('10.9.0.0/16', ROUTER, '192.168.1.253', 'node 192.168.2.4')]),
  told('equal paths by vxlan share one link', 'ecmp-vxlan', [learned('10.9.0.0/16', 'node 192.168.2.5', 'node 192.168.2.4')], {
    overlay: overlay({ encapsulation: 'vxlan' }),
  }),
  told('of equal best paths one that cannot be used is left out', 'ecmp-unusable', [
    learned('10.9.0.0/16', ROUTER, '192.168.7.1', '192.168.1.1'),
  ]),
  told('a next hop of the other family is not used', 'other-family', [
    learned('10.9.0.0/16', 'fd00:1::fe'),
    learned('2001:db8:9::/48', ROUTER),
  ]),
  told('a prefix with the next hop in it does not lead into the tunnel that needs it', 'recursive', [
    learned('192.168.2.0/24', 'node 192.168.2.4'),
    learned('192.168.0.0/16', 'node 192.168.2.4', ROUTER),
    learned('fd00:2::/64', 'node fd00:2::4'),
  ]),
  told(
    'a prefix around our network leads to the router in it all the same',
    'around-our-network',
    [learned('192.168.0.0/16', ROUTER), learned('192.0.0.0/8', 'node 192.168.1.2')],
    { overlay: overlay({ reach: 'full' }) },
  ),
  told(
    'a next hop on a network of a second link',
    'second-link',
    [learned('10.9.0.0/16', '172.16.0.254')],
    {},
    {
      host: hostFacts({ addresses: [...hostFacts().addresses, hostAddress('eth1', '172.16.0.1/24')] }),
    },
  ),
  told('of a family that is off', 'family-off', [learned('2001:db8:9::/48', 'fd00:1::fe')], {
    families: { ipv4: 'auto', ipv6: 'off' },
  }),
  told(
    'addresses on links of pods, Services and tunnels make no network of ours',
    'inner-links',
    [learned('10.9.0.0/16', '10.244.1.9'), learned('10.8.0.0/16', '10.96.0.10')],
    {},
    {
      host: hostFacts({
        addresses: [
          ...hostFacts().addresses,
          hostAddress('kube-dummy-if', '10.96.0.10/32'),
          hostAddress('tun-0123456789a', '10.99.0.1/16'),
        ],
      }),
    },
  ),
];
