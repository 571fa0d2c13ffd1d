import assert from 'node:assert/strict';
import { type PolicyOptions, policyOptionsOf } from '../../../modules/policy/options.ts';
import { cidrs } from '../../fixtures/cluster.ts';
import { accepted } from '../config/command-line.ts';

/** What the module makes of a command line. */
function optionsOf(...argv: readonly string[]): PolicyOptions {
  const { config, explicit } = accepted(argv);
  return policyOptionsOf(config, explicit);
}

describe('options of the policy module, off the command line of kube-router', () => {
  it('no flag: denied packets are answered, unknown addresses are open, families follow the addresses', () => {
    const options = optionsOf();
    assert.deepEqual(options.families, { ipv4: 'auto', ipv6: 'auto' });
    assert.equal(options.defaultDeny, false);
    assert.equal(options.denyWith, 'reject');
    assert.equal(options.strictExternalIpValidation, true);
    assert.deepEqual(options.nodePorts, { first: 30_000, last: 32_767 });
    assert.deepEqual(options.serviceRanges, cidrs('10.96.0.0/12'));
  });

  it('a family whose flag was given follows the flag', () => {
    const both = optionsOf(
      '--enable-ipv6',
      '--enable-ipv4=false',
      '--service-cluster-ip-range=fd00:96::/112',
      '--router-id=1.1.1.1',
    ).families;
    assert.deepEqual(both, { ipv4: 'off', ipv6: 'on' });
    assert.deepEqual(optionsOf('--enable-ipv4').families, { ipv4: 'on', ipv6: 'auto' });
  });

  it('every range that Services have addresses of is left to the service proxy', () => {
    const { serviceRanges } = optionsOf(
      '--enable-ipv6',
      '--service-cluster-ip-range=10.100.0.0/16',
      '--service-cluster-ip-range=fd00:96::/112',
      '--service-external-ip-range=203.0.113.0/24',
      '--loadbalancer-ip-range=198.51.100.0/24',
    );
    assert.deepEqual(
      [...serviceRanges].sort(),
      [...cidrs('10.100.0.0/16', 'fd00:96::/112', '203.0.113.0/24', '198.51.100.0/24')].sort(),
    );
  });

  it('node ports in both spellings that kube-router takes', () => {
    assert.deepEqual(optionsOf('--service-node-port-range=20000-20999').nodePorts, { first: 20_000, last: 20_999 });
    assert.deepEqual(optionsOf('--service-node-port-range=20000:20999').nodePorts, { first: 20_000, last: 20_999 });
  });

  it('flags of our own', () => {
    assert.equal(optionsOf('--netpol-default-deny').defaultDeny, true);
    assert.equal(optionsOf('--netpol-deny-with=drop').denyWith, 'drop');
    assert.equal(optionsOf('--strict-external-ip-validation=false').strictExternalIpValidation, false);
  });
});
