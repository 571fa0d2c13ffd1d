/** Pods attached by the reference plugins of CNI, from the very file that our driver writes. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { skipBecause } from '../skip.ts';
import { CniPod, type CniResult, type RuntimeConfig } from './cni-runtime.ts';
import { describeLab } from './describe-lab.ts';
import type { Lab } from './lab.ts';

const FAMILIES = ['ipv4', 'ipv6'] as const;
const MTU = 1430;
const CONFLIST = '/run/cni/10-kuberouter.conflist';
const CONF = '/run/cni/10-kuberouter.conf';
const HOST_PORT = 8088;
const PORT_MAPPINGS = [{ hostPort: HOST_PORT, containerPort: 80, protocol: 'tcp' }];
const OTHER_CIDRS = { ipv4: '10.244.77.0/24', ipv6: 'fd00:10:244:77::/64' };
const NEEDED = ['bridge', 'host-local', 'portmap', 'bandwidth'].map(name => `/usr/lib/cni/${name}`);

interface ShownLink {
  readonly mtu: number;
  readonly addr_info: readonly {
    readonly family: string;
    readonly local: string;
    readonly prefixlen: number;
    readonly scope: string;
  }[];
}

describeLab('pods by CNI', { nodes: 1, podsPerNode: 0 }, lab => {
  const pods: { readonly pod: CniPod; readonly path: string }[] = [];

  before('plugins, and no bridge', async function () {
    const missing = NEEDED.filter(path => !existsSync(path));
    if (missing.length > 0) skipBecause(this, `not installed: ${missing.join(', ')} (Debian: containernetworking-plugins)`);
    await lab().expectRun(lab().node(1), ['ip', 'link', 'del', 'kube-bridge']);
  });

  afterEach(async () => {
    for (const { pod, path } of pods.splice(0)) await pod.del(path);
  });

  const podOf = async (
    name: string,
    path: string,
    runtimeConfig: RuntimeConfig = {},
  ): Promise<{ pod: CniPod; result: CniResult }> => {
    const pod = new CniPod(lab(), lab().node(1), name, runtimeConfig);
    await pod.make();
    pods.push({ pod, path });
    return { pod, result: await pod.add(path) };
  };

  const cidrs = (): readonly string[] => FAMILIES.map(family => lab().node(1).podCidrs[family]);

  it('has both families, the MTU and default routes, answers at a host port, and is as it was when it is gone', async () => {
    const node = lab().node(1);
    assert.equal(await keep(lab(), CONFLIST, cidrs()), 'created');
    const { plugins } = JSON.parse(await lab().readFile(node, CONFLIST)) as { plugins: { type: string }[] };
    assert.deepEqual(
      plugins.map(({ type }) => type),
      ['bridge', 'portmap', 'bandwidth'],
    );

    const { pod, result } = await podOf('cni-1', CONFLIST, { portMappings: PORT_MAPPINGS });
    const addresses = addressesIn(result);
    assert.match(addresses.ipv4, /^10\.244\.1\.\d+$/);
    assert.match(addresses.ipv6, /^fd00:10:244:1::[0-9a-f]+$/);
    const eth0 = await linkOf(lab(), pod);
    assert.equal(eth0.mtu, MTU);
    assert.deepEqual(
      eth0.addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`),
      [`${addresses.ipv4}/24`, `${addresses.ipv6}/64`],
    );
    assert.match(await lab().expectRun(pod, ['ip', '-4', 'route', 'show', 'default']), /^default via 10\.244\.1\.1 dev eth0/);
    assert.match(await lab().expectRun(pod, ['ip', '-6', 'route', 'show', 'default']), /^default via fd00:10:244:1::1 dev eth0/);

    for (const family of FAMILIES) await lab().probe(pod).serve('tcp', addresses[family], 80, pod.name);
    for (const family of FAMILIES) {
      const direct = await lab().probe(lab().ext).connect({ transport: 'tcp', address: addresses[family], port: 80 });
      assert.equal(direct.outcome, 'answer', `${family} from outside to the pod's address`);
      const mapped = await lab().probe(lab().ext).connect({ transport: 'tcp', address: node.addresses[family], port: HOST_PORT });
      assert.ok(mapped.outcome === 'answer', `${family} from outside to the host port: ${JSON.stringify(mapped)}`);
      assert.equal(mapped.server, pod.name);
      assert.equal(mapped.peer, lab().ext.addresses[family]);
    }

    assert.deepEqual(amiss(await pod.check(CONFLIST)), []);
    await lab().expectRun(pod, ['ip', 'addr', 'del', `${addresses.ipv4}/24`, 'dev', 'eth0']);
    assert.deepEqual(amiss(await pod.check(CONFLIST)), ['bridge'], 'CHECK finds what is missing');
    await pod.del(CONFLIST);
    pods.length = 0;
    assert.equal((await lab().run(pod, ['ip', 'link', 'show', 'eth0'])).status, 1, 'the link is gone');
    assert.doesNotMatch(await lab().expectRun(node, ['ip', '-o', 'link', 'show']), /veth/);
    assert.equal(await rules(lab()), '');
    for (const family of FAMILIES) {
      const mapped = await lab().probe(lab().ext).connect({ transport: 'tcp', address: node.addresses[family], port: HOST_PORT });
      assert.equal(mapped.outcome, 'refused', family);
    }
  });

  it('has the bandwidth it was given', async () => {
    await keep(lab(), CONFLIST, cidrs());
    const bandwidth = { ingressRate: 1_000_000, ingressBurst: 1_000_000, egressRate: 1_000_000, egressBurst: 1_000_000 };
    const { pod } = await podOf('cni-2', CONFLIST, { bandwidth });
    const limits = (await lab().expectRun(lab().node(1), ['tc', 'qdisc', 'show'])).match(/qdisc tbf .* rate 1Mbit/g) ?? [];
    assert.equal(limits.length, 2, 'one on its link, one for what it sends');
    assert.deepEqual(await pod.check(CONFLIST), new Map());
  });

  it('comes from another pod CIDR once the node has one, and a file that is right is not touched', async () => {
    await keep(lab(), CONFLIST, cidrs());
    const inode = (): Promise<string> => lab().expectRun(lab().node(1), ['stat', '-c', '%i', CONFLIST]);
    const before = await inode();
    assert.equal(await keep(lab(), CONFLIST, cidrs()), 'kept');
    assert.equal(await inode(), before);
    const first = await podOf('cni-3', CONFLIST);
    assert.equal(
      await keep(
        lab(),
        CONFLIST,
        FAMILIES.map(family => OTHER_CIDRS[family]),
      ),
      'updated',
    );
    const { pod, result } = await podOf('cni-4', CONFLIST);
    assert.match(addressesIn(result).ipv4, /^10\.244\.77\./);
    assert.match(addressesIn(result).ipv6, /^fd00:10:244:77::/);
    assert.deepEqual(amiss(await pod.check(CONFLIST)), []);
    await first.pod.del(CONFLIST);
    assert.equal((await lab().run(first.pod, ['ip', 'link', 'show', 'eth0'])).status, 1, 'one of the former CIDR ends as ever');
  });

  it('is attached by a file with one plugin alone', async () => {
    assert.equal(await keep(lab(), CONF, cidrs()), 'created');
    const { pod, result } = await podOf('cni-5', CONF);
    assert.match(addressesIn(result).ipv4, /^10\.244\.1\./);
    assert.match(addressesIn(result).ipv6, /^fd00:10:244:1::/);
    assert.deepEqual(await pod.check(CONF), new Map());
  });

  it("is attached by kube-router's own file, which becomes one for both families", async () => {
    const stock = { cniVersion: '0.3.0', name: 'mynet', type: 'bridge', bridge: 'kube-bridge', isDefaultGateway: true };
    const { ipv4 } = lab().node(1).podCidrs;
    await lab().writeFile(lab().node(1), CONF, JSON.stringify({ ...stock, ipam: { type: 'host-local', subnet: ipv4 } }));
    assert.equal(await keep(lab(), CONF, cidrs()), 'updated');
    const { result } = await podOf('cni-6', CONF);
    assert.match(addressesIn(result).ipv4, /^10\.244\.1\./);
    assert.match(addressesIn(result).ipv6, /^fd00:10:244:1::/);
  });
});

/** One round of the driver on the node. */
async function keep(lab: Lab, path: string, podCIDRs: readonly string[]): Promise<string> {
  const argv = [process.execPath, 'test/lab/cni-keep.ts', path, String(MTU), ...podCIDRs];
  return (await lab.expectRun(lab.node(1), argv)).trim();
}

