// Address plan: nodes 192.168.1.0/24 and fd00:192::/64.
import assert from 'node:assert/strict';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { linkDriver } from '../../../daemon/kernel/link.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import type { Link } from '../../../daemon/reconcile/link.ts';

const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };
const links = linkDriver({ runner: unused, owns: () => true });
const create = (to: Link): Change<Link> => ({ op: 'create', key: to.name, to });
const update = (from: Link, to: Link): Change<Link> => ({ op: 'update', key: to.name, from, to });
const remove = (from: Link): Change<Link> => ({ op: 'delete', key: from.name, from });
const render = (...changes: readonly Change<Link>[]): readonly string[] => links.render(changes).split('\n').slice(0, -1);

const dummy: Link = { name: 'kube-dummy-if', type: 'dummy' };
const bridge = (mtu?: number): Link => ({ name: 'kube-bridge', type: 'bridge', mtu });
const ipip: Extract<Link, { type: 'ipip' | 'ip6tnl' }> = {
  name: 'tun-0123456789a',
  type: 'ipip',
  local: mustParseAddress('192.168.1.11'),
  remote: mustParseAddress('192.168.1.12'),
  guePort: undefined,
  mtu: 1480,
};
const ip6tnl: typeof ipip = {
  ...ipip,
  type: 'ip6tnl',
  local: mustParseAddress('fd00:192::11'),
  remote: mustParseAddress('fd00:192::12'),
  guePort: 5555,
  mtu: 1448,
};
const vxlan: Extract<Link, { type: 'vxlan' }> = { name: 'fairway-vxlan', type: 'vxlan', port: 4790, mtu: 1444 };

describe('the batch for links', () => {
  it('makes each type, up at last, and takes it back', () => {
    assert.deepEqual(render(create(dummy), create(bridge()), create(bridge(1480)), create(ipip), create(ip6tnl), create(vxlan)), [
      'link add dev kube-dummy-if type dummy',
      'link set dev kube-dummy-if up',
      'link add dev kube-bridge type bridge',
      'link set dev kube-bridge up',
      'link add dev kube-bridge type bridge',
      'link set dev kube-bridge mtu 1480 up',
      'link add dev tun-0123456789a mtu 1480 type ipip mode ipip local 192.168.1.11 remote 192.168.1.12 ttl 225 encap none',
      'link set dev tun-0123456789a up',
      'link add dev tun-0123456789a mtu 1448 type ip6tnl mode ip6ip6 local fd00:192::11 remote fd00:192::12 hoplimit 225 encaplimit none encap gue encap-sport auto encap-dport 5555 encap-udp6-csum',
      'link set dev tun-0123456789a up',
      'link add dev fairway-vxlan mtu 1444 type vxlan external gpe dstport 4790',
      'link set dev fairway-vxlan up',
    ]);
    assert.deepEqual(render(remove(dummy), remove(vxlan)), ['link delete dev kube-dummy-if', 'link delete dev fairway-vxlan']);
  });

  it('changes in place what the kernel can, and makes anew what it cannot', () => {
    assert.deepEqual(render(update(ipip, { ...ipip, guePort: 5555, mtu: 1468 })), [
      'link change dev tun-0123456789a mtu 1468 type ipip mode ipip local 192.168.1.11 remote 192.168.1.12 ttl 225 encap gue encap-sport auto encap-dport 5555 noencap-csum',
      'link set dev tun-0123456789a up',
    ]);
    assert.deepEqual(render(update(bridge(1500), bridge(1450)), update(vxlan, { ...vxlan, mtu: 1400 })), [
      'link set dev kube-bridge mtu 1450 up',
      'link set dev fairway-vxlan mtu 1400 up',
    ]);
    assert.deepEqual(
      render(update(vxlan, { ...vxlan, port: 8472 }), update(ipip, ip6tnl)).filter(line => !line.includes('set')),
      [
        'link delete dev fairway-vxlan',
        'link add dev fairway-vxlan mtu 1444 type vxlan external gpe dstport 8472',
        'link delete dev tun-0123456789a',
        'link add dev tun-0123456789a mtu 1448 type ip6tnl mode ip6ip6 local fd00:192::11 remote fd00:192::12 hoplimit 225 encaplimit none encap gue encap-sport auto encap-dport 5555 encap-udp6-csum',
      ],
    );
  });
});

describe('a kernel that lacks a type of link', () => {
  const never = new AbortController().signal;

  /** A runner that answers as a machine that is not this one: no links, and this refusal of any. */
  function refusing(said: string, asked: Command[]): CommandRunner {
    const answer = ({ argv }: Command): CommandResult =>
      argv.includes('-j') || argv[0] === 'modprobe'
        ? { status: 0, stdout: '[]\n', stderr: '' }
        : {
            status: 1,
            stdout: '',
            stderr: `${said}\nCommand failed -:1\nCannot find device "${ipip.name}"\nCommand failed -:2\n`,
          };
    return {
      async run(command) {
        asked.push(command);
        return answer(command);
      },
      lines: () => assert.fail('nothing is read in lines'),
    };
  }

  for (const { link, said, modprobe, message } of [
    {
      link: ipip,
      said: 'Error: Unknown device type.',
      modprobe: ['modprobe', '-a', '-q', 'ipip', 'fou'],
      message: /refused: Error: Unknown device type\. \(the kernel lacks the ipip module\)$/,
    },
    {
      link: { ...ipip, guePort: 5555 },
      said: 'RTNETLINK answers: Invalid argument',
      modprobe: ['modprobe', '-a', '-q', 'ipip', 'fou'],
      message: /refused: Invalid argument \(the kernel lacks GUE tunnels: 'modprobe -a ipip fou'/,
    },
    { link: ipip, said: 'RTNETLINK answers: Invalid argument', modprobe: undefined, message: /refused: Invalid argument$/ },
  ] as const) {
    it(`says '${said}' of a tunnel ${link.guePort === undefined ? 'without' : 'with'} GUE: ${modprobe === undefined ? 'no' : 'its'} module is asked for, once`, async () => {
      const asked: Command[] = [];
      const driver = linkDriver({ runner: refusing(said, asked), owns: () => true });
      const { failed } = await driver.apply([create(link)], never);
      assert.match(failed.get(link.name)?.message ?? '', message);
      assert.deepEqual(
        asked.map(({ argv }) => argv).filter(([program]) => program === 'modprobe'),
        modprobe === undefined ? [] : [modprobe],
      );
    });
  }
});
