import assert from 'node:assert/strict';
import { parseArguments } from '../../../daemon/config/parse.ts';
import { accepted, IN_CLUSTER, refused } from './command-line.ts';

describe('the command line', () => {
  it('takes a bare boolean as true', () => {
    assert.equal(accepted(['--masquerade-all']).config.masqueradeAll, true);
  });

  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) {
    it(`takes --masquerade-all=${text} as true`, () =>
      assert.equal(accepted([`--masquerade-all=${text}`]).config.masqueradeAll, true));
  }

  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) {
    it(`takes --run-firewall=${text} as false`, () =>
      assert.equal(accepted([`--run-firewall=${text}`]).config.runFirewall, false));
  }

  it('refuses other words for a boolean', () => {
    assert.deepEqual(refused(['--run-firewall=no', '--run-router=']), [
      '--run-firewall=no is not a boolean; use true or false',
      '--run-router="" is not a boolean; use true or false',
    ]);
  });

  it('does not let a boolean take the next argument, and says how to write it', () => {
    assert.deepEqual(refused(['--run-router', 'false']), [
      '"false" stands alone; join a boolean to its flag by an equals sign: --run-router=false',
    ]);
  });

  it('takes the value of other flags by an equals sign or from the next argument', () => {
    assert.equal(accepted(['--health-port=1234']).config.healthPort, 1234);
    assert.equal(accepted(['--health-port', '1234']).config.healthPort, 1234);
    assert.equal(accepted(['--hostname-override', '-odd']).config.hostnameOverride, '-odd');
    assert.equal(accepted(['--hostname-override=a=b']).config.hostnameOverride, 'a=b');
  });

  for (const argv of [['-v2'], ['-v=2'], ['-v', '2'], ['--v', '2'], ['--v=2']]) {
    it(`takes ${argv.join(' ')} as log level 2`, () => assert.equal(accepted(argv).config.v, 2));
  }

  it('takes the last of a repeated flag, and appends a repeated list', () => {
    const { config } = accepted([
      '--health-port=1',
      '--health-port=2',
      '--excluded-cidrs=10.0.0.0/8,fd00::/8',
      '--excluded-cidrs',
      '192.0.2.0/24',
    ]);
    assert.equal(config.healthPort, 2);
    assert.deepEqual(config.excludedCidrs, ['10.0.0.0/8', 'fd00::/8', '192.0.2.0/24']);
  });

  it('lets the first use of a list replace its default', () => {
    assert.deepEqual(accepted(['--service-cluster-ip-range=10.1.0.0/16']).config.serviceClusterIpRange, ['10.1.0.0/16']);
  });

  it('takes an empty list', () => {
    assert.deepEqual(accepted(['--service-external-ip-range=']).config.serviceExternalIpRange, []);
  });

  it('reads addresses and CIDRs into canonical form, with blanks after commas', () => {
    const { config } = accepted([
      '--nodeport-addresses=10.1.2.3/8, FD00:0:0::1/64',
      '--peer-router-ips=FD00::0:1',
      '--peer-router-asns=65000',
    ]);
    assert.deepEqual(config.nodeportAddresses, ['10.0.0.0/8', 'fd00::/64']);
    assert.deepEqual(config.peerRouterIps, ['fd00::1']);
  });

  it('reads unsigned integers in the notations of Go', () => {
    const read = (text: string): number => accepted([`--health-port=${text}`]).config.healthPort;
    assert.deepEqual(['0x10', '0b101', '0o17', '017', '1_000', '0'].map(read), [16, 5, 15, 15, 1000, 0]);
    assert.equal(refused(['--health-port=-1', '--bgp-port=1.5', '--overlay-encap-port=08888', '--metrics-port=0x']).length, 4);
  });

  it('reads lists of integers in decimal, as pflag does', () => {
    assert.deepEqual(accepted(['--peer-router-ips=10.0.0.1', '--peer-router-asns=065000']).config.peerRouterAsns, [65000]);
    assert.equal(refused(['--peer-router-ips=10.0.0.1', '--peer-router-asns=0xfde8']).length, 1);
  });

  it('prints help for -h, --help and letters in a row, whatever else is wrong', () => {
    for (const argv of [['-h'], ['--help'], ['--help=1'], ['-Vh'], ['--nonsense', '-h']])
      assert.deepEqual(parseArguments(argv, {}), { kind: 'help' });
    assert.equal(accepted(['--help=false']).command, 'run');
  });

  it('prints the version for -V and --version', () => {
    for (const argv of [['-V'], ['--version'], ['-v2', '-V']]) assert.deepEqual(parseArguments(argv, {}), { kind: 'version' });
  });

  it('names the flag an unknown one probably meant', () => {
    assert.deepEqual(refused(['--run-servce-proxy=false', '--no-run-router', '--advertise-cluster-pi', '--qqqq=1']), [
      '--run-servce-proxy is not a flag; did you mean --run-service-proxy?',
      '--no-run-router is not a flag; write --run-router=false',
      '--advertise-cluster-pi is not a flag; did you mean --advertise-cluster-ip?',
      '--qqqq is not a flag; --help lists all flags',
    ]);
  });

  it('takes the value after an unknown flag for its value, and no second fault', () => {
    assert.deepEqual(refused(['--kubeconfg', '/etc/kube.conf']), ['--kubeconfg is not a flag; did you mean --kubeconfig?']);
  });

  it('says which dash is missing', () => {
    assert.deepEqual(refused(['-run-router=false']), ['-run-router=false has one dash; write --run-router=false']);
    assert.deepEqual(refused(['-health-port=1']), ['-health-port=1 has the unknown letter "e"; write --health-port=1']);
    assert.deepEqual(refused(['-x']), ['-x has the unknown letter "x"; long flags begin with two dashes; --help lists them']);
    assert.deepEqual(refused(['---run-router', '--=1']), [
      '---run-router is not a flag; write --flag=value',
      '--=1 is not a flag; write --flag=value',
    ]);
  });

  it('says that the last flag lacks its value', () => {
    assert.deepEqual(refused(['--health-port']), ['--health-port has no value; write --health-port=uint16']);
    assert.deepEqual(refused(['-v']), ['--v has no value; write --v=level']);
  });

  it('does not take names every object has for flags or commands', () => {
    assert.equal(refused(['--constructor=1', '--toString']).length, 2);
    assert.equal(refused(['constructor']).length, 1);
  });

  it('runs without a command, and takes one anywhere among the flags', () => {
    assert.equal(accepted([]).command, 'run');
    assert.equal(accepted(['run']).command, 'run');
    assert.equal(accepted(['-v', '2', 'plan', '--manifests=/m'], {}).command, 'plan');
    assert.equal(accepted(['--', 'check']).command, 'check');
  });

  it('treats --cleanup-config as the command cleanup', () => {
    assert.equal(accepted(['--cleanup-config'], {}).command, 'cleanup');
    assert.equal(accepted(['cleanup', '--cleanup-config'], {}).command, 'cleanup');
    assert.deepEqual(refused(['plan', '--cleanup-config']), [
      '--cleanup-config contradicts the command plan; leave out one of them',
    ]);
  });

  it('refuses words that are no command', () => {
    assert.deepEqual(refused(['claenup']), ['"claenup" is neither a flag nor a command; did you mean cleanup?']);
    assert.deepEqual(
      refused(['plan', 'x', '--', '--run-router']).map(line => line.split(';')[0]),
      ['"x" is neither a flag nor a command', '"--run-router" is neither a flag nor a command'],
    );
    assert.equal(refused(['-']).length, 1);
  });

  it('remembers which flags were given, also at their default', () => {
    assert.deepEqual([...accepted(['--run-router=true', '-v', '0', 'run']).explicit], ['run-router', 'v']);
  });

  it('leaves the caller its arguments unchanged', () => {
    const argv = Object.freeze(['--v=1', 'run']);
    assert.equal(parseArguments(argv, Object.freeze({ ...IN_CLUSTER })).kind, 'run');
  });
});
