import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import type { NetworkPolicy, PolicyPeer, PolicyPort } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';
import { blockPeer, direction, podPeer, policyPort, policyRule, requirement, selector } from '../../fixtures/cluster.ts';

const META = { namespace: 'shop', name: 'p' };

interface Projected {
  readonly object: NetworkPolicy;
  readonly messages: readonly string[];
}

function policy(spec: unknown): Projected {
  const { object, complaints } = new Projector().project('NetworkPolicy', { metadata: META, spec });
  assert.ok(object !== undefined, JSON.stringify(complaints));
  return { object, messages: complaints.map(({ message }) => message) };
}

/** The directions it restricts, with what they allow. */
function covers(spec: unknown): readonly string[] {
  const { ingress, egress } = policy(spec).object;
  return [...(ingress === undefined ? [] : ['ingress']), ...(egress === undefined ? [] : ['egress'])];
}

function peersOf(...from: readonly unknown[]): readonly PolicyPeer[] {
  const { object, messages } = policy({ ingress: [{ from }] });
  assert.deepEqual(messages, []);
  return object.ingress?.rules[0]?.peers ?? [];
}

function portsOf(...ports: readonly unknown[]): readonly PolicyPort[] {
  const { object, messages } = policy({ ingress: [{ ports }] });
  assert.deepEqual(messages, []);
  return object.ingress?.rules[0]?.ports ?? [];
}

