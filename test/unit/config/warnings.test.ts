import assert from 'node:assert/strict';
import type { ModuleName } from '../../../daemon/config/modules.ts';
import { ALL_BUILT, accepted, IN_CLUSTER } from './command-line.ts';

const ONLY_SERVICES: ReadonlySet<ModuleName> = new Set<ModuleName>(['services']);
const SERVICES = ['--run-router=false', '--run-firewall=false'];

function warned(argv: readonly string[], built: ReadonlySet<ModuleName> = ALL_BUILT): readonly string[] {
  return accepted(argv, IN_CLUSTER, built).warnings.map(({ flag, reason }) => `${flag}: ${reason}`);
}

describe('warnings at start', () => {
  it('say of modules that are on by default that they are not built yet', () => {
    assert.deepEqual(
      accepted([], IN_CLUSTER, ONLY_SERVICES).warnings.map(warning => warning.message),
      [
        '--run-router is on by default, but this build does not have that module yet: it leaves pod routes, BGP, tunnels and the CNI file to others (--run-router=false silences this)',
        '--run-firewall is on by default, but this build does not have that module yet: it leaves the filtering of pod traffic to others (--run-firewall=false silences this)',
      ],
    );
  });

  it('say so of a module asked for, and not of one turned off', () => {
    assert.deepEqual(warned([...SERVICES, '--run-loadbalancer'], ONLY_SERVICES), ['run-loadbalancer: not-built']);
    assert.deepEqual(warned(SERVICES, ONLY_SERVICES), []);
  });

  it('name each flag given for a module that is not built, and none that was left at its default', () => {
    assert.deepEqual(warned([...SERVICES, '--bgp-port=1790', '--netpol-default-deny', '--masquerade-all'], ONLY_SERVICES), [
      'bgp-port: not-built',
      'netpol-default-deny: not-built',
    ]);
  });

  it('name flags of a module that is off', () => {
    const [warning] = accepted(['--run-service-proxy=false', '--masquerade-all']).warnings;
    assert.equal(warning?.message, '--masquerade-all has no effect: --run-service-proxy is off');
  });

  it('name every module that would read a flag and is off', () => {
    const [warning] = accepted([
      '--run-service-proxy=0',
      '--run-router=0',
      '--run-firewall=0',
      '--run-loadbalancer',
      '--strict-external-ip-validation=0',
    ]).warnings;
    assert.equal(
      warning?.message,
      '--strict-external-ip-validation has no effect: --run-service-proxy, --run-firewall, --run-router and --announce-l2 are off',
    );
  });

  it('say nothing of a flag that another module reads', () => {
    assert.deepEqual(warned(['--run-service-proxy=false', '--service-external-ip-range=192.0.2.0/24']), []);
    assert.deepEqual(warned([...SERVICES, '--loadbalancer-ip-range=192.0.2.0/24'], ONLY_SERVICES), []);
  });

  it('name a range of load-balancer IPs among the ClusterIPs, with what becomes of it', () => {
    const messages = (...flags: readonly string[]): readonly string[] => accepted(flags).warnings.map(({ message }) => message);
    assert.deepEqual(
      messages('--loadbalancer-ip-range=192.0.2.0/24,10.96.0.9-10.96.0.20', '--service-cluster-ip-range=10.96.0.0/16'),
      [
        '--loadbalancer-ip-range has 10.96.0.9-10.96.0.20, which overlaps with 10.96.0.0/16 of --service-cluster-ip-range: addresses in both are not served as load-balancer IPs; choose a range outside',
      ],
    );
    const loose = messages('--loadbalancer-ip-range=10.0.0.0/8', '--strict-external-ip-validation=false');
    assert.match(
      loose.join(),
      /has 10\.0\.0\.0\/8, which overlaps with 10\.96\.0\.0\/12 .*: an address in both may be a ClusterIP/,
    );
    assert.deepEqual(messages('--loadbalancer-ip-range=192.0.2.0/24,2001:db8::/120', '--enable-ipv6'), []);
  });

  it('name flags that have no effect, with the reason', () => {
    const { warnings } = accepted(['--hairpin-mode', '--ipvs-sync-period=1m', '--enable-pprof']);
    assert.deepEqual(
      warnings.map(({ message }) => message),
      [
        '--enable-pprof has no effect: pprof is the profiler of Go programs; the command profile takes one of the running daemon',
        '--ipvs-sync-period has no effect: changes are applied as they happen, and every table is read back each --audit-period',
        '--hairpin-mode has no effect: that works for every Service without it',
      ],
    );
  });

  it('name flags still to be built in a module that is there', () => {
    const warnings = warned(['--disable-source-dest-check=true'], new Set(['services', 'routing']));
    assert.deepEqual(warnings.at(-1), 'disable-source-dest-check: not-built');
  });

  it('warn of a password in the process list without repeating it', () => {
    const argv = [
      '--peer-router-ips=10.0.0.1',
      '--peer-router-asns=65000',
      '--peer-router-passwords=c2VjcmV0',
      '--peer-router-passwords-file=/p',
    ];
    assert.deepEqual(warned(argv), ['peer-router-passwords: caution', 'peer-router-passwords-file: without-effect']);
    assert.doesNotMatch(JSON.stringify(accepted(argv)), /secret|c2VjcmV0/);
  });

  it('say that BFD is not to be had', () => {
    assert.deepEqual(warned(['--enable-bfd']), ['enable-bfd: without-effect']);
  });

  it('are not given for commands that run no module', () => {
    assert.deepEqual(warned(['cleanup', '--bgp-port=1790'], ONLY_SERVICES), []);
  });
});
