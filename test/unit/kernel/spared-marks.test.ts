import assert from 'node:assert/strict';
import { sparingMarks } from '../../../daemon/kernel/spared-marks.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import type { TableDriver } from '../../../daemon/reconcile/driver.ts';
import type { Listener, VirtualServer } from '../../../daemon/reconcile/tables.ts';
import { listenerKey } from '../../../daemon/reconcile/tables.ts';

const server = (listener: Listener): VirtualServer => ({
  listener,
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations: [],
});
const keyed = (servers: readonly VirtualServer[]): ReadonlyMap<string, VirtualServer> =>
  new Map(servers.map(each => [listenerKey(each.listener), each]));
const byMark = (mark: number): VirtualServer => server({ by: 'mark', mark, family: 'ipv4' });
const byAddress = server({ by: 'address', protocol: 'TCP', address: mustParseAddress('10.96.0.1'), port: 80 });
const never = new AbortController().signal;

function driver(there: readonly VirtualServer[], marks: () => readonly number[]): TableDriver<VirtualServer> {
  const inner: TableDriver<VirtualServer> = {
    read: () => Promise.resolve(keyed(there)),
    apply: () => Promise.resolve({ failed: new Map() }),
    render: () => '',
  };
  return sparingMarks({ inner, marksOfOthers: () => Promise.resolve(new Set(marks())) });
}

describe("kube-router's virtual services by mark", () => {
  it('are not seen, and so not deleted, while a rule of its delivers their packets', async () => {
    const seen = driver([byMark(0x2a17), byMark(5), byAddress], () => [0x2a17]);
    assert.deepEqual(await seen.read(new Map(), never), keyed([byMark(5), byAddress]));
  });

  it('are seen as left over when there is no such rule', async () => {
    const seen = driver([byMark(0x2a17)], () => []);
    assert.deepEqual(await seen.read(new Map(), never), keyed([byMark(0x2a17)]));
  });

  it('are not asked about where there is none that nobody expects', async () => {
    const seen = driver([byMark(5), byAddress], () => assert.fail('nobody asked'));
    assert.deepEqual(await seen.read(keyed([byMark(5)]), never), keyed([byMark(5), byAddress]));
  });
});