describe('a NetworkPolicy as the modules see it', () => {
  it('keeps what the API server says', () => {
    const web = { matchLabels: { app: 'web' } };
    const spec = {
      podSelector: web,
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        {
          from: [
            { ipBlock: { cidr: '172.17.0.0/16', except: ['172.17.1.0/24', '172.17.0.0/24', '172.17.1.0/24'] } },
            { namespaceSelector: { matchLabels: { team: 'blue' } } },
            { podSelector: { matchExpressions: [{ key: 'role', operator: 'In', values: ['front', 'api'] }] } },
            { namespaceSelector: {}, podSelector: web },
          ],
          ports: [
            { protocol: 'TCP', port: 6379 },
            { port: 'http' },
            { protocol: 'UDP', port: 32000, endPort: 32768 },
            { protocol: 'SCTP' },
          ],
        },
        {},
      ],
      egress: [{ to: [{ ipBlock: { cidr: 'FD00::1/64' } }] }],
    };
    assert.deepEqual(policy(spec), {
      object: {
        kind: 'NetworkPolicy',
        meta: { ...META, uid: '', creationTimestamp: 0 },
        podSelector: selector({ app: 'web' }),
        ingress: direction(
          {
            peers: [
              blockPeer('172.17.0.0/16', '172.17.0.0/24', '172.17.1.0/24'),
              podPeer(undefined, selector({ team: 'blue' })),
              podPeer(selector({}, requirement('role', 'In', 'api', 'front'))),
              podPeer(selector({ app: 'web' }), selector()),
            ],
            ports: [
              policyPort(6379),
              { match: 'name', protocol: 'TCP', name: 'http' },
              policyPort(32000, { protocol: 'UDP', last: 32768 }),
              { match: 'all', protocol: 'SCTP' },
            ],
          },
          policyRule(),
        ),
        egress: direction(policyRule({ peers: [blockPeer('fd00::/64')] })),
      },
      messages: [],
    });
  });

  it('restricts the directions that the API server would say it restricts', () => {
    const rule = { to: [{ podSelector: {} }] };
    assert.deepEqual(covers(undefined), ['ingress']);
    assert.deepEqual(covers({}), ['ingress']);
    assert.deepEqual(covers({ podSelector: {}, policyTypes: [] }), ['ingress']);
    assert.deepEqual(covers({ policyTypes: null, egress: [] }), ['ingress']);
    assert.deepEqual(covers({ egress: [rule] }), ['ingress', 'egress']);
    assert.deepEqual(covers({ ingress: [{}], egress: [{}] }), ['ingress', 'egress']);
    assert.deepEqual(covers({ policyTypes: ['Egress'] }), ['egress']);
    assert.deepEqual(covers({ policyTypes: ['Egress'], ingress: [{}], egress: [rule] }), ['egress']);
    assert.deepEqual(covers({ policyTypes: ['Ingress'], egress: [rule] }), ['ingress']);
    assert.deepEqual(covers({ policyTypes: ['Egress', 'Ingress', 'Egress'] }), ['ingress', 'egress']);
  });

  it('restricts egress also where the egress rules cannot be read', () => {
    assert.deepEqual(covers({ egress: 'none' }), ['ingress', 'egress']);
  });

  it('passes over words that are no policy type, and falls back to the default where none is left', () => {
    const complaint = 'spec.policyTypes[]: "ingress": not one of Ingress, Egress; ignored';
    const { object, messages } = policy({ policyTypes: ['ingress', 'Egress'] });
    assert.deepEqual([object.ingress, object.egress, messages], [undefined, direction(), [complaint]]);
    assert.deepEqual(covers({ policyTypes: ['ingress'] }), ['ingress']);
    assert.deepEqual(policy({ policyTypes: ['ingress'] }).messages, [complaint]);
    assert.deepEqual(covers({ policyTypes: 'Egress' }), ['ingress']);
    assert.deepEqual(policy({ policyTypes: 'Egress' }).messages, ['spec.policyTypes: "Egress": not a list, ignored']);
  });

  it('allows nothing without rules', () => {
    for (const ingress of [undefined, null, []]) assert.deepEqual(policy({ ingress }).object.ingress, direction());
  });

  it('allows everyone at every port where a rule does not name them', () => {
    for (const rule of [{}, { from: null, ports: null }, { from: [], ports: [] }]) {
      assert.deepEqual(policy({ ingress: [rule] }).object.ingress, direction(policyRule()));
    }
    for (const rule of [{}, { to: null }, { to: [] }]) {
      assert.deepEqual(policy({ policyTypes: ['Egress'], egress: [rule] }).object.egress, direction(policyRule()));
    }
  });

  it('tells an empty selector, which is everyone, from one that is not there', () => {
    assert.deepEqual(
      peersOf({ podSelector: {} }, { podSelector: {}, namespaceSelector: null }, { namespaceSelector: {}, ipBlock: null }),
      [podPeer(selector()), podPeer(selector()), podPeer(undefined, selector())],
    );
  });

  it('takes blocks down to one address and up to all, and exceptions of any size within them', () => {
    assert.deepEqual(
      peersOf(
        { ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '192.168.1.1/32'] } },
        { ipBlock: { cidr: '::/0', except: ['FD00::/8'] } },
        { ipBlock: { cidr: '10.0.0.1/32', except: null } },
        { ipBlock: { cidr: '10.1.2.3/8', except: ['10.1.2.3/16'] } },
        { ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/9', '10.0.0.0/24'] } },
      ),
      [
        blockPeer('0.0.0.0/0', '10.0.0.0/8', '192.168.1.1/32'),
        blockPeer('::/0', 'fd00::/8'),
        blockPeer('10.0.0.1/32'),
        blockPeer('10.0.0.0/8', '10.1.0.0/16'),
        blockPeer('10.0.0.0/8', '10.0.0.0/24', '10.0.0.0/9'),
      ],
    );
  });

  it('takes ports at their limits, and TCP where no protocol is given', () => {
    assert.deepEqual(
      portsOf(
        { port: 1 },
        { port: 65535, endPort: 65535 },
        { port: 1, endPort: 65535, protocol: null },
        {},
        { port: null, endPort: null, protocol: 'UDP' },
        { port: 'a' },
        { port: '80a' },
        { port: 'a-port-name-15c' },
      ),
      [
        policyPort(1),
        policyPort(65535),
        policyPort(1, { last: 65535 }),
        { match: 'all', protocol: 'TCP' },
        { match: 'all', protocol: 'UDP' },
        { match: 'name', protocol: 'TCP', name: 'a' },
        { match: 'name', protocol: 'TCP', name: '80a' },
        { match: 'name', protocol: 'TCP', name: 'a-port-name-15c' },
      ],
    );
  });

  it('says of a misspelt field that it means nothing', () => {
    const { messages } = policy({ podSelector: {}, egres: [{}] });
    assert.deepEqual(messages, ['spec: "egres": not a field of a NetworkPolicy, ignored; correct or remove it']);
  });
});

