import assert from 'node:assert/strict';
import { FLAG_NAMES, findFlag, findShorthand, keyOf, optionOf } from '../../../daemon/config/options.ts';
import { defaultConfig } from '../../../daemon/config/parse.ts';
import { accepted } from './command-line.ts';
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
