import assert from 'node:assert/strict';
import { nodeNameOf } from '../../../daemon/config/config.ts';
import { EX_CONFIG } from '../../../daemon/config/config-error.ts';
import { accepted, IN_CLUSTER, refused } from './command-line.ts';

const PEER = ['--peer-router-ips=10.0.0.1', '--peer-router-asns=65000'];

/** Each of these is refused with one line, which begins so. */
const REFUSED: readonly (readonly [argv: readonly string[], line: string])[] = [
  [['--health-port=65536'], '--health-port=65536 is outside 0 to 65535; use a number from 0 to 65535'],
  [['--health-port=99999999999999999999'], '--health-port=99999999999999999999 is outside'],
  [['--metrics-port=65535'], '--metrics-port=65535 is outside 0 to 65534'],
  [['--metrics-path=metrics'], '--metrics-path=metrics has the wrong form; use a path that begins with /'],
  [['--overlay-encap-port=1023'], '--overlay-encap-port=1023 is outside 1024 to 65535'],
  [['--overlay-encap=gre'], '--overlay-encap=gre is not known; use ipip or fou or vxlan'],
  [['--overlay-type=none'], '--overlay-type=none is not known; use subnet or full'],
  [['--pod-routes=ospf'], '--pod-routes=ospf is not known; use bgp or api'],
  [['--netpol-deny-with=accept'], '--netpol-deny-with=accept is not known; use reject or drop'],
  [['--take-over=flannel'], '--take-over=flannel has "flannel", which is not known; use a comma list of kube-router, kube-proxy'],
  [
    ['--take-over=kube-router,kube-proxy', '--run-service-proxy=false'],
    '--take-over=kube-router,kube-proxy has kube-proxy, but nobody would serve its Services; turn on --run-service-proxy',
  ],
  [['--log-format=xml'], '--log-format=xml is not known; use text or json'],
  [['-v=debug'], '--v=debug is not a log level; use a whole number'],
  [['--peer-router-multihop-ttl=256', ...PEER], '--peer-router-multihop-ttl=256 is outside 0 to 255'],
  [['--bgp-port=0'], '--bgp-port=0 is outside 1 to 65535'],
  [['--bgp-port=70000'], '--bgp-port=70000 is outside 1 to 65535'],
  [['--bgp-holdtime=2s'], '--bgp-holdtime=2s is out of range; use a duration from 3s to 18h12m16s'],
  [['--bgp-holdtime=65537s'], '--bgp-holdtime=65537s is out of range'],
  [['--bgp-holdtime=90'], '--bgp-holdtime=90 is not a duration; use a number with a unit'],
  [['--ipvs-sync-period=0'], '--ipvs-sync-period=0 is out of range; use a duration of at least 1ms'],
  [['--ipvs-sync-period=-5m'], '--ipvs-sync-period=-5m is negative; use a duration of at least 1ms'],
  [['--service-tcp-timeout=-1s'], '--service-tcp-timeout=-1s is negative; use a duration of at least 0s'],
  [['--cache-sync-timeout=0s'], '--cache-sync-timeout=0s is out of range'],
  [['--cache-sync-timeout=1000h'], '--cache-sync-timeout=1000h is out of range'],
  [['--audit-period=10ms'], '--audit-period=10ms is out of range; use a duration from 1s to 24h0m0s'],
  [['--bfd-detection-multiplier=0'], '--bfd-detection-multiplier=0 is outside 1 to 255'],
  [['--bfd-port=65536'], '--bfd-port=65536 is outside 1 to 65535'],
  [['--bfd-desired-min-tx-interval=0'], '--bfd-desired-min-tx-interval=0 is outside 1 to 4294967'],
  [['--bfd-required-min-rx-interval=4294968'], '--bfd-required-min-rx-interval=4294968 is outside'],
  [['--cluster-asn=1'], '--cluster-asn=1 is not a private AS number; use 0, 64512 to 65535 or 4200000000 to 4294967294'],
  [['--cluster-asn=4294967295'], '--cluster-asn=4294967295 is not a private AS number'],
  [['--router-id=fd00::1'], '--router-id=fd00::1 has the wrong form; use a dotted IPv4 address or generate'],
  [['--router-id=10.0.0'], '--router-id=10.0.0 has the wrong form'],
  [['--runtime-endpoint=tcp://10.0.0.1'], '--runtime-endpoint=tcp://10.0.0.1 has the wrong form; use unix:///path/of/socket'],
  [['--socket=fairway.sock'], '--socket=fairway.sock has the wrong form; use an absolute path'],
  [['--gobgp-endpoint=127.0.0.1'], '--gobgp-endpoint=127.0.0.1 has the wrong form; use host:port'],
  [['--excluded-cidrs=10.0.0.0'], '--excluded-cidrs=10.0.0.0 has "10.0.0.0", which is not a CIDR'],
  [['--excluded-cidrs=10.0.0.0/8,'], '--excluded-cidrs=10.0.0.0/8, has "", which is not a CIDR'],
  [['--excluded-cidrs=10.0.0.0/33'], '--excluded-cidrs=10.0.0.0/33 has "10.0.0.0/33", which is not a CIDR'],
  [
    ['--peer-router-ips=10.0.0.256', '--peer-router-asns=1'],
    '--peer-router-ips=10.0.0.256 has "10.0.0.256", which is not an IP address',
  ],
  [['--peer-router-ips=10.0.0.1', '--peer-router-asns=23456'], '--peer-router-asns=23456 has 23456, which is out of range'],
  [['--peer-router-ips=10.0.0.1', '--peer-router-asns=65535'], '--peer-router-asns=65535 has 65535, which is out of range'],
  [['--peer-router-ips=10.0.0.1'], '--peer-router-asns="" has 0 entries, but --peer-router-ips has 1; give one entry per peer'],
  [['--peer-router-asns=65000'], '--peer-router-asns=65000 has 1 entries, but --peer-router-ips has 0'],
  [[...PEER, '--peer-router-ports=179,180'], '--peer-router-ports=179,180 has 2 entries, but --peer-router-ips has 1'],
  [[...PEER, '--peer-router-ports=0'], '--peer-router-ports=0 has 0, which is out of range'],
  [['--service-node-port-range=30000'], '--service-node-port-range=30000 is not a range of ports'],
  [['--service-node-port-range=30000-70000'], '--service-node-port-range=30000-70000 is not a range of ports'],
  [['--service-node-port-range=200-100'], '--service-node-port-range=200-100 does not ascend; put the lower port first'],
  [['--service-cluster-ip-range='], '--service-cluster-ip-range="" has 0 entries; give one CIDR, or one of each family'],
  [
    ['--service-cluster-ip-range=10.0.0.0/16,10.1.0.0/16,10.2.0.0/16'],
    '--service-cluster-ip-range=10.0.0.0/16,10.1.0.0/16,10.2.0.0/16 has 3',
  ],
  [
    ['--service-external-ip-range=fd00::/64'],
    '--service-external-ip-range=fd00::/64 has fd00::/64, but --enable-ipv6 is off; turn on',
  ],
  [
    ['--loadbalancer-ip-range=10.0.0.0/24,fd00::/64'],
    '--loadbalancer-ip-range=10.0.0.0/24,fd00::/64 has fd00::/64, but --enable-ipv6 is off',
  ],
  [
    ['--enable-ipv4=false', '--enable-ipv6'],
    '--service-cluster-ip-range=10.96.0.0/12 has 10.96.0.0/12, but --enable-ipv4 is off',
  ],
  [['--enable-ipv4=false'], '--enable-ipv4=false leaves no address family; turn on --enable-ipv4 or --enable-ipv6'],
  [
    ['--bgp-graceful-restart', '--bgp-graceful-restart-time=4096s'],
    '--bgp-graceful-restart-time=1h8m16s is out of range; use a duration above 0s, at most 1h8m15s',
  ],
  [['--bgp-graceful-restart', '--bgp-graceful-restart-time=0'], '--bgp-graceful-restart-time=0s is out of range'],
  [
    ['--bgp-graceful-restart', '--bgp-graceful-restart-deferral-time=18h1s'],
    '--bgp-graceful-restart-deferral-time=18h0m1s is out of range',
  ],
  [['--metrics-port=20244'], '--metrics-port=20244 is the port of --health-port too; choose another port for one of them'],
  [['--manifests=/m', '--kubeconfig=/k'], '--manifests=/m is given beside an API server; leave out either'],
  [
    ['--run-router=0', '--run-firewall=0', '--run-service-proxy=0'],
    '--run-service-proxy=false and every other module is off; turn on one of',
  ],
];

