import assert from 'node:assert/strict';
import type { NetworkPolicy, Pod } from '../../daemon/cluster/kinds.ts';
import { policyModule } from '../../modules/policy/module.ts';
import type { PolicyOptions } from '../../modules/policy/options.ts';
import { ip, namespace, networkPolicy, pod, podPeer, policyPort, policyRule, selector, snapshot } from '../fixtures/cluster.ts';
import { HOST_ADDRESSES, NODE_PORTS, SERVICE_RANGES } from '../fixtures/policy-packets.ts';
import { type BuiltInChain, PacketTracer, type TracerPacket } from '../models/packet-tracer.ts';

const HOOKS: readonly BuiltInChain[] = ['INPUT', 'FORWARD', 'OUTPUT'];
/** Selected by a policy of its own; selected by none; a client elsewhere. */
const SELECTED = ip('10.244.1.2');
const OPEN = ip('10.244.1.3');
const ELSEWHERE = ip('10.244.2.2');

/** A node with that many pods beside those two, each selected by a policy of its own, that lets in who has one label. */
function tracerOf(others: number, defaultDeny: PolicyOptions['defaultDeny']): PacketTracer {
  const numbers = Array.from({ length: others + 1 }, (_, number) => number);
  const pods: readonly Pod[] = [
    pod('open', OPEN),
    pod('client', ELSEWHERE, { labels: { role: 'client' } }),
    ...numbers.map(number => pod(`p${number}`, number === 0 ? SELECTED : addressOf(number), { labels: { id: String(number) } })),
  ];
  const rule = policyRule({ peers: [podPeer(selector({ role: 'client' }))], ports: [policyPort(80)] });
  const says = { rules: [rule], unusable: undefined };
  const networkPolicies: readonly NetworkPolicy[] = numbers.map(number =>
    networkPolicy(`m${number}`, { podSelector: selector({ id: String(number) }), ingress: says, egress: says }),
  );
  const options: PolicyOptions = {
    families: { ipv4: 'auto', ipv6: 'auto' },
    defaultDeny,
    denyWith: 'reject',
    serviceRanges: SERVICE_RANGES,
    followsPools: false,
    strictExternalIpValidation: true,
    nodePorts: NODE_PORTS,
  };
  const { fragments } = policyModule(options).plan(snapshot({ pods, networkPolicies, namespaces: [namespace('default')] }));
  return new PacketTracer(
    [...fragments.values()].flatMap(({ entries }) => entries),
    HOST_ADDRESSES,
  );
}

function addressOf(number: number): string {
  return `10.244.1.${10 + number}`;
}

/** TCP from elsewhere to port 80 of the pod that is selected. */
function packet(deviations: Partial<TracerPacket>): TracerPacket {
  return {
    hook: 'FORWARD',
    source: ELSEWHERE,
    destination: SELECTED,
    transport: { protocol: 'TCP', port: 80 },
    ...deviations,
  };
}

/** How many rules each of these packets is held against, on a node with few pods and on one with many. */
function rulesFor(packets: readonly TracerPacket[], defaultDeny: PolicyOptions['defaultDeny']): readonly (readonly number[])[] {
  return [1, 20, 240].map(others => {
    const tracer = tracerOf(others, defaultDeny);
    return packets.map(each => tracer.walk(each).rules);
  });
}

for (const defaultDeny of [false, true]) {
  describe(`What a packet costs${defaultDeny ? ' with --netpol-default-deny' : ''}`, () => {
    it('of an established flow: the same few rules, however many pods and policies the node has', () => {
      const ends = [
        { source: ELSEWHERE, destination: SELECTED },
        { source: SELECTED, destination: ELSEWHERE },
        { source: OPEN, destination: SELECTED },
        { source: ELSEWHERE, destination: ip('10.244.3.2') },
      ];
      const packets = ends.flatMap(both => HOOKS.map(hook => packet({ ...both, hook, state: 'ESTABLISHED' })));
      const [few, some, many] = rulesFor(packets, defaultDeny);
      assert.deepEqual(some, few);
      assert.deepEqual(many, few);
      // The hook, the state, and who of the two ends is a pod of this node.
      // Of no pod, in FORWARD: the hook, the prefix on either side twice, the state, and the set on either side.
      assert.ok(Math.max(...(few ?? [])) <= 8, String(few));
    });

    it('that begins a flow of a pod that no policy selects: the same few rules likewise', () => {
      const packets = [
        packet({ destination: OPEN }),
        packet({ source: OPEN, destination: ELSEWHERE }),
        packet({ hook: 'OUTPUT', destination: OPEN }),
        packet({ hook: 'INPUT', source: OPEN, destination: ip('192.168.1.1') }),
        packet({ hook: 'OUTPUT', source: ip('192.168.1.1') }),
        packet({ source: ELSEWHERE, destination: ip('10.244.3.2') }),
      ];
      const [few, some, many] = rulesFor(packets, defaultDeny);
      assert.deepEqual(some, few);
      assert.deepEqual(many, few);
      assert.ok(Math.max(...(few ?? [])) <= 20, String(few));
    });

    it('that begins a flow of a pod with policies: the rules of its own group, found in few steps among all groups', () => {
      const [[few = 0] = [], , [many = 0] = []] = rulesFor([packet({})], defaultDeny);
      assert.ok(many - few <= 50, `${few} rules with 2 groups, ${many} with 241`);
    });
  });
}