const NO_NAME = 'neither a number from 1 to 65535 without quotes nor the name of a port';
const NO_CIDR = 'not a CIDR prefix; write it as 10.0.0.0/8 or fd00::/64';

/** A rule for ingress, and the reason why the direction is closed: field below `spec.ingress[1]`, value and remedy. */
const UNUSABLE_RULES: readonly (readonly [string, unknown, string])[] = [
  ['is no object', 'x', ': "x": not an object; write it with from, ports'],
  ['is null', null, ': null: not an object; write it with from, ports'],
  ['is for the other direction', { to: [] }, ': "to": not one of its fields from, ports; correct or remove it'],
  ['has a misspelt field', { form: [{ podSelector: {} }] }, ': "form": not one of its fields from, ports; correct or remove it'],
  [
    'has peers that are no list',
    { from: { podSelector: {} } },
    '.from: an object with podSelector: not a list; begin each item with "- "',
  ],
  ['has ports that are no list', { ports: 80 }, '.ports: 80: not a list; begin each item with "- "'],
  [
    'has a peer that is no object',
    { from: ['10.0.0.0/8'] },
    '.from[0]: "10.0.0.0/8": not an object; write it with podSelector, namespaceSelector, ipBlock',
  ],
  [
    'has an empty peer',
    { from: [{}] },
    '.from[0]: an object with no fields: names no one; write podSelector, namespaceSelector or ipBlock',
  ],
  [
    'has a peer of null',
    { from: [{ podSelector: null }] },
    '.from[0]: an object with podSelector: names no one; write podSelector, namespaceSelector or ipBlock',
  ],
  [
    'has a peer of a kind nobody knows',
    { from: [{ podSelector: {}, services: {} }] },
    '.from[0]: "services": not one of its fields podSelector, namespaceSelector, ipBlock; correct or remove it',
  ],
  [
    'has a block beside a selector',
    { from: [{ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }] },
    '.from[0].ipBlock: an object with cidr: stands beside a selector; make it an item of its own',
  ],
  [
    'has an unreadable pod selector',
    { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'Eq', values: ['b'] }] } }] },
    '.from[0].podSelector.matchExpressions[].operator: "Eq": not one of In, NotIn, Exists, DoesNotExist; correct it',
  ],
  [
    'has an unreadable namespace selector',
    { from: [{ podSelector: {}, namespaceSelector: { matchLabels: { a: 1 } } }] },
    '.from[0].namespaceSelector.matchLabels[a]: 1: not a string; put it in quotes',
  ],
  [
    'has a block that is no object',
    { from: [{ ipBlock: '10.0.0.0/8' }] },
    '.from[0].ipBlock: "10.0.0.0/8": not an object; write it with cidr, except',
  ],
  ['has a block without CIDR', { from: [{ ipBlock: {} }] }, `.from[0].ipBlock.cidr: missing: ${NO_CIDR}`],
  [
    'has a block that is too long',
    { from: [{ ipBlock: { cidr: '10.0.0.0/33' } }] },
    `.from[0].ipBlock.cidr: "10.0.0.0/33": ${NO_CIDR}`,
  ],
  ['has a block without length', { from: [{ ipBlock: { cidr: '10.0.0.1' } }] }, `.from[0].ipBlock.cidr: "10.0.0.1": ${NO_CIDR}`],
  [
    'has exceptions that are no list',
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: '10.1.0.0/16' } }] },
    '.from[0].ipBlock.except: "10.1.0.0/16": not a list; begin each item with "- "',
  ],
  [
    'has an exception that is no CIDR',
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', 'x'] } }] },
    `.from[0].ipBlock.except[1]: "x": ${NO_CIDR}`,
  ],
  [
    'has an exception outside',
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] },
    '.from[0].ipBlock.except[0]: "11.0.0.0/16": no part of 10.0.0.0/8; write a smaller block within it',
  ],
  [
    'has an exception that is everything',
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.0.0.0/8'] } }] },
    '.from[0].ipBlock.except[0]: "10.0.0.0/8": no part of 10.0.0.0/8; write a smaller block within it',
  ],
  [
    'has an exception around it',
    { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['0.0.0.0/0'] } }] },
    '.from[0].ipBlock.except[0]: "0.0.0.0/0": no part of 10.0.0.0/8; write a smaller block within it',
  ],
  [
    'has an exception of the other family',
    { from: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['fd00::/8'] } }] },
    '.from[0].ipBlock.except[0]: "fd00::/8": no part of 0.0.0.0/0; write a smaller block within it',
  ],
  ['has a port that is no object', { ports: [80] }, '.ports[0]: 80: not an object; write it with protocol, port, endPort'],
  ['has a port of null', { ports: [null] }, '.ports[0]: null: not an object; write it with protocol, port, endPort'],
  [
    'has a misspelt port',
    { ports: [{ ports: 80 }] },
    '.ports[0]: "ports": not one of its fields protocol, port, endPort; correct or remove it',
  ],
  [
    'has an unknown protocol',
    { ports: [{ port: 80 }, { protocol: 'ICMP' }] },
    '.ports[1].protocol: "ICMP": not one of TCP, UDP, SCTP; correct it',
  ],
  [
    'has a protocol in lower case',
    { ports: [{ protocol: 'tcp', port: 80 }] },
    '.ports[0].protocol: "tcp": not one of TCP, UDP, SCTP; correct it',
  ],
  ['has port 0', { ports: [{ port: 0 }] }, `.ports[0].port: 0: ${NO_NAME}`],
  ['has port 65536', { ports: [{ port: 65536 }] }, `.ports[0].port: 65536: ${NO_NAME}`],
  ['has half a port', { ports: [{ port: 80.5 }] }, `.ports[0].port: 80.5: ${NO_NAME}`],
  ['has a port in quotes', { ports: [{ port: '80' }] }, `.ports[0].port: "80": ${NO_NAME}`],
  ['has a port name in upper case', { ports: [{ port: 'HTTP' }] }, `.ports[0].port: "HTTP": ${NO_NAME}`],
  [
    'has a port name of 16 characters',
    { ports: [{ port: 'a-port-name-16ch' }] },
    `.ports[0].port: "a-port-name-16ch": ${NO_NAME}`,
  ],
  ['has a port name with two hyphens', { ports: [{ port: 'a--b' }] }, `.ports[0].port: "a--b": ${NO_NAME}`],
  ['has an empty port name', { ports: [{ port: '' }] }, `.ports[0].port: "": ${NO_NAME}`],
  [
    'ends before it begins',
    { ports: [{ port: 80, endPort: 79 }] },
    '.ports[0].endPort: 79: not a number from 80 to 65535; correct or remove it',
  ],
  [
    'ends beyond the last port',
    { ports: [{ port: 80, endPort: 65536 }] },
    '.ports[0].endPort: 65536: not a number from 80 to 65535; correct or remove it',
  ],
  [
    'ends at a name',
    { ports: [{ port: 80, endPort: 'http' }] },
    '.ports[0].endPort: "http": not a number from 80 to 65535; correct or remove it',
  ],
  [
    'begins at a name',
    { ports: [{ port: 'http', endPort: 90 }] },
    '.ports[0].endPort: 90: ends a range that no number begins; write a number as port or remove endPort',
  ],
  [
    'begins nowhere',
    { ports: [{ endPort: 90 }] },
    '.ports[0].endPort: 90: ends a range that no number begins; write a number as port or remove endPort',
  ],
];

