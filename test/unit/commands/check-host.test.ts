/** `fairway check` on this machine, in namespaces where something was taken away for real. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { skipBecause } from '../../skip.ts';

const MAIN = join(import.meta.dirname, '../../../daemon/main.ts');
const NOBODY = 65_534;

/** Runs it in namespaces of its own, after the shell has run `first` there; what that leaves running ends with it. */
function check(first: string, ...flags: readonly string[]): { readonly status: number | null; readonly stdout: string } {
  const script = `set -e; ${first}\nexec "$@"`;
  const argv = [
    '--net',
    '--mount',
    '--pid',
    '--fork',
    '--mount-proc',
    'sh',
    '-c',
    script,
    'sh',
    process.execPath,
    MAIN,
    'check',
    ...flags,
  ];
  const environment = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', KUBE_ROUTER_CNI_CONF_FILE: '/run/cni/net.d/10.conf' };
  const { status, stdout } = spawnSync('unshare', argv, { encoding: 'utf8', env: environment });
  return { status, stdout };
}

function lineOf(text: string, subject: string): string {
  return text.split('\n').find(line => line.includes(` ${subject}:`)) ?? '';
}

describe('fairway check on a host', function () {
  this.timeout(20_000);

  before(function () {
    if (process.geteuid?.() !== 0) skipBecause(this, 'namespaces take root');
    if (!existsSync('/usr/sbin/ipset')) skipBecause(this, 'ipset is not installed');
  });

  it('sees a read-only /proc/sys, a full /run, a CNI folder that cannot be written, and a tool that cannot be run', () => {
    const { status, stdout } = check(
      `mount -t tmpfs -o size=64k tmpfs /run; mkdir -p /run/fairway /run/cni/net.d
       mount -t tmpfs -o ro tmpfs /run/cni/net.d
       head -c 100000 /dev/zero >/run/fairway/full 2>/dev/null || true
       mount -o bind,ro /proc/sys /proc/sys
       mount --bind /dev/null /usr/sbin/ipset`,
    );
    assert.equal(status, 1);
    assert.match(lineOf(stdout, '/proc/sys/net'), /^ {2}missing .*EROFS.*mount \/proc\/sys writable/);
    assert.match(lineOf(stdout, '/run/fairway'), /^ {2}warning .*0 bytes are free.*free some space/);
    assert.match(lineOf(stdout, '/run/cni/net.d'), /^ {2}missing .*EROFS.*the CNI file cannot be kept/);
    assert.match(lineOf(stdout, 'ipset'), /^ {2}missing .*'ipset --version' cannot be started: .*EACCES/);
    assert.match(lineOf(stdout, 'user'), /^ {2}ok .*root/);
  });

  it('names the program that has the health port, the links whose MTU is too large, and those to announce on that are not there', () => {
    const { stdout } = check(
      `ip link set lo up; ip link add kube-bridge mtu 1500 type bridge; ip link add nic type veth peer name other
       ip link set nic mtu 1400 up; ip link set other up; ip addr add 10.77.0.1/24 dev nic; ip route add default via 10.77.0.2
       perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalPort => 20244, Listen => 1, ReuseAddr => 1); sleep 60' &
       while ! ss -Hltn | grep -q :20244; do :; done`,
      '--announce-l2',
      '--announce-interfaces=nic,eth9',
    );
    assert.match(lineOf(stdout, 'port 20244'), /^ {2}warning .*perl \d+ listens there/);
    assert.match(lineOf(stdout, 'kube-bridge'), /^ {2}warning .*its MTU 1500 is more than the 1400/);
    assert.match(lineOf(stdout, 'nic'), /^ {2}ok .*announces/);
    assert.match(lineOf(stdout, 'eth9'), /^ {2}missing .*is no link of this host.*correct --announce-interfaces/);
  });

  it('says who is not root', () => {
    const { status, stdout } = spawnSync(process.execPath, [MAIN, 'check'], {
      encoding: 'utf8',
      uid: NOBODY,
      gid: NOBODY,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    });
    assert.equal(status, 1);
    assert.match(lineOf(stdout, 'user'), /^ {2}missing .*user 65534: run as root/);
    assert.match(lineOf(stdout, 'CAP_NET_ADMIN'), /^ {2}missing .*not held/);
  });

  it('gives the same as JSON, with the worst verdict', () => {
    const { status, stdout } = check('mount -o bind,ro /proc/sys /proc/sys', '-o', 'json');
    assert.equal(status, 1);
    const { verdict, groups } = JSON.parse(stdout) as {
      verdict: string;
      groups: { findings: { subject: string; verdict: string }[] }[];
    };
    assert.equal(verdict, 'missing');
    const findings = groups.flatMap(each => each.findings);
    assert.equal(findings.find(({ subject }) => subject === '/proc/sys/net')?.verdict, 'missing');
  });
});
