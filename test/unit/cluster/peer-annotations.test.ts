import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { type AnnotatedPeers, peersOfAnnotations, withoutPasswords } from '../../../daemon/cluster/peer-annotations.ts';

/** `open sesame`. */
const PASSWORD = 'b3BlbiBzZXNhbWU=';

function fromYaml(text: string): AnnotatedPeers {
  return peersOfAnnotations({ 'kube-router.io/peers': text });
}

function fromLists(
  lists: Readonly<Record<'ips' | 'asns' | 'ports' | 'passwords' | 'localips', string>> | Readonly<Record<string, string>>,
): AnnotatedPeers {
  return peersOfAnnotations(
    Object.fromEntries(Object.entries(lists).map(([name, text]) => [`kube-router.io/peer.${name}`, text])),
  );
}

/** `ADDRESS ASN PORT PASSWORD LOCAL` of each peer. */
function peersOf({ peers }: AnnotatedPeers): readonly string[] {
  return peers.map(({ address, asn, port, password, localAddress }) =>
    `${address} ${asn} ${port} ${password.reveal()} ${localAddress ?? ''}`.trim(),
  );
}

describe('external peers in the YAML annotation', () => {
  it('each with all it says', () => {
    const said = fromYaml(`
      - remoteip: 10.0.0.1
        remoteasn: 65000
        port: 1179
        password: ${PASSWORD}
        localip: 10.0.0.9
      - { remoteip: "FD00::0001", remoteasn: "0xfde9" }`);
    assert.deepEqual(peersOf(said), ['10.0.0.1 65000 1179 open sesame 10.0.0.9', 'fd00::1 65001 179']);
    assert.deepEqual(said.problems, []);
  });

  it('JSON is YAML, and empty keys are as good as none', () => {
    const said = fromYaml('[{"remoteip":" 10.0.0.1 ","remoteasn":65000,"port":null,"password":"","localip":""}]');
    assert.deepEqual(peersOf(said), ['10.0.0.1 65000 179']);
    assert.deepEqual(said.problems, []);
  });

  it('an empty one names nobody, and the older annotations are not looked at', () => {
    for (const text of ['', '# nobody', '[]', 'null']) {
      const said = peersOfAnnotations({
        'kube-router.io/peers': text,
        'kube-router.io/peer.ips': '10.0.0.1',
        'kube-router.io/peer.asns': '65000',
      });
      assert.deepEqual(said, { peers: [], problems: [] });
    }
  });

  for (const [entry, problem] of [
    ['remoteip: router, remoteasn: 65000', /entry 2 has no usable peer address \("router"\); the entry is left out/],
    ['remoteip: 10, remoteasn: 65000', /no usable peer address \(10\)/],
    ['remoteasn: 65000', /no usable peer address \(none given\)/],
    ['remoteip: 10.0.0.2', /no usable AS number \(none given\): use 1-23455/],
    ['remoteip: 10.0.0.2, remoteasn: 0', /no usable AS number \(0\)/],
    ['remoteip: 10.0.0.2, remoteasn: 23456', /no usable AS number/],
    ['remoteip: 10.0.0.2, remoteasn: 65000.5', /no usable AS number/],
    ['remoteip: 10.0.0.2, remoteasn: 4294967296', /no usable AS number/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, port: 65536', /no usable port \(65536\): use 1 to 65535/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, port: bgp', /no usable port \("bgp"\)/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, port: 0', /no usable port/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, localip: eth0', /no usable local address \("eth0"\)/],
    [
      'remoteip: 10.0.0.2, remoteasn: 65000, localip: "fd00::9"',
      /local address fd00::9, which is of another family than 10\.0\.0\.2/,
    ],
    ['remoteip: 10.0.0.2, remoteasn: 65000, password: "open sesame"', /a password that is not text in base64/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, password: 12345678', /a password that is not text in base64/],
    ['remoteip: 10.0.0.2, remoteasn: 65000, password: "/////w=="', /a password that is not text in base64/],
    ['remoteip: 10.0.0.1, remoteasn: 65001', /names 10\.0\.0\.1 once more; the first entry stands/],
  ] as const) {
    it(`an entry that says ${entry} is told, and stops no other`, () => {
      const said = fromYaml(
        `[{ remoteip: 10.0.0.1, remoteasn: 65000 }, { ${entry} }, { remoteip: 10.0.0.3, remoteasn: 65003, password: ${PASSWORD} }]`,
      );
      assert.deepEqual(peersOf(said), ['10.0.0.1 65000 179', '10.0.0.3 65003 179 open sesame']);
      assert.equal(said.problems.length, 1);
      assert.match(said.problems[0] ?? '', problem);
      assert.match(said.problems[0] ?? '', /^kube-router\.io\/peers, entry 2/);
    });
  }

  it('an entry that is no map is told, and stops no other', () => {
    const said = fromYaml('[10.0.0.9, { remoteip: 10.0.0.1, remoteasn: 65000 }, [1], null]');
    assert.deepEqual(peersOf(said), ['10.0.0.1 65000 179']);
    assert.deepEqual(
      said.problems.map(problem => problem.slice(0, 30)),
      ['kube-router.io/peers, entry 1 ', 'kube-router.io/peers, entry 3 ', 'kube-router.io/peers, entry 4 '],
    );
  });

  it('what is no list, or no YAML, names nobody', () => {
    assert.match(fromYaml('remoteip: 10.0.0.1').problems.join(), /is not a list of peers: begin each with "- remoteip:"/);
    assert.match(fromYaml('- [').problems.join(), /is not YAML: no peer of it is used/);
    assert.match(fromYaml('- a\n---\n- b').problems.join(), /is more than one YAML document/);
  });

  it('bfd that is on is said to have no effect; the peer is used', () => {
    const said = fromYaml(
      '[{ remoteip: 10.0.0.1, remoteasn: 65000, bfd: { enabled: true } }, { remoteip: 10.0.0.2, remoteasn: 65000, bfd: { enabled: false } }]',
    );
    assert.equal(said.peers.length, 2);
    assert.deepEqual(said.problems, [
      'kube-router.io/peers, entry 1: bfd has no effect: gobgpd 3 has none; the hold time finds a dead peer',
    ]);
  });

  it('a password shows nowhere, in broken entries neither', () => {
    const said = [
      fromYaml(`- { remoteip: 10.0.0.1, remoteasn: 65000, password: ${PASSWORD} }`),
      fromYaml(`- { remoteip: nobody, remoteasn: 65000, password: ${PASSWORD} }`),
      fromYaml(`- { remoteip: 10.0.0.1, remoteasn: 65000, password: "not-${PASSWORD}" }`),
      fromYaml(`- { remoteip: 10.0.0.1, remoteasn: 65000, password: ${PASSWORD}`),
      fromLists({ ips: '10.0.0.1,10.0.0.2', asns: '65000,65001', passwords: PASSWORD }),
      fromLists({ ips: 'nobody', asns: '65000', passwords: PASSWORD }),
      fromLists({ ips: '10.0.0.1', asns: '65000', passwords: `!${PASSWORD}` }),
    ];
    for (const each of said) {
      for (const text of [JSON.stringify(each), inspect(each, { depth: 9 }), String(each.problems)]) {
        assert.doesNotMatch(text, /b3Blb|sesame/);
      }
    }
  });
});

describe('external peers in the five older annotations', () => {
  it('by place in the lists; blanks stand for nothing given', () => {
    const said = fromLists({
      ips: '10.0.0.1, fd00::2 ,10.0.0.3',
      asns: '65000,0xfde9, 65003',
      ports: ',1179,',
      passwords: `,${PASSWORD}, `,
      localips: '10.0.0.9,,',
    });
    assert.deepEqual(peersOf(said), ['10.0.0.1 65000 179  10.0.0.9', 'fd00::2 65001 1179 open sesame', '10.0.0.3 65003 179']);
    assert.deepEqual(said.problems, []);
  });

  it('ports, passwords and local addresses may be missing altogether', () => {
    assert.deepEqual(peersOf(fromLists({ ips: '10.0.0.1,10.0.0.2', asns: '65000,65001', passwords: ' ' })), [
      '10.0.0.1 65000 179',
      '10.0.0.2 65001 179',
    ]);
  });

  it('lists that do not go together name nobody', () => {
    for (const [name, text] of [
      ['asns', '65000'],
      ['ports', '179'],
      ['passwords', PASSWORD],
      ['localips', '10.0.0.9,,'],
    ] as const) {
      const said = fromLists({ ips: '10.0.0.1,10.0.0.2', asns: '65000,65001', [name]: text });
      assert.deepEqual(said.peers, []);
      assert.match(
        said.problems.join(),
        new RegExp(
          `^kube-router\\.io/peer\\.${name} has [13] entries and kube-router\\.io/peer\\.ips 2: no peer of them is used`,
        ),
      );
    }
    assert.match(fromLists({ ips: '10.0.0.1' }).problems.join(), /peer\.asns has 0 entries/);
  });

  it('a broken entry is told, and stops no other', () => {
    const said = fromLists({ ips: '10.0.0.1,,10.0.0.3', asns: '65000,65001,64512000000' });
    assert.deepEqual(peersOf(said), ['10.0.0.1 65000 179']);
    assert.deepEqual(said.problems, [
      'kube-router.io/peer.ips, entry 2 has no usable peer address (""); the entry is left out',
      'kube-router.io/peer.ips, entry 3 has no usable AS number ("64512000000"): use 1-23455, 23457-63999, 64512-65534, 131072-4294967294; the entry is left out',
    ]);
  });

  it('without peer.ips the others mean nothing', () => {
    assert.deepEqual(fromLists({ asns: '65000' }), { peers: [], problems: [] });
    assert.deepEqual(peersOfAnnotations({}), { peers: [], problems: [] });
  });
});

describe('annotations in a bug report', () => {
  const password = Buffer.from('tell nobody').toString('base64');

  it('have a peer with every field but its password, which is hidden and still one', () => {
    const peers = `- remoteip: 192.0.2.1\n  remoteasn: 65001\n  password: ${password}\n  port: 1790\n- remoteip: 192.0.2.2\n  remoteasn: 65002\n`;
    const hidden = withoutPasswords({ 'kube-router.io/peers': peers, 'kube-router.io/node.asn': '64512' });
    assert.ok(!JSON.stringify(hidden).includes(password));
    assert.equal(hidden['kube-router.io/node.asn'], '64512');
    const told = peersOfAnnotations(hidden).peers.map(peer => [peer.address, peer.asn, peer.port, peer.password.reveal()]);
    assert.deepEqual(told, [
      ['192.0.2.1', 65001, 1790, 'hidden'],
      ['192.0.2.2', 65002, 179, ''],
    ]);
  });

  it('have as many passwords in the older list, and blanks where there are none', () => {
    const hidden = withoutPasswords({ 'kube-router.io/peer.passwords': `${password},,${password}` });
    assert.equal(hidden['kube-router.io/peer.passwords'], 'aGlkZGVu,,aGlkZGVu');
  });

  it('say nothing at all where the text cannot be read', () => {
    const hidden = withoutPasswords({ 'kube-router.io/peers': `[ {password: ${password}` });
    assert.ok(!JSON.stringify(hidden).includes(password));
  });
});
