import assert from 'node:assert/strict';
import type { NetworkPolicy, PolicyPeer, PolicyPort } from '../../../daemon/cluster/kinds.ts';
import { compilePolicy } from '../../../modules/policy/compile.ts';
import type { Peer, Ports } from '../../../modules/policy/program.ts';
import {
  blockPeer,
  direction,
  networkPolicy,
  podPeer,
  policyPort,
  policyRule,
  selector,
  unusableDirection,
} from '../../fixtures/cluster.ts';

function portsOf(...ports: readonly PolicyPort[]): readonly Ports[] {
  const program = compilePolicy(networkPolicy('p', { ingress: direction(policyRule({ ports })) }), 'ingress');
  return program?.allows.map(allow => allow.ports) ?? [];
}

function peersOf(...peers: readonly PolicyPeer[]): readonly Peer[] {
  const program = compilePolicy(networkPolicy('shop/p', { ingress: direction(policyRule({ peers })) }), 'ingress');
  return program?.allows.map(allow => allow.peer) ?? [];
}

function named(name: string, protocol: PolicyPort['protocol'] = 'TCP'): PolicyPort {
  return { match: 'name', protocol, name };
}

describe('compiling a policy', () => {
  it('a direction that it does not restrict is no program; one with no rules, or unusable, allows nothing', () => {
    const allows = (policy: NetworkPolicy): number | undefined => compilePolicy(policy, 'ingress')?.allows.length;
    assert.equal(compilePolicy(networkPolicy('p'), 'egress'), undefined);
    assert.equal(allows(networkPolicy('p', { ingress: direction() })), 0);
    assert.equal(allows(networkPolicy('p', { ingress: unusableDirection() })), 0);
    // Even where the projection should leave rules behind.
    const both = { rules: [policyRule()], unusable: 'spec.ingress[1]: no' };
    assert.equal(allows(networkPolicy('p', { ingress: both })), 0);
  });

  it('a rule of nothing allows everyone at every port, and keeps its place in the list', () => {
    const rules = direction(policyRule({ ports: [policyPort(80)] }), policyRule());
    assert.deepEqual(compilePolicy(networkPolicy('shop/p', { ingress: rules }), 'ingress'), {
      policy: 'shop/p',
      direction: 'ingress',
      allows: [
        { peer: { who: 'anyone' }, ports: { which: 'numbers', protocol: 'TCP', ranges: [[80, 80]] }, rule: 0 },
        { peer: { who: 'anyone' }, ports: { which: 'any' }, rule: 1 },
      ],
    });
  });

  it('every peer is allowed at every port', () => {
    const rule = policyRule({
      peers: [podPeer(selector({ a: '1' })), blockPeer('10.0.0.0/8')],
      ports: [policyPort(80), policyPort(53, { protocol: 'UDP' })],
    });
    const program = compilePolicy(networkPolicy('p', { egress: direction(rule) }), 'egress');
    const pairs = program?.allows.map(({ peer, ports }) => `${peer.who} ${'protocol' in ports ? ports.protocol : ''}`);
    assert.deepEqual(pairs, ['members TCP', 'members UDP', 'blocks TCP', 'blocks UDP']);
  });
});

describe('ports of a rule', () => {
  const numbers = (...ranges: readonly (readonly [number, number])[]): Ports => ({ which: 'numbers', protocol: 'TCP', ranges });

  it('overlapping, adjacent, contained and repeated ones are one range', () => {
    assert.deepEqual(portsOf(policyPort(80, { last: 90 }), policyPort(85, { last: 100 })), [numbers([80, 100])]);
    assert.deepEqual(portsOf(policyPort(81), policyPort(80), policyPort(82)), [numbers([80, 82])]);
    assert.deepEqual(portsOf(policyPort(1, { last: 65_535 }), policyPort(80)), [numbers([1, 65_535])]);
    assert.deepEqual(portsOf(policyPort(80), policyPort(80)), [numbers([80, 80])]);
    assert.deepEqual(portsOf(policyPort(80), policyPort(82)), [numbers([80, 80], [82, 82])]);
    assert.deepEqual(portsOf(policyPort(100, { last: 200 }), policyPort(50, { last: 150 }), policyPort(90, { last: 110 })), [
      numbers([50, 200]),
    ]);
  });

  it('each protocol has its own, and one without a number takes in the numbers and names of that protocol only', () => {
    assert.deepEqual(
      portsOf(policyPort(53, { protocol: 'UDP' }), policyPort(53), named('dns', 'UDP'), { match: 'all', protocol: 'UDP' }),
      [numbers([53, 53]), { which: 'protocol', protocol: 'UDP' }],
    );
    assert.deepEqual(portsOf(policyPort(9, { protocol: 'SCTP' })), [{ which: 'numbers', protocol: 'SCTP', ranges: [[9, 9]] }]);
  });

  it('each name is an item of its own, once', () => {
    assert.deepEqual(portsOf(named('web'), policyPort(80), named('api'), named('web')), [
      numbers([80, 80]),
      { which: 'named', protocol: 'TCP', name: 'api' },
      { which: 'named', protocol: 'TCP', name: 'web' },
    ]);
  });
});

describe('peers of a rule', () => {
  it('a pod selector alone is of the policy’s own namespace; with a namespace selector it is of those', () => {
    const web = selector({ app: 'web' });
    const team = selector({ team: 'x' });
    assert.deepEqual(peersOf(podPeer(web), podPeer(web, team), podPeer(undefined, team)), [
      { who: 'members', members: { in: 'namespace', namespace: 'shop', podSelector: web } },
      { who: 'members', members: { in: 'namespaces', namespaceSelector: team, podSelector: web } },
      { who: 'members', members: { in: 'namespaces', namespaceSelector: team, podSelector: { requirements: [] } } },
    ]);
  });

  it('blocks without `except` are one peer, sorted and each once', () => {
    assert.deepEqual(peersOf(blockPeer('11.0.0.0/8'), blockPeer('10.0.0.0/8'), blockPeer('11.0.0.0/8')), [
      {
        who: 'blocks',
        blocks: [
          { cidr: '10.0.0.0/8', except: [] },
          { cidr: '11.0.0.0/8', except: [] },
        ],
      },
    ]);
  });

  it('what is left out of one block is left out of that one alone: it is never pooled', () => {
    const peers = peersOf(
      blockPeer('10.0.0.0/8', '10.2.0.0/16', '10.1.0.0/16', '10.2.0.0/16'),
      blockPeer('10.1.0.0/24'),
      blockPeer('10.0.0.0/8', '10.3.0.0/16'),
    );
    assert.deepEqual(peers, [
      { who: 'blocks', blocks: [{ cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.2.0.0/16'] }] },
      { who: 'blocks', blocks: [{ cidr: '10.0.0.0/8', except: ['10.3.0.0/16'] }] },
      { who: 'blocks', blocks: [{ cidr: '10.1.0.0/24', except: [] }] },
    ]);
  });
});
