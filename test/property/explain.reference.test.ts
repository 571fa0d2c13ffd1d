import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { type EndpointSlice, keyOf, type Service } from '../../daemon/cluster/kinds.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import { explain, type View } from '../../daemon/explain/explain.ts';
import { type Explanation, explanationText } from '../../daemon/explain/explanation.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import type { Protocol } from '../../daemon/net/port.ts';
import { policyModule } from '../../modules/policy/module.ts';
import { servicesModule } from '../../modules/services/module.ts';
import type { ServicesOptions } from '../../modules/services/options.ts';
import { ADDRESSES, arbitraryService, arbitrarySlice, CLIENTS, PORTS } from '../fixtures/arbitrary-services.ts';
import { cidrs, ip, ips, nodeView, snapshot } from '../fixtures/cluster.ts';
import { viewOfSnapshot } from '../fixtures/explain-scene.ts';
import { HOST_ADDRESSES, OUTSIDE_SERVICE_ADDRESSES, packetsOf } from '../fixtures/policy-packets.ts';
import { arbitraryCluster, arbitraryEvent, arbitraryOptions, OWN_ENDPOINTS, PolicyScene } from '../fixtures/policy-scene.ts';
import { worldOf } from '../fixtures/policy-world.ts';
import { propertyRun } from '../fixtures/property-run.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { type Packet as PolicyPacket, type World as PolicyWorld, verdictOf } from '../models/policy-reference.ts';
import { type Fate, fateOf, type Packet, type World } from '../models/service-reference.ts';

const FAMILIES: readonly Family[] = ['ipv4', 'ipv6'];

/** Counts what the random worlds were about, so that a generator that went stale is noticed. */
class Tally {
  readonly #counts = new Map<string, number>();

