import assert from 'node:assert/strict';
import type { StatusReport } from '../../../daemon/observe/status.ts';
import { statusText } from '../../../daemon/observe/status-text.ts';

const AT = '2026-11-26T12:00:00.000Z';

const QUIET: StatusReport = {
  version: '1.2.3',
  node: 'node1',
  pid: 4711,
  startedAt: '2026-11-26T08:47:30.000Z',
  at: AT,
  isReady: true,
  isLive: true,
  isNodeLeaving: false,
  modules: [{ name: 'services', state: 'ok', reason: undefined, since: undefined }],
  cluster: [{ kind: 'Service', objects: 12, isListed: true, trouble: undefined }],
  rounds: { count: 3, last: { at: '2026-11-26T11:59:58.000Z', milliseconds: 4, created: 1, updated: 0, deleted: 2 } },
  tables: [
    {
      table: 'virtualServer',
      entries: 1200,
      wanted: 1200,
      failing: 0,
      readAt: '2026-11-26T11:59:00.000Z',
      readMilliseconds: 3,
      unreadable: undefined,
    },
  ],
  failures: [],
  drift: { count: 0, latest: [] },
  diagnostics: [],
  bgp: undefined,
  remarks: [],
};

describe('the status of a daemon, as text', () => {
  it('is short while all is well', () => {
    assert.equal(
      statusText(QUIET),
      `fairway 1.2.3 on node1, pid 4711, for 3h12m: ready
modules
  services: ok
cluster
  Service: 12
rounds
  3, the last 2s ago in 4 ms: 1 created, 0 updated, 2 deleted
tables
                 there  wanted  failing  read back
  virtualServer   1200    1200        0  1m ago
`,
    );
  });

  it('says of everything that is not well what, whose and since when', () => {
    const text = statusText({
      ...QUIET,
      isReady: false,
      isLive: false,
      isNodeLeaving: true,
      modules: [{ name: 'policy', state: 'degraded', reason: 'ipset x: no memory', since: '2026-11-26T11:00:00.000Z' }],
      cluster: [{ kind: 'Pod', objects: 0, isListed: false, trouble: 'refused (403)' }],
      rounds: { count: 0, last: undefined },
      tables: [
        {
          table: 'iptables',
          entries: 0,
          wanted: 4,
          failing: 1,
          readAt: undefined,
          readMilliseconds: 0,
          unreadable: 'the lock is held',
        },
      ],
      failures: [
        {
          table: 'virtualServer',
          key: 'TCP 10.96.0.1:80',
          object: 'Service a/b',
          code: 'FW_COMMAND_REFUSED',
          message: 'no memory',
          tries: 3,
          retryAt: '2026-11-26T12:00:04.000Z',
        },
      ],
      drift: { count: 7, latest: [{ at: '2026-11-26T11:59:59.750Z', table: 'link', key: 'kube-dummy-if', found: 'missing' }] },
      diagnostics: [{ code: 'FW_CLAIM_LOST', object: 'Service a/c', message: 'Service a/c and ...' }],
      bgp: { neighbors: [{ address: '10.0.0.2', asn: 64512, state: 'active', received: 0, advertised: 0 }], trouble: undefined },
      remarks: ["kube-proxy's rules are here"],
    });
    for (const line of [
      'fairway 1.2.3 on node1, pid 4711, for 3h12m: not ready: the first round is not in yet; its loop has not ticked in time; the node is about to leave the cluster',
      '  policy: degraded since 2026-11-26T11:00:00.000Z: ipset x: no memory',
      '  Pod: no full list yet; refused (403)',
      '  none yet',
      '  iptables      0       4        1  cannot be read: the lock is held',
      '  virtualServer TCP 10.96.0.1:80 for Service a/b: FW_COMMAND_REFUSED no memory (tries: 3, next in 4s)',
      '  250ms ago: link kube-dummy-if was gone',
      '  7 in all since the start',
      '  10.0.0.2 AS 64512: active, 0 prefixes in, 0 out',
      '  FW_CLAIM_LOST Service a/c and ...',
      "  kube-proxy's rules are here",
    ])
      assert.ok(text.split('\n').includes(line), `${line}\nis not in\n${text}`);
  });

  it('says why gobgpd cannot be asked', () => {
    const text = statusText({ ...QUIET, bgp: { neighbors: [], trouble: 'gobgpd does not answer' } });
    assert.match(text, /BGP neighbors\n {2}gobgpd does not answer\n/);
  });

  it('says of load-balancer addresses who hands them out, how full each pool is, and how many wait', () => {
    const loadBalancer = {
      leadership: 'addresses are handed out here',
      holder: 'fairway-x7k2p',
      pools: [
        { name: 'office', addresses: 14, inUse: 14 },
        { name: 'six', addresses: 2 ** 64, inUse: 1 },
        { name: 'both', addresses: 2 ** 64 + 2 ** 60, inUse: 0 },
      ],
      waiting: 7,
    };
    assert.match(
      statusText({ ...QUIET, loadBalancer }),
      /load-balancer addresses\n {2}addresses are handed out here\n {2}the Lease is held by fairway-x7k2p\n {2}pool office: 14 of 14 in use\n {2}pool six: 1 of 2\^64 in use\n {2}pool both: 0 of about 2\^64 in use\n {2}Services that wait for an address: 7\n/,
    );
  });

  it('says of a follower why it is one', () => {
    const leadership = 'the Lease kube-system/kube-router-lballoc is held by kube-router-8jzcd';
    assert.match(
      statusText({ ...QUIET, loadBalancer: { leadership, holder: 'kube-router-8jzcd', pools: [], waiting: 0 } }),
      /load-balancer addresses\n {2}the Lease kube-system\/kube-router-lballoc is held by kube-router-8jzcd\n$/,
    );
  });
});
