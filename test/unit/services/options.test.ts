import assert from 'node:assert/strict';
import { servicesOptionsOf } from '../../../modules/services/options.ts';
import { cidrs, ip } from '../../fixtures/cluster.ts';

const CONFIG = {
  enableIpv4: true,
  enableIpv6: false,
  masqueradeAll: false,
  nodeportBindonAllIp: true,
  nodeportAddresses: cidrs('192.168.0.0/16'),
  serviceExternalIpRange: cidrs('203.0.113.0/24'),
  loadbalancerIpRange: [{ first: ip('198.51.100.8'), last: ip('198.51.100.15'), prefix: undefined }],
  loadbalancerPools: '',
  serviceClusterIpRange: cidrs('10.96.0.0/12'),
  strictExternalIpValidation: true,
  ipvsPermitAll: true,
  ipvsGracefulTermination: false,
};

describe('options of the services module', () => {
  it('a family whose flag was not given follows the addresses of the node', () => {
    assert.deepEqual(servicesOptionsOf(CONFIG, new Set()).families, { ipv4: 'auto', ipv6: 'auto' });
  });

  it('a family whose flag was given follows the flag', () => {
    const given = new Set(['enable-ipv4', 'enable-ipv6'] as const);
    assert.deepEqual(servicesOptionsOf(CONFIG, given).families, { ipv4: 'on', ipv6: 'off' });
    assert.deepEqual(servicesOptionsOf({ ...CONFIG, enableIpv4: false, enableIpv6: true }, given).families, {
      ipv4: 'off',
      ipv6: 'on',
    });
  });

  it('each range comes from its own flag', () => {
    const options = servicesOptionsOf(CONFIG, new Set());
    assert.deepEqual(
      [options.nodeportAddresses, options.externalIpRanges, options.loadBalancerIpRanges, options.clusterIpRanges],
      [CONFIG.nodeportAddresses, CONFIG.serviceExternalIpRange, cidrs('198.51.100.8/29'), CONFIG.serviceClusterIpRange],
    );
    assert.equal(options.nodeportBindOnAllIp, true);
  });
});
