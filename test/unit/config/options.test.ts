import assert from 'node:assert/strict';
import { FLAG_NAMES, findFlag, findShorthand, keyOf, optionOf } from '../../../daemon/config/options.ts';
import { defaultConfig } from '../../../daemon/config/parse.ts';
import { accepted, refused } from './command-line.ts';
import { KUBE_ROUTER_FLAGS } from './flags-of-kube-router.ts';

/** Ours narrow some of kube-router's free strings; a flag that takes text there may say here which text. */
const NARROWED_STRINGS = /^(string|path|URL|IPv4|level|first-last|ipip\|fou\|vxlan|subnet\|full)$/;

const OURS = [
  'announce-interfaces',
  'announce-l2',
  'audit-period',
  'duration',
  'gobgp-endpoint',
  'loadbalancer-pools',
  'log-format',
  'manifests',
  'netpol-deny-with',
  'nodeport-addresses',
  'of',
  'output',
  'pod-routes',
  'snapshot',
  'socket',
  'take-over',
];

describe('the table of options', () => {
  it('has every flag of kube-router v2.11', () => {
    assert.equal(KUBE_ROUTER_FLAGS.length, 79);
    assert.deepEqual(
      KUBE_ROUTER_FLAGS.map(flag => flag.name).filter(name => findFlag(name) === undefined),
      [],
    );
  });

  it('has no flag beyond those and our own', () => {
    assert.deepEqual([...FLAG_NAMES].sort(), [...KUBE_ROUTER_FLAGS.map(flag => flag.name), ...OURS].sort());
  });

  for (const expected of KUBE_ROUTER_FLAGS) {
    it(`takes --${expected.name} with the type, default and letter kube-router gives it`, () => {
      const flag = findFlag(expected.name);
      assert.ok(flag !== undefined);
      const { type, default: fallback, shorthand } = optionOf(flag);
      if (expected.type === 'string') assert.match(type.label, NARROWED_STRINGS);
      // CIDRs are ranges, and there are others.
      else if (expected.name === 'loadbalancer-ip-range') assert.equal(type.label, 'ranges');
      else assert.equal(type.label, expected.type);
      assert.equal(type.format(fallback), expected.default);
      assert.equal(shorthand, expected.shorthand);
    });
  }

  it('has a sentence of help for every flag', () => {
    for (const flag of FLAG_NAMES) assert.match(optionOf(flag).help, /^\S.+\.$/, flag);
  });

  it('gives every letter to one flag only', () => {
    for (const flag of FLAG_NAMES) {
      const { shorthand } = optionOf(flag);
      if (shorthand !== undefined) assert.equal(findShorthand(shorthand), flag);
    }
  });

  it('has defaults that its own types accept', () => {
    for (const flag of FLAG_NAMES) {
      const { type, default: fallback } = optionOf(flag);
      assert.deepEqual(type.parse(type.format(fallback)), { ok: true, value: fallback }, flag);
    }
  });

  it('names flags in camel case in the configuration', () => {
    assert.equal(keyOf('peer-router-multihop-ttl'), 'peerRouterMultihopTtl');
    const { config } = accepted(['--enable-ipv6', '--nodeport-bindon-all-ip']);
    assert.equal(config.enableIpv6, true);
    assert.equal(config.nodeportBindonAllIp, true);
  });

  it('is what a configuration without any flags holds', () => {
    const config = defaultConfig({});
    for (const flag of FLAG_NAMES) assert.deepEqual(config[keyOf(flag)], optionOf(flag).default, flag);
    assert.equal(config.runRouter && config.runFirewall && config.runServiceProxy, true);
    assert.equal(config.runLoadbalancer, false);
    assert.equal(config.auditPeriod, 60_000);
    assert.equal(config.socket, '');
  });
});

describe('flags about load-balancer addresses', () => {
  it('--loadbalancer-ip-range takes CIDRs, ranges and addresses, and names what is none', () => {
    const { loadbalancerIpRange } = accepted(['--loadbalancer-ip-range=192.0.2.0/28, 192.0.2.32-192.0.2.47,203.0.113.7']).config;
    assert.deepEqual(
      loadbalancerIpRange.map(({ first, last, prefix }) => [first, last, prefix]),
      [
        ['192.0.2.0', '192.0.2.15', '192.0.2.0/28'],
        ['192.0.2.32', '192.0.2.47', undefined],
        ['203.0.113.7', '203.0.113.7', undefined],
      ],
    );
    assert.match(
      refused(['--loadbalancer-ip-range=192.0.2.9-192.0.2.1']).join(),
      /--loadbalancer-ip-range.*"192\.0\.2\.9-192\.0\.2\.1", which is neither a CIDR nor an ascending range of addresses.*use a comma list such as/,
    );
  });

  it('--announce-interfaces takes names of links', () => {
    assert.deepEqual(accepted(['--announce-interfaces=eth0,bond0.7']).config.announceInterfaces, ['eth0', 'bond0.7']);
    for (const wrong of ['eth0,averyveryverylongname', 'eth/0', 'eth 0']) {
      assert.match(refused([`--announce-interfaces=${wrong}`]).join(), /which cannot name a link/);
    }
  });

  it('--loadbalancer-pools takes a ConfigMap or the absolute path of a file', () => {
    for (const right of ['', 'kube-system/fairway-pools', '/etc/fairway/pools.yaml']) {
      assert.equal(accepted([`--loadbalancer-pools=${right}`]).config.loadbalancerPools, right);
    }
    for (const wrong of ['pools', 'a/b/c', './pools.yaml', 'Kube/pools', 'kube-system/']) {
      assert.match(
        refused([`--loadbalancer-pools=${wrong}`]).join(),
        /--loadbalancer-pools.*NAMESPACE\/NAME of a ConfigMap, or the absolute path of a file/,
      );
    }
  });
});