const ACCEPTED: readonly (readonly string[])[] = [
  ['--metrics-port=65534', '--health-port=0'],
  ['--metrics-port=20244', '--metrics-addr=10.0.0.1'],
  ['--bgp-holdtime=3s'],
  ['--bgp-holdtime=65536s'],
  ['--bgp-graceful-restart-time=0', '--bgp-graceful-restart-deferral-time=100h'],
  ['--bgp-graceful-restart', '--bgp-graceful-restart-time=4095s', '--bgp-graceful-restart-deferral-time=18h'],
  ['--cluster-asn=64512'],
  ['--cluster-asn=65535'],
  ['--cluster-asn=4294967294'],
  [
    '--peer-router-ips=10.0.0.1,10.0.0.2',
    '--peer-router-asns=1,4294967294',
    '--peer-router-ports=179,1790',
    '--peer-router-passwords=,c2VjcmV0',
  ],
  ['--router-id=generate'],
  ['--router-id=10.0.0.1'],
  ['--runtime-endpoint=unix:///run/containerd/containerd.sock'],
  ['--enable-ipv4=false', '--enable-ipv6', '--service-cluster-ip-range=fd00:1::/108'],
  ['--enable-ipv6', '--service-cluster-ip-range=10.96.0.0/12,fd00:1::/108', '--loadbalancer-ip-range=fd00:2::/64'],
  ['--run-router=false', '--run-firewall=false', '--run-service-proxy=false', '--run-loadbalancer'],
  ['--overlay-encap=vxlan', '--overlay-type=full', '--pod-routes=api'],
  ['--audit-period=1s'],
  ['--service-tcp-timeout=15m'],
];