describe('a NetworkPolicy that cannot be read whole', () => {
  for (const [what, rule, reason] of UNUSABLE_RULES) {
    it(`closes a direction in which a rule ${what}`, () => {
      const { object, messages } = policy({ policyTypes: ['Ingress', 'Egress'], ingress: [{}, rule], egress: [{}] });
      const whole = `spec.ingress[1]${reason}`;
      assert.deepEqual(object.ingress, { rules: [], unusable: whole });
      assert.deepEqual(object.egress, direction(policyRule()));
      assert.deepEqual(messages, [`${whole}; until then the policy allows no ingress`]);
    });
  }

  it('closes a direction whose rules are no list', () => {
    const { object, messages } = policy({ ingress: {}, egress: [{ to: [{}] }] });
    const list = 'spec.ingress: an object with no fields: not a list; begin each item with "- "';
    const peer = 'spec.egress[0].to[0]: an object with no fields: names no one; write podSelector, namespaceSelector or ipBlock';
    assert.deepEqual([object.ingress?.unusable, object.egress?.unusable], [list, peer]);
    assert.deepEqual(messages, [
      `${list}; until then the policy allows no ingress`,
      `${peer}; until then the policy allows no egress`,
    ]);
  });

  it('is not asked for the rules of a direction that it does not restrict', () => {
    const { object, messages } = policy({ policyTypes: ['Ingress'], ingress: [{}], egress: 'nonsense' });
    assert.deepEqual([object.ingress, object.egress, messages], [direction(policyRule()), undefined, []]);
  });

  it('selects more pods and allows nothing where its own selector is unreadable', () => {
    const podSelector = { matchLabels: { app: 'web', version: 2 } };
    const both = policy({ podSelector, ingress: [{}], egress: [{}] });
    const reason = 'spec.podSelector.matchLabels[version]: 2: not a string; put it in quotes';
    const closed = { rules: [], unusable: reason };
    assert.deepEqual(
      [both.object.podSelector, both.object.ingress, both.object.egress],
      [selector({ app: 'web' }), closed, closed],
    );
    assert.deepEqual(both.messages, [`${reason}; until then the policy selects more pods than it should and allows nothing`]);
    const one = policy({ podSelector: 'app=web', policyTypes: ['Egress'], egress: [{}] });
    assert.deepEqual([one.object.podSelector, one.object.ingress], [selector(), undefined]);
    assert.match(one.object.egress?.unusable ?? '', /^spec\.podSelector: "app=web": not a label selector/);
  });

  it('closes the whole namespace for ingress where it says nothing readable at all', () => {
    const { object } = policy('deny');
    assert.deepEqual([object.podSelector, object.egress], [selector(), undefined]);
    assert.deepEqual(object.ingress, {
      rules: [],
      unusable: 'spec: "deny": not an object; write podSelector and policyTypes under it',
    });
  });

  it('makes one complaint, however much is wrong', () => {
    const peers = Array.from({ length: 40_000 }, () => ({ ipBlock: { cidr: 'x' } }));
    assert.equal(policy({ ingress: [{ from: peers }] }).messages.length, 1);
    const wrong = { podSelector: { matchLabels: { app: 1 } } };
    assert.equal(policy({ ingress: [{ from: [wrong, wrong] }, { from: [wrong] }] }).messages.length, 1);
    const matchExpressions = Array.from({ length: 40_000 }, () => ({ key: 'a', operator: 'Eq' }));
    const { messages } = policy({ podSelector: { matchExpressions } });
    assert.equal(messages.length, 1);
    assert.match(messages[0] ?? '', /\(and 39999 more like it\)/);
  });
});