/**
 * Plugins that found something, but for two faults of the reference plugins (1.1.1), whatever the file says: portmap, where there is a host port,
 * looks for IPv4 rules in ip6tables, and bandwidth dereferences nil where no limit was set.
 */
function amiss(complaints: ReadonlyMap<string, string>): readonly string[] {
  return [...complaints]
    .filter(([type, said]) => !(type === 'portmap' && said.includes('could not check ipv6 dnat')))
    .filter(([type, said]) => !(type === 'bandwidth' && said.includes('nil pointer dereference')))
    .map(([type]) => type);
}

function addressesIn({ ips }: CniResult): { readonly ipv4: string; readonly ipv6: string } {
  const [ipv4 = '', ipv6 = ''] = ips.map(({ address }) => address.replace(/\/.*/, ''));
  assert.equal(ips.length, 2);
  return { ipv4, ipv6 };
}

async function linkOf(lab: Lab, pod: CniPod): Promise<ShownLink> {
  const [link] = JSON.parse(await lab.expectRun(pod, ['ip', '-j', 'addr', 'show', 'dev', 'eth0'])) as ShownLink[];
  return link ?? assert.fail('no eth0');
}

/** Rules that forward a host port. */
async function rules(lab: Lab): Promise<string> {
  const both = await Promise.all(
    ['iptables', 'ip6tables'].map(tool => lab.expectRun(lab.node(1), [tool, '-w', '-t', 'nat', '-S'])),
  );
  return both
    .join('')
    .split('\n')
    .filter(line => line.includes(String(HOST_PORT)))
    .join('\n');
}
