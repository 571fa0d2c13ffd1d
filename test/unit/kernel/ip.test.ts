import assert from 'node:assert/strict';
import fc from 'fast-check';
import { addressDriver, hostAddressOf } from '../../../daemon/kernel/ip.ts';
import { failuresOf } from '../../../daemon/kernel/ip-batch.ts';
import { addressOfBytes, mustParseAddress } from '../../../daemon/net/address.ts';
import type { LinkAddress } from '../../../daemon/reconcile/tables.ts';

const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };
const none: ReadonlyMap<string, LinkAddress> = new Map();
const anyAddress = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(addressOfBytes);

describe('the batch for ip', () => {
  it('adds addresses of both families, and takes them back', () => {
    const link = { name: 'kube-dummy-if' };
    const addresses = addressDriver({ runner: unused, ownLinks: new Set() });
    const v4 = { link: link.name, address: mustParseAddress('10.96.0.1') };
    const v6 = { link: link.name, address: mustParseAddress('fd00:96::1') };
    assert.equal(
      addresses.render([
        { op: 'create', key: '1', to: v4 },
        { op: 'create', key: '2', to: v6 },
        { op: 'delete', key: '1', from: v4 },
        { op: 'delete', key: '2', from: v6 },
      ]),
      `addr add 10.96.0.1/32 dev kube-dummy-if scope link
addr add fd00:96::1/128 dev kube-dummy-if preferred_lft 0 nodad noprefixroute
addr del 10.96.0.1/32 dev kube-dummy-if
addr del fd00:96::1/128 dev kube-dummy-if
`,
    );
  });

  it('names the refused lines by number, each with its reason', () => {
    const stderr =
      'RTNETLINK answers: File exists\nCommand failed -:2\nCannot find device "x"\nCommand failed -:3\nCommand failed -:3\n\nError: any valid prefix is expected rather than "y".\n';
    assert.deepEqual(
      failuresOf(stderr),
      new Map([
        [2, 'File exists'],
        [3, 'Cannot find device "x"'],
      ]),
    );
  });
});

describe('a line of ip -o addr', () => {
  it('gives any host address back', () => {
    fc.assert(
      fc.property(anyAddress, address => {
        const family = address.includes(':') ? 'inet6' : 'inet';
        const line = `8: kd    ${family} ${address}/${address.includes(':') ? 128 : 32} scope link kd\\       valid_lft forever`;
        assert.deepEqual(hostAddressOf(line, 'kd', none), { link: 'kd', address });
      }),
    );
  });

  it('with a dotted tail, as the C library prints some, is the canonical address', () => {
    const line = '8: kd    inet6 ::ffff:10.0.0.1/128 scope global nodad \\       valid_lft forever preferred_lft forever';
    assert.deepEqual(hostAddressOf(line, 'kd', none), { link: 'kd', address: '::ffff:a00:1' });
  });

  it("that is a network's, a point-to-point link's or no address is not ours", () => {
    for (const text of [
      'inet 10.3.0.1/24 scope global kd',
      'inet6 fe80::1/64 scope link',
      'inet 10.3.0.1 peer 10.3.0.9/32 scope global kd',
    ]) {
      assert.equal(hostAddressOf(`8: kd    ${text}\\       valid_lft forever`, 'kd', none), undefined);
    }
    assert.equal(hostAddressOf('8: kd: <BROADCAST,NOARP> mtu 1500', 'kd', none), undefined);
  });

  it('gives the very object that is expected', () => {
    const entry: LinkAddress = { link: 'kd', address: mustParseAddress('10.0.0.1') };
    const line = '8: kd    inet 10.0.0.1/32 scope link kd\\ ';
    assert.equal(hostAddressOf(line, 'kd', new Map([['10.0.0.1 kd', entry]])), entry);
  });
});
