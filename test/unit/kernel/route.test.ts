import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { CommandRunner } from '../../../daemon/kernel/command.ts';
import { localRouteOf, routeDriver } from '../../../daemon/kernel/route.ts';
import { addressOfBytes, familyOf, type IpAddress, mustParseAddress } from '../../../daemon/net/address.ts';
import { hostPrefix } from '../../../daemon/net/prefix.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import { LOCAL_TABLE, type Route, TABLES } from '../../../daemon/reconcile/tables.ts';

const LINK = 'kube-dummy-if';
const never = new AbortController().signal;
const unused = { run: () => assert.fail('rendering runs nothing'), lines: () => assert.fail('rendering runs nothing') };
const VIP = { ipv4: mustParseAddress('10.96.0.1'), ipv6: mustParseAddress('fd00:96::1') } as const;
const NODE = { ipv4: mustParseAddress('192.168.1.11'), ipv6: mustParseAddress('fd00:192::11') } as const;

function route(destination: IpAddress, source: IpAddress | undefined, standsFor: Route['standsFor'] = 'address'): Route {
  return { type: 'local', table: LOCAL_TABLE, destination: hostPrefix(destination), link: LINK, source, standsFor };
}

const v4 = route(VIP.ipv4, NODE.ipv4);
const v6 = route(VIP.ipv6, NODE.ipv6);
const create = (to: Route): Change<Route> => ({ op: 'create', key: TABLES.route.key(to), to });
const update = (from: Route, to: Route): Change<Route> => ({ op: 'update', key: TABLES.route.key(to), from, to });
const remove = (from: Route): Change<Route> => ({ op: 'delete', key: TABLES.route.key(from), from });

function render(...changes: readonly Change<Route>[]): readonly string[] {
  return routeDriver({ runner: unused, ownLinks: new Set() }).render(changes).split('\n').slice(0, -1);
}

describe('the batch for local routes', () => {
  it("puts ours in the place of the kernel's own; over IPv6 that one goes after ours is in", () => {
    assert.deepEqual(render(create(v6), create(v4)), [
      'route replace local fd00:96::1/128 dev kube-dummy-if table local proto static metric 1024 src fd00:192::11',
      'route replace local 10.96.0.1/32 dev kube-dummy-if table local proto kernel scope host src 192.168.1.11',
      'route del local fd00:96::1/128 dev kube-dummy-if table local proto kernel',
    ]);
  });

  it("gives the address back to the kernel's own; over IPv6 only an address that comes brings it", () => {
    assert.deepEqual(render(remove(v6), remove(v4)), [
      'addr del fd00:96::1/128 dev kube-dummy-if',
      'addr add fd00:96::1/128 dev kube-dummy-if preferred_lft 0 nodad noprefixroute',
      'route replace local 10.96.0.1/32 dev kube-dummy-if table local proto kernel scope host src 10.96.0.1',
      'route del local fd00:96::1/128 dev kube-dummy-if table local metric 1024',
    ]);
  });

  it('only deletes what stands for no address', () => {
    assert.deepEqual(render(remove({ ...v4, standsFor: 'nothing' }), remove({ ...v6, standsFor: 'nothing' })), [
      'route del local 10.96.0.1/32 dev kube-dummy-if table local src 192.168.1.11',
      'route del local fd00:96::1/128 dev kube-dummy-if table local metric 1024',
    ]);
  });

  it("takes away the kernel's own where it is beside ours, and else changes the source alone", () => {
    assert.deepEqual(render(update({ ...v4, standsFor: 'nothing' }, v4), update({ ...v6, standsFor: 'nothing' }, v6)), [
      'route del local 10.96.0.1/32 dev kube-dummy-if table local src 10.96.0.1',
      'route replace local 10.96.0.1/32 dev kube-dummy-if table local proto kernel scope host src 192.168.1.11',
      'route replace local fd00:96::1/128 dev kube-dummy-if table local proto static metric 1024 src fd00:192::11',
      'route del local fd00:96::1/128 dev kube-dummy-if table local proto kernel',
    ]);
    assert.deepEqual(render(update(route(VIP.ipv6, undefined), v6)), [
      'route replace local fd00:96::1/128 dev kube-dummy-if table local proto static metric 1024 src fd00:192::11',
    ]);
  });
});

