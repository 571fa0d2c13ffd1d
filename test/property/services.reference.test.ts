import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type EndpointSlice, keyOf, type Service } from '../../daemon/cluster/kinds.ts';
import { familyOf } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { type Fragment, ownerKey } from '../../daemon/reconcile/fragment.ts';
import { destinationKey, listenerKey, type VirtualServer } from '../../daemon/reconcile/tables.ts';
import { servicesModule } from '../../modules/services/module.ts';
import type { ServicesOptions } from '../../modules/services/options.ts';
import { ADDRESSES, arbitraryService, arbitrarySlice, PORTS } from '../fixtures/arbitrary-services.ts';
import { cidrs, hostFacts, ips, nodeView, snapshot } from '../fixtures/cluster.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { type Fate, fateOf, type Packet, type World } from '../models/service-reference.ts';

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const PACKETS: readonly Packet[] = ADDRESSES.flatMap(address =>
  PORTS.flatMap(port => PROTOCOLS.map(protocol => ({ address, port, protocol }))),
);

const arbitraryOptions: fc.Arbitrary<ServicesOptions> = fc
  .record({
    strictExternalIpValidation: fc.boolean(),
    externalIpRanges: fc.constantFrom([], cidrs('203.0.113.0/24', '2001:db8:1::/64'), cidrs('192.168.1.0/24', '10.96.0.0/16')),
    loadBalancerIpRanges: fc.constantFrom([], cidrs('198.51.100.0/24', '2001:db8:2::/64')),
    nodeportAddresses: fc.constantFrom([], cidrs('192.168.1.0/24'), cidrs('fd00:1::/64')),
    families: fc.constantFrom<ServicesOptions['families']>(
      { ipv4: 'auto', ipv6: 'auto' },
      { ipv4: 'off', ipv6: 'auto' },
      { ipv4: 'on', ipv6: 'off' },
    ),
    ipvsPermitAll: fc.boolean(),
  })
  .map(servicesOptions);

/** Of objects with one key the last is what the API server has. */
function latest<T>(objects: readonly T[], key: (object: T) => string): readonly T[] {
  return [...new Map(objects.map(object => [key(object), object])).values()];
}

function worldOf(services: readonly Service[], slices: readonly EndpointSlice[], options: ServicesOptions): World {
  return {
    services,
    slices,
    nodeName: nodeView().name,
    nodeAddresses: nodeView().addresses,
    otherNodesAddresses: ips('192.168.1.2', 'fd00:1::2', '192.168.1.3', 'fd00:1::3'),
    servedFamilies: (['ipv4', 'ipv6'] as const).filter(family => options.families[family] !== 'off'),
    nodeportAddresses: options.nodeportAddresses,
    isStrict: options.strictExternalIpValidation,
    externalIpRanges: options.externalIpRanges,
    loadBalancerIpRanges: options.loadBalancerIpRanges,
    clusterIpRanges: options.clusterIpRanges,
  };
}

/** The kernel as the plan would make it, and a packet's way through it: local address, drop set, firewall, IPVS. */
class Kernel {
  readonly #local = new Set<string>(hostFacts().addresses.map(({ address }) => address));
  readonly #elements = new Set<string>();
  readonly #servers = new Map<string, VirtualServer>();
  readonly #sets = new Set<string>();

  constructor(fragments: Iterable<Fragment>) {
    const byAge = [...fragments].sort(
      (a, b) => a.owner.since - b.owner.since || (ownerKey(a.owner) < ownerKey(b.owner) ? -1 : 1),
    );
    for (const { entries } of byAge) {
      for (const { table, key, value } of entries) {
        if (table === 'address') this.#local.add(value.address);
        if (table === 'ipset') (value.kind === 'set' ? this.#sets : this.#elements).add(key);
        if (table === 'virtualServer' && !this.#servers.has(key)) this.#servers.set(key, value);
      }
    }
  }

  /** Elements whose set is not there: the kernel would refuse them. */
  strayElements(): readonly string[] {
    return [...this.#elements].filter(element => !this.#sets.has(element.slice(0, element.indexOf(' '))));
  }

  fateOf({ address, port, protocol }: Packet): Fate {
    const prefix = familyOf(address) === 'ipv6' ? 'inet6:' : '';
    const element = `${address},${protocol.toLowerCase()}:${port}`;
    if (!this.#local.has(address)) return 'not-a-service';
    if (this.#elements.has(`${prefix}fairway-drop ${element}`)) return 'dropped';
    const isBehindFirewall =
      this.#sets.has(`${prefix}kube-router-svip-prt`) && this.#elements.has(`${prefix}kube-router-svip ${address}`);
    if (isBehindFirewall && !this.#elements.has(`${prefix}kube-router-svip-prt ${element}`)) return 'not-a-service';
    const server = this.#servers.get(listenerKey({ by: 'address', protocol, address, port }));
    if (server === undefined) return 'not-a-service';
    if (server.destinations.length === 0) return 'refused';
    const keys = server.destinations.map(destination => `${destination.address} ${destination.port}`);
    assert.equal(new Set(server.destinations.map(destinationKey)).size, keys.length, 'a destination twice');
    return new Set(keys);
  }
}

describe('Services against a naive reading of the Kubernetes documentation', function () {
  // Hundreds of random cases; a busy machine takes its time.
  this.timeout(60_000);

  it('every packet to every address and port meets the endpoints it may, or is refused or dropped as it should', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(
        fc.array(arbitraryService, { minLength: 3, maxLength: 8 }),
        fc.array(arbitrarySlice, { minLength: 6, maxLength: 16 }),
        arbitraryOptions,
        (someServices, someSlices, options) => {
          const services = latest(someServices, service => keyOf(service.meta));
          const slices = latest(someSlices, slice => slice.meta.name);
          const { fragments } = servicesModule(options).plan(snapshot({ services, slices }));
          const kernel = new Kernel(fragments.values());
          assert.deepEqual(kernel.strayElements(), []);
          const world = worldOf(services, slices, options);
          for (const packet of PACKETS) {
            const expected = fateOf(packet, world);
            const kind = typeof expected === 'string' ? expected : 'served';
            seen.set(kind, (seen.get(kind) ?? 0) + 1);
            assert.deepEqual(kernel.fateOf(packet), expected, `${packet.protocol} ${packet.address} ${packet.port}`);
          }
        },
      ),
      { numRuns: 500, plugins: [fc.unbiased()] },
    );
    for (const kind of ['served', 'refused', 'dropped', 'not-a-service'])
      assert.ok((seen.get(kind) ?? 0) > 100, `hardly any ${kind}`);
  });
});
