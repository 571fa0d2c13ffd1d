import assert from 'node:assert/strict';
import { Secret } from '../../../daemon/net/secret.ts';
import { type RoutingOptions, routingOptionsOf } from '../../../modules/routing/options.ts';
import { cidrs } from '../../fixtures/cluster.ts';
import { routingOptions } from '../../fixtures/routing-options.ts';
import { accepted } from '../config/command-line.ts';

function optionsOf(flags: readonly string[] = [], passwords: readonly Secret[] = []): RoutingOptions {
  const { config, explicit } = accepted(['--run-router', ...flags]);
  return routingOptionsOf(config, explicit, passwords);
}

describe('options of the routing module', () => {
  it('are by default those that tests begin with', () => {
    const { policyFirst, tellsOfAddresses, externalIpRanges, loadBalancerIpRanges, clusterIpRanges, cniFile, ...rest } =
      routingOptions();
    const { families, ...flags } = optionsOf();
    assert.deepEqual({ ...flags, families }, { ...flags, ...rest });
    assert.equal(flags.cniFile, cniFile);
  });

  it('a family whose flag was given follows the flag', () => {
    assert.deepEqual(
      optionsOf(['--enable-ipv6=true', '--enable-ipv4=false', '--service-cluster-ip-range=fd00:96::/112']).families,
      { ipv4: 'off', ipv6: 'on' },
    );
    assert.deepEqual(optionsOf(['--enable-ipv6=false']).families, { ipv4: 'auto', ipv6: 'off' });
  });

  it('an overlay is of a reach, an encapsulation and a port; off it is none of these', () => {
    assert.deepEqual(optionsOf(['--overlay-type=full', '--overlay-encap=vxlan', '--overlay-encap-port=4789']).overlay, {
      reach: 'full',
      encapsulation: 'vxlan',
      port: 4789,
    });
    assert.equal(optionsOf(['--enable-overlay=false']).overlay, undefined);
  });

  it('times are of whole seconds, and the longest hold time is what BGP can say', () => {
    assert.equal(optionsOf(['--bgp-holdtime=65536s']).holdSeconds, 65_535);
    assert.equal(optionsOf(['--bgp-holdtime=3s']).holdSeconds, 3);
    assert.deepEqual(optionsOf(['--bgp-graceful-restart', '--bgp-graceful-restart-time=2m']).gracefulRestart, {
      restartSeconds: 120,
      deferralSeconds: 360,
    });
    assert.equal(optionsOf().gracefulRestart, undefined);
  });

  it('a TTL of one hop is no multihop', () => {
    for (const [ttl, expected] of [
      [0, 0],
      [1, 0],
      [2, 2],
      [255, 255],
    ]) {
      assert.equal(optionsOf([`--peer-router-multihop-ttl=${ttl}`]).multihopTtl, expected);
    }
  });

  it('routers are put together from the lists of their flags', () => {
    const flags = ['--peer-router-ips=10.0.0.1,fd00::1', '--peer-router-asns=65000,65001'];
    const peers = (more: readonly string[], passwords: readonly Secret[]): readonly string[] =>
      optionsOf([...flags, ...more], passwords).peers.map(
        ({ address, asn, port, password }) => `${address} ${asn} ${port} ${password.reveal()}`,
      );
    assert.deepEqual(peers([], []), ['10.0.0.1 65000 179 ', 'fd00::1 65001 179 ']);
    assert.deepEqual(peers(['--peer-router-ports=1179,1180'], [new Secret(''), new Secret('open sesame')]), [
      '10.0.0.1 65000 1179 ',
      'fd00::1 65001 1180 open sesame',
    ]);
  });

  it('the AS number of the cluster is 64512 unless told', () => {
    assert.equal(optionsOf().clusterAsn, 64_512);
    assert.equal(optionsOf(['--cluster-asn=65001']).clusterAsn, 65_001);
  });

  it('other modules decide who tells of addresses and whether pods wait for policies', () => {
    const alone = optionsOf(['--run-service-proxy=false', '--run-firewall=false']);
    assert.deepEqual([alone.tellsOfAddresses, alone.policyFirst], [true, false]);
    const together = optionsOf(['--run-service-proxy', '--run-firewall']);
    assert.deepEqual([together.tellsOfAddresses, together.policyFirst], [false, true]);
  });

  it('no CNI file is kept with --enable-cni=false', () => assert.equal(optionsOf(['--enable-cni=false']).cniFile, undefined));

  it('each range comes from its own flag', () => {
    const options = optionsOf([
      '--service-external-ip-range=203.0.113.0/24',
      '--loadbalancer-ip-range=198.51.100.0/24',
      '--service-cluster-ip-range=10.97.0.0/16',
    ]);
    assert.deepEqual(
      [options.externalIpRanges, options.loadBalancerIpRanges, options.clusterIpRanges],
      [cidrs('203.0.113.0/24'), cidrs('198.51.100.0/24'), cidrs('10.97.0.0/16')],
    );
  });
});