  add(kind: string): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
  }

  atLeast(least: number, ...kinds: readonly string[]): void {
    for (const kind of kinds)
      assert.ok((this.#counts.get(kind) ?? 0) >= least, `hardly any ${kind}: ${this.#counts.get(kind) ?? 0}`);
  }
}

/** Of addresses, as they are typed; the node itself is named. */
function asked(view: View, from: IpAddress | 'this node', to: IpAddress, transport: PolicyPacket['transport']): Explanation {
  const source =
    from === 'this node'
      ? ({ who: 'node', name: 'node-1', address: PRIMARY[familyOf(to)] } as const)
      : ({ who: 'address', name: from, address: from } as const);
  return explain({ source, destination: { who: 'address', name: to, address: to }, transport }, view);
}

const PRIMARY: World['primary'] = { ipv4: ip('192.168.1.1'), ipv6: ip('fd00:1::1') };

describe('fairway why against the reference of Services', function () {
  this.timeout(60_000);

  const PROTOCOLS: readonly Protocol[] = ['TCP', 'TCP', 'UDP', 'SCTP'];
  const ASKERS: readonly (readonly [string, Packet['from']])[] = [
    ...Object.entries(CLIENTS).flatMap(([title, addresses]) => addresses.map(address => [title, address] as const)),
    ['the node itself', 'this node'],
  ];
  const arbitraryQuestion = fc
    .tuple(fc.constantFrom(...ADDRESSES), fc.constantFrom(...PORTS), fc.constantFrom(...PROTOCOLS), fc.constantFrom(...ASKERS))
    .filter(([address, , , [, from]]) => from === 'this node' || familyOf(from) === familyOf(address));
  const options = fc
    .record({
      strictExternalIpValidation: fc.boolean(),
      ipvsPermitAll: fc.boolean(),
      masqueradeAll: fc.constantFrom(false, false, true),
    })
    .map(chosen => servicesOptions({ ...chosen, loadBalancerIpRanges: cidrs('0.0.0.0/0', '::/0') }));

  function worldOf(services: readonly Service[], slices: readonly EndpointSlice[], of: ServicesOptions): World {
    return {
      services,
      slices,
      nodeName: 'node-1',
      zone: 'west',
      nodeAddresses: nodeView().addresses,
      otherNodesAddresses: ips('192.168.1.2', 'fd00:1::2', '192.168.1.3', 'fd00:1::3'),
      servedFamilies: FAMILIES,
      nodeportAddresses: of.nodeportAddresses,
      isStrict: of.strictExternalIpValidation,
      externalIpRanges: of.externalIpRanges,
      loadBalancerIpRanges: of.loadBalancerIpRanges,
      clusterIpRanges: of.clusterIpRanges,
      podCIDRs: nodeView().podCIDRs,
      primary: PRIMARY,
      masqueradesAll: of.masqueradeAll,
      hasFirewall: of.ipvsPermitAll,
    };
  }

  function agrees({ verdict, endpoints }: Explanation, expected: Fate): boolean {
    if (expected === 'refused' || expected === 'dropped') return verdict.outcome === expected;
    if (expected === 'left alone') return ['allowed', 'unserved', 'elsewhere'].includes(verdict.outcome);
    const reached = new Map(endpoints.map(({ address, port, source }) => [`${address} ${port}`, source]));
    return verdict.outcome === 'allowed' && isDeepStrictEqual(reached, expected);
  }

  it('says of every client what the documentation says: the endpoints with the source they see, refused or dropped', () => {
    const tally = new Tally();
    fc.assert(
      fc.property(
        fc.array(arbitraryService, { minLength: 3, maxLength: 8 }),
        fc.array(arbitrarySlice, { minLength: 6, maxLength: 16 }),
        options,
        fc.array(arbitraryQuestion, { minLength: 40, maxLength: 40 }),
        (someServices, someSlices, of, questions) => {
          const services = [...new Map(someServices.map(each => [keyOf(each.meta), each])).values()];
          const slices = [...new Map(someSlices.map(each => [each.meta.name, each])).values()];
          const seen = snapshot({ services, slices, node: nodeView({ zone: 'west' }) });
          const view = viewOfSnapshot(seen, [servicesModule(of)]);
          const world = worldOf(services, slices, of);
          for (const [address, port, protocol, [asker, from]] of questions) {
            const explanation = asked(view, from, address, { protocol, port });
            const expected = fateOf({ from, address, port, protocol }, world);
            // Another node's pod: that node balances.
            if (asker === 'a pod elsewhere' && explanation.verdict.outcome === 'elsewhere') continue;
            tally.add(typeof expected === 'string' ? expected : 'reached');
            assert.ok(
              agrees(explanation, expected),
              `${protocol} ${from} > ${address} ${port}, expected ${typeof expected === 'string' ? expected : JSON.stringify([...expected])}\n${explanationText(explanation)}`,
            );
          }
        },
      ),
      { ...propertyRun('fairway why against Services', 80), plugins: [fc.unbiased()] },
    );
    tally.atLeast(5, 'refused', 'dropped', 'left alone', 'reached');
  });
});

describe('fairway why against the reference of network policy', function () {
  this.timeout(60_000);

  /** The same cluster from another node, which has no default deny that we know of. */
  function worldAt(world: PolicyWorld, name: string, seen: Snapshot): PolicyWorld {
    const node = seen.nodes.get(name);
    const addresses = node?.internalIPs ?? [];
    return {
      ...world,
      nodeName: name,
      nodeAddresses: addresses,
      hostAddresses: addresses,
      defaultDeny: false,
      families: FAMILIES,
    };
  }

  function isDeniedHere({ steps }: Explanation): boolean {
    return steps.some(({ state }) => state === 'stops');
  }

  /** Packets of which explain says what this node does: it is on their way, and nobody balances them. */
  function isHere({ path, source, destination, transport }: PolicyPacket, seen: Snapshot): boolean {
    const isHostAddress = (address: IpAddress): boolean => seen.host.addresses.some(each => each.address === address);
    if (transport.protocol === 'ICMP' && ![8, 128].includes(transport.type)) return false;
    switch (path) {
      case 'forwarded':
        return !isHostAddress(source) && !isHostAddress(destination) && source !== destination;
      case 'to-node':
        return !isHostAddress(source) && isHostAddress(destination);
      case 'from-node':
        return isHostAddress(source) && !isHostAddress(destination);
      case 'balanced':
        return false;
    }
  }

  it('denies what the documentation denies, on this node by its chains and on others by the objects', () => {
    const tally = new Tally();
    fc.assert(
      fc.property(
        arbitraryOptions,
        arbitraryCluster,
        fc.array(arbitraryEvent, { maxLength: 3 }),
        fc.noBias(fc.nat()),
        (options, objects, events, seed) => {
          const scene = new PolicyScene(objects);
          for (const event of events) scene.happen(event);
          const seen = scene.snapshot();
          const view = viewOfSnapshot(seen, [policyModule(options)]);
          const world = worldOf(seen, options);
          for (const [packet] of packetsOf(seed, 60, 0)) {
            if (!isHere(packet, seen)) continue;
            const explanation = asked(view, packet.source, packet.destination, packet.transport);
            const say = (what: string): string => `${what}: ${JSON.stringify(packet)}\n${explanationText(explanation)}`;
            const others = new Set(
              explanation.judgements.filter(({ by }) => by === 'objects').map(({ pod }) => seen.pods.get(pod)?.nodeName ?? ''),
            );
            for (const name of others) {
              const expected = verdictOf(worldAt(world, name, seen), { ...packet, path: 'forwarded' });
              const isDenied = explanation.judgements.some(
                ({ by, pod, isAllowed }) => by === 'objects' && !isAllowed && seen.pods.get(pod)?.nodeName === name,
              );
              assert.equal(isDenied, expected === 'deny', say(`on ${name}, expected ${expected}`));
              tally.add(`objects ${expected}`);
            }
            // From one node to another: this one is not on the way.
            if (explanation.verdict.outcome === 'elsewhere') continue;
            const expected = verdictOf(world, packet);
            assert.equal(isDeniedHere(explanation), expected === 'deny', say(`expected ${expected}`));
            if (expected === 'deny' && others.size === 0) assert.equal(explanation.verdict.outcome, 'denied', say('verdict'));
            tally.add(`${packet.path} ${expected}`);
          }
        },
      ),
      { ...propertyRun('fairway why against network policy', 80), plugins: [fc.unbiased()] },
    );
    tally.atLeast(5, 'forwarded allow', 'forwarded deny', 'to-node allow', 'to-node deny', 'from-node allow');
    tally.atLeast(5, 'objects allow', 'objects deny');
  });

  it('denies a client of a Service what is denied on the way to it or to the endpoint', () => {
    const tally = new Tally();
    const service = servicesOptions({ strictExternalIpValidation: false });
    fc.assert(
      fc.property(arbitraryOptions, arbitraryCluster, fc.noBias(fc.nat()), (options, objects, seed) => {
        const seen = new PolicyScene(objects).snapshot();
        const view = viewOfSnapshot(seen, [servicesModule(service), policyModule(options)]);
        const world = worldOf(seen, options);
        for (const [{ source, path }] of packetsOf(seed, 30, 0)) {
          const vip = OUTSIDE_SERVICE_ADDRESSES.find(address => familyOf(address) === familyOf(source));
          const endpoint = OWN_ENDPOINTS.find(({ address }) => familyOf(address) === familyOf(source))?.address;
          if (path === 'from-node' || vip === undefined || endpoint === undefined) continue;
          // The Service is of IPv4 alone.
          if (HOST_ADDRESSES.includes(source) || familyOf(source) === 'ipv6') continue;
          const transport = { protocol: 'TCP', port: 80 } as const;
          const explanation = asked(view, source, vip, transport);
          // A pod of another node may have an address of this node's.
          const isOfOther = explanation.judgements.some(({ by }) => by === 'objects');
          if (explanation.verdict.outcome === 'elsewhere' || isOfOther) continue;
          const verdicts = [
            verdictOf(world, { path: 'to-node', source, destination: vip, transport }),
            verdictOf(world, { path: 'balanced', source, destination: endpoint, transport }),
          ];
          const expected = verdicts.includes('deny') ? 'denied' : 'allowed';
          assert.equal(explanation.verdict.outcome, expected, `${source} > ${vip}\n${explanationText(explanation)}`);
          tally.add(expected);
        }
      }),
      { ...propertyRun('fairway why against network policy behind Services', 60), plugins: [fc.unbiased()] },
    );
    tally.atLeast(5, 'allowed', 'denied');
  });
});