describe('the configuration', () => {
  for (const [argv, line] of REFUSED) {
    it(`refuses ${argv.join(' ')}`, () => {
      const lines = refused(argv);
      assert.equal(lines.length, 1, lines.join('\n'));
      assert.ok(lines[0]?.startsWith(line), `${lines[0]} does not begin with ${line}`);
    });
  }

  for (const argv of ACCEPTED) it(`accepts ${argv.join(' ')}`, () => assert.equal(accepted(argv).kind, 'run'));

  it('lists every fault at once: words, syntax, values and contradictions', () => {
    const lines = refused([
      '--run-servce-proxy',
      'extra',
      '--health-port=x',
      '--bgp-holdtime=1s',
      '--excluded-cidrs=10/8',
      '--service-external-ip-range=fd00::/8',
      '--peer-router-ips=10.0.0.1',
      '--metrics-path=m',
      'stray',
    ]);
    const subjects = lines.map(line => /^[^ =]+/.exec(line)?.[0]);
    assert.deepEqual(subjects, [
      '--run-servce-proxy',
      '--health-port',
      '--bgp-holdtime',
      '--excluded-cidrs',
      '--metrics-path',
      '"stray"',
      '--service-external-ip-range',
      '--peer-router-asns',
    ]);
  });

  it('does not add a contradiction to a flag that is wrong by itself', () => {
    assert.deepEqual(
      refused(['--peer-router-ips=x', '--peer-router-asns=65000']).map(line => line.split(' ')[0]),
      ['--peer-router-ips=x'],
    );
  });

  it('never repeats a password, right or wrong', () => {
    const lines = refused(['--peer-router-passwords=not*base64*secret']);
    assert.deepEqual(lines, [
      '--peer-router-passwords has an entry that is not base64; encode each password: printf %s PASSWORD | base64',
    ]);
    assert.deepEqual(refused(['--peer-router-passwords=c2VjcmV0']), [
      '--peer-router-passwords has 1 entries, but --peer-router-ips has 0; give one entry per peer, in the same order',
    ]);
    assert.equal(refused([...PEER, '--peer-router-passwords=/w==']).length, 1, 'bytes that are no text');
  });

  it('asks where the cluster is, unless it runs in a pod or is told', () => {
    const line =
      'The source of Services and pods is not given, and this is no pod of a cluster; use --kubeconfig FILE or --master URL, or --manifests DIR for a directory of Kubernetes YAML';
    assert.deepEqual(refused([], {}), [line]);
    assert.deepEqual(refused(['plan', '--run-router=false'], {}), [line]);
    for (const argv of [
      ['plan'],
      ['plan', '--snapshot=/f', '--run-router=false'],
      ['status'],
      ['--kubeconfig=/k'],
      ['--master=https://api'],
      ['--manifests=/m'],
      ['check'],
      ['cleanup'],
    ]) {
      assert.equal(accepted(argv, {}).kind, 'run');
    }
  });

  it('has the exit status of sysexits.h', () => assert.equal(EX_CONFIG, 78));
});

describe('the environment', () => {
  it('gives the node its name after --hostname-override and before the host', () => {
    const env = { ...IN_CLUSTER, NODE_NAME: 'from-env' };
    assert.equal(nodeNameOf(accepted(['--hostname-override=flag'], env).config, 'Host'), 'flag');
    assert.equal(nodeNameOf(accepted([], env).config, 'Host'), 'from-env');
    assert.equal(nodeNameOf(accepted([]).config, 'Host.Example\n'), 'host.example');
  });

  it('names the CNI file and our pod', () => {
    assert.deepEqual(accepted([]).config.environment, {
      nodeName: undefined,
      cniConfFile: '/etc/cni/net.d/10-kuberouter.conf',
      podName: undefined,
      podNamespace: undefined,
    });
    const env = {
      ...IN_CLUSTER,
      KUBE_ROUTER_CNI_CONF_FILE: '/c.conflist',
      POD_NAME: 'p',
      POD_NAMESPACE: 'kube-system',
      NODE_NAME: '',
    };
    assert.deepEqual(accepted([], env).config.environment, {
      nodeName: undefined,
      cniConfFile: '/c.conflist',
      podName: 'p',
      podNamespace: 'kube-system',
    });
  });
});
