import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { type AddressPools, type EndpointSlice, keyOf, type Service } from '../../daemon/cluster/kinds.ts';
import { familyOf } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';
import { servicesModule } from '../../modules/services/module.ts';
import type { ServicesOptions } from '../../modules/services/options.ts';
import { addressPool, addressPools } from '../fixtures/address-pools.ts';
import { ADDRESSES, arbitraryService, arbitrarySlice, CLIENTS, PORTS } from '../fixtures/arbitrary-services.ts';
import { cidrs, hostFacts, ip, ips, nodeView, snapshot } from '../fixtures/cluster.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { type KernelHost, ServiceKernel } from '../models/service-kernel.ts';
import { type Fate, fateOf, type Packet, type World } from '../models/service-reference.ts';

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const ZONE = 'west';
const PRIMARY: World['primary'] = { ipv4: ip('192.168.1.1'), ipv6: ip('fd00:1::1') };
const HOST: KernelHost = { addresses: hostFacts().addresses.map(({ address }) => address), primary: PRIMARY };

/** Who asks, and a title for the count. */
const ASKERS: readonly (readonly [string, Packet['from']])[] = [
  ...Object.entries(CLIENTS).flatMap(([title, addresses]) => addresses.map(address => [title, address] as const)),
  ['the node itself', 'this node'],
];
const PACKETS: readonly { readonly asker: string; readonly packet: Packet }[] = ADDRESSES.flatMap(address =>
  ASKERS.filter(([, from]) => from === 'this node' || familyOf(from) === familyOf(address)).flatMap(([asker, from]) =>
    PORTS.flatMap(port => PROTOCOLS.map(protocol => ({ asker, packet: { from, address, port, protocol } }))),
  ),
);

const ANY_LOAD_BALANCER = cidrs('0.0.0.0/0', '::/0');

const arbitraryOptions: fc.Arbitrary<ServicesOptions> = fc
  .record({
    strictExternalIpValidation: fc.boolean(),
    externalIpRanges: fc.constantFrom([], cidrs('203.0.113.0/24', '2001:db8:1::/64'), cidrs('192.168.1.0/24', '10.96.0.0/16')),
    loadBalancerIpRanges: fc.constantFrom(
      [],
      ANY_LOAD_BALANCER,
      ANY_LOAD_BALANCER,
      cidrs('198.51.100.0/24', '192.168.1.0/24', '2001:db8:2::/64'),
    ),
    nodeportAddresses: fc.constantFrom([], cidrs('192.168.1.0/24'), cidrs('fd00:1::/64')),
    families: fc.constantFrom<ServicesOptions['families']>(
      { ipv4: 'auto', ipv6: 'auto' },
      { ipv4: 'off', ipv6: 'auto' },
      { ipv4: 'on', ipv6: 'off' },
    ),
    ipvsPermitAll: fc.boolean(),
    masqueradeAll: fc.constantFrom(false, false, false, true),
  })
  .map(servicesOptions);

/** Whether load-balancer addresses are allowed by named pools in place of the flag. */
const arbitraryWay = fc.constantFrom('flag' as const, 'pools' as const);

function poolsOf(prefixes: readonly IpPrefix[]): AddressPools {
  return addressPools(prefixes.map((prefix, index) => addressPool(`pool-${index}`, [prefix])));
}

/** Of objects with one key the last is what the API server has. */
function latest<T>(objects: readonly T[], key: (object: T) => string): readonly T[] {
  return [...new Map(objects.map(object => [key(object), object])).values()];
}

function worldOf(services: readonly Service[], slices: readonly EndpointSlice[], options: ServicesOptions): World {
  return {
    services,
    slices,
    nodeName: nodeView().name,
    zone: ZONE,
    nodeAddresses: nodeView().addresses,
    otherNodesAddresses: ips('192.168.1.2', 'fd00:1::2', '192.168.1.3', 'fd00:1::3'),
    servedFamilies: (['ipv4', 'ipv6'] as const).filter(family => options.families[family] !== 'off'),
    nodeportAddresses: options.nodeportAddresses,
    isStrict: options.strictExternalIpValidation,
    externalIpRanges: options.externalIpRanges,
    loadBalancerIpRanges: options.loadBalancerIpRanges,
    clusterIpRanges: options.clusterIpRanges,
    podCIDRs: nodeView().podCIDRs,
    primary: PRIMARY,
    masqueradesAll: options.masqueradeAll,
    hasFirewall: options.ipvsPermitAll,
  };
}

/** How the endpoints that a client meets may see it. */
const SERVED_KINDS: Readonly<Record<string, readonly string[]>> = {
  outside: ['as it is', 'as the node'],
  'a pod here': ['as it is', 'as the node'],
  'a pod elsewhere': ['as it is', 'as the node'],
  'the node itself': ['as the node'],
};

function kindsOf(fate: Fate, { from }: Packet): readonly string[] {
  if (typeof fate === 'string') return [fate];
  return [...new Set(Array.from(fate.values(), source => (source === from ? 'as it is' : 'as the node')))];
}

describe('Services against a naive reading of the Kubernetes documentation', function () {
  // Hundreds of random cases; a busy machine takes its time.
  this.timeout(60_000);

  it('every client meets at every address and port the endpoints it may, with the right source, or is refused or dropped', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(
        fc.array(arbitraryService, { minLength: 3, maxLength: 8 }),
        fc.array(arbitrarySlice, { minLength: 6, maxLength: 16 }),
        arbitraryOptions,
        arbitraryWay,
        (someServices, someSlices, options, way) => {
          const services = latest(someServices, service => keyOf(service.meta));
          const slices = latest(someSlices, slice => slice.meta.name);
          const cluster = { services, slices, node: nodeView({ zone: ZONE }) };
          const { fragments } =
            way === 'flag'
              ? servicesModule(options).plan(snapshot(cluster))
              : servicesModule({ ...options, loadBalancerIpRanges: [] }).plan(
                  snapshot({ ...cluster, addressPools: poolsOf(options.loadBalancerIpRanges) }),
                );
          const kernel = new ServiceKernel(fragments.values(), HOST);
          const world = worldOf(services, slices, options);
          for (const { asker, packet } of PACKETS) {
            const expected = fateOf(packet, world);
            for (const kind of kindsOf(expected, packet)) seen.set(`${asker}: ${kind}`, (seen.get(`${asker}: ${kind}`) ?? 0) + 1);
            const outcome = kernel.outcomeOf(packet);
            if (!isDeepStrictEqual(outcome, expected)) {
              assert.deepEqual(outcome, expected, `${packet.protocol} ${packet.from} > ${packet.address} ${packet.port}`);
            }
          }
        },
      ),
      { ...propertyRun('Services against the reference', 1500), plugins: [fc.unbiased()] },
    );
    for (const [asker] of ASKERS) {
      for (const kind of ['refused', 'dropped', 'left alone', ...(SERVED_KINDS[asker] ?? [])]) {
        assert.ok((seen.get(`${asker}: ${kind}`) ?? 0) > 100, `${asker}: hardly any ${kind}`);
      }
    }
  });
});
