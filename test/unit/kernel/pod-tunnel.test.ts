// Address plan: pods of this node 10.244.1.0/24 and fd00:244:1::/64; virtual addresses 203.0.113.0/24 and 2001:db8::/64.
import assert from 'node:assert/strict';
import { podTunnelDriver } from '../../../daemon/kernel/pod-tunnel.ts';
import { type PodTunnelRecord, parseRecords, renderRecords } from '../../../daemon/kernel/pod-tunnel-record.ts';
import { type IpAddress, mustParseAddress } from '../../../daemon/net/address.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import { type PodTunnel, podTunnelKey } from '../../../daemon/reconcile/service-tables.ts';

const address = mustParseAddress;
const create = (pod: string, vip: string): Change<PodTunnel> => {
  const to: PodTunnel = { pod: address(pod), vip: address(vip) };
  return { op: 'create', key: podTunnelKey(to), to };
};
const remove = (pod: string, vip: string): Change<PodTunnel> => {
  const from: PodTunnel = { pod: address(pod), vip: address(vip) };
  return { op: 'delete', key: podTunnelKey(from), from };
};

describe('the text for tunnels in pods', () => {
  const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };
  const files = { read: () => assert.fail('rendering reads nothing'), write: () => assert.fail('rendering writes nothing') };
  const tunnels = podTunnelDriver({ runner: unused, clock: systemClock(), criSocket: '', records: files });

  it('names each pod once, then what is done in it', () => {
    const text = tunnels.render([
      create('10.244.1.5', '203.0.113.2'),
      create('fd00:244:1::5', '2001:db8::1'),
      create('10.244.1.5', '203.0.113.1'),
    ]);
    assert.deepEqual(text.split('\n'), [
      '# pod 10.244.1.5',
      'link add name kube-tunnel-if type ipip mode ipip local 10.244.1.5 remote 0.0.0.0',
      'link set dev kube-tunnel-if up',
      'addr add 203.0.113.1/32 dev kube-tunnel-if',
      'addr add 203.0.113.2/32 dev kube-tunnel-if',
      '# sysctl -w net.ipv4.conf.all.rp_filter=0',
      '# sysctl -w net.ipv4.conf.eth0.rp_filter=0',
      '# sysctl -w net.ipv4.conf.kube-tunnel-if.rp_filter=0',
      '# pod fd00:244:1::5',
      'link add name kube-tunnel-v6 type ip6tnl mode ip6ip6 local fd00:244:1::5 remote :: encaplimit none',
      'link set dev kube-tunnel-v6 up',
      'addr add 2001:db8::1/128 dev kube-tunnel-v6 nodad',
      '',
    ]);
  });

  it('changes addresses in place where one stays or comes, and takes the link with the last', () => {
    const text = tunnels.render([
      remove('10.244.1.5', '203.0.113.1'),
      create('10.244.1.5', '203.0.113.3'),
      remove('fd00:244:1::5', '2001:db8::1'),
      remove('fd00:244:1::5', '2001:db8::2'),
    ]);
    assert.deepEqual(text.split('\n'), [
      '# pod 10.244.1.5',
      'addr add 203.0.113.3/32 dev kube-tunnel-if',
      'addr del 203.0.113.1/32 dev kube-tunnel-if',
      '# pod fd00:244:1::5',
      'link delete dev kube-tunnel-v6',
      '',
    ]);
  });
});

describe('the record of tunnels in pods', () => {
  const record: PodTunnelRecord = {
    pod: address('10.244.1.5'),
    namespace: { sandbox: 'a1', path: '/run/netns/cni-1', inode: 4_026_532_118 },
    vips: [address('203.0.113.1')],
    rpFilter: { all: 1 },
  };
  const records: ReadonlyMap<IpAddress, PodTunnelRecord> = new Map([[record.pod, record]]);

  it('is read as it was written', () => {
    assert.deepEqual(parseRecords(renderRecords(records)), records);
    assert.deepEqual(parseRecords(''), new Map());
  });

  it('keeps the lines that can be read of a damaged file', () => {
    const odd = ['{', 'null', '{"pod":"x"}', '{"pod":"10.244.1.6","namespace":{"path":"/run/netns/x"}}'];
    assert.deepEqual(parseRecords(`${odd.join('\n')}\n${renderRecords(records)}{"pod":"10.24`), records);
  });
});