describe('a line of ip -o route', () => {
  it("is the kernel's own by its source over IPv4, by metric 0 over IPv6", () => {
    assert.deepEqual(localRouteOf('local 10.96.0.1 table local proto kernel scope host src 10.96.0.1 '), {
      destination: VIP.ipv4,
      source: VIP.ipv4,
      madeBy: 'kernel',
    });
    assert.equal(localRouteOf('local 10.96.0.1 table local proto kernel scope host src 192.168.1.11 ')?.madeBy, 'program');
    assert.equal(localRouteOf('local fd00:96::1 table local proto kernel metric 0 pref medium')?.madeBy, 'kernel');
    const ours = localRouteOf('local fd00:96::1 table local proto kernel src fd00:192::11 metric 1024 pref medium');
    assert.deepEqual(ours, { destination: VIP.ipv6, source: NODE.ipv6, madeBy: 'program' });
  });

  it("that is a network's, of another table or metric, or without a source is no one's we know", () => {
    for (const line of [
      'local 203.0.113.0/24 table local scope host ',
      'local 10.96.0.1 table 78 scope host src 192.168.1.11 ',
      'local 10.96.0.1 table local scope host ',
      'local fd00:96::1 table local metric 7 pref medium',
      'broadcast 10.96.0.255 table local proto kernel scope link src 10.96.0.1 ',
      '',
    ]) {
      assert.equal(localRouteOf(line), undefined, line);
    }
  });

  it('gives any two addresses back', () => {
    const pairOf = (length: number) =>
      fc.tuple(fc.uint8Array({ minLength: length, maxLength: length }), fc.uint8Array({ minLength: length, maxLength: length }));
    fc.assert(
      fc.property(fc.oneof(pairOf(4), pairOf(16)), pair => {
        const [destination, source] = pair.map(addressOfBytes) as [IpAddress, IpAddress];
        const further = familyOf(destination) === 'ipv4' ? 'scope host' : 'metric 1024';
        const found = localRouteOf(`local ${destination} table local proto kernel ${further} src ${source}`);
        assert.deepEqual([found?.destination, found?.source], [destination, source]);
      }),
    );
  });
});

/** `ip` that prints the given routes and addresses, and takes note of what it was given to do. */
function ipPrinting(routes: readonly string[], addresses: readonly string[]): { runner: CommandRunner; batches: string[] } {
  const batches: string[] = [];
  const done = { status: 0, stdout: '', stderr: '' };
  return {
    batches,
    runner: {
      run: command => {
        batches.push(command.stdin ?? '');
        return Promise.resolve(done);
      },
      lines: (command, onLine) => {
        (command.argv.includes('route') ? routes : addresses).forEach(onLine);
        return Promise.resolve(done);
      },
    },
  };
}

describe('local routes as they are found', () => {
  const held = ['3: kube-dummy-if    inet 10.96.0.1/32 scope link kube-dummy-if\\ '];
  const line = 'local 10.96.0.1 table local proto kernel scope host src 192.168.1.11 ';
  const kernels = 'local 10.96.0.1 table local proto kernel scope host src 10.96.0.1 ';

  it('stand for an address that is on the link and has no other', async () => {
    const read = async (routes: readonly string[], addresses: readonly string[]): Promise<readonly string[]> => {
      const driver = routeDriver({ runner: ipPrinting(routes, addresses).runner, ownLinks: new Set([LINK]) });
      return [...(await driver.read(new Map(), never)).values()].map(({ standsFor }) => standsFor);
    };
    assert.deepEqual(await read([kernels], held), []);
    assert.deepEqual(await read([line], held), ['address']);
    assert.deepEqual(await read([line], []), ['nothing']);
    assert.deepEqual(await read([line, kernels], held), ['nothing']);
  });

  it('are deleted for what they are, whatever was believed', async () => {
    const { runner, batches } = ipPrinting([line], []);
    await routeDriver({ runner, ownLinks: new Set([LINK]) }).apply([remove(v4), remove(v6)], never);
    assert.deepEqual(batches, ['route del local 10.96.0.1/32 dev kube-dummy-if table local src 192.168.1.11\n']);
  });
});
