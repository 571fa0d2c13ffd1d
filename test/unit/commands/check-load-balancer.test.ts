/** What `fairway check` says of load-balancer addresses. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Transport } from '../../../daemon/cluster/transport.ts';
import { addressPoolsExaminer } from '../../../daemon/commands/examine/address-pools.ts';
import { allocatorRights, electionExaminer } from '../../../daemon/commands/examine/allocator.ts';
import { judgeAnnouncingLinks } from '../../../daemon/commands/examine/announcement.ts';
import type { Finding } from '../../../daemon/commands/examine/finding.ts';
import { examineRights, type Right } from '../../../daemon/commands/examine/write-rights.ts';
import { systemClock } from '../../../daemon/net/clock.ts';

const { signal } = new AbortController();

function shown(findings: readonly Finding[]): readonly string[] {
  return findings.map(({ verdict, subject, remark }) => `${verdict} ${subject}: ${remark}`);
}

interface Review {
  readonly spec: { readonly resourceAttributes: Readonly<Record<string, string>> };
}

/** `update /services/status`, `get coordination.k8s.io/leases in kube-system kube-router-lballoc`. */
function askedOf({ spec: { resourceAttributes: asked } }: Review): string {
  const { verb = '', group = '', resource = '', subresource = '', namespace = '', name = '' } = asked;
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  return `${verb} ${group}/${full}${namespace === '' ? '' : ` in ${namespace}`}${name === '' ? '' : ` ${name}`}`;
}

describe('fairway check, of what the allocator of load-balancer addresses may write', () => {
  let server: Server;
  let transport: Transport;
  let status = 201;
  const denied = new Set<string>();
  const asked: string[] = [];

  before(async () => {
    server = createServer((request, response) => {
      let text = '';
      request.on('data', (piece: Buffer) => {
        text += piece.toString();
      });
      request.on('end', () => {
        const review = JSON.parse(text) as Review;
        const what = askedOf(review);
        asked.push(`${request.method ?? ''} ${request.url ?? ''} ${what}`);
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ ...review, message: 'no such page', status: { allowed: !denied.has(what) } }));
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const tls = { ca: undefined, cert: undefined, key: undefined, serverName: '', verification: 'required' } as const;
    const current = { server: new URL(`http://127.0.0.1:${port}`), tls, headers: {}, origin: 'the test' };
    const credentials = { current: () => Promise.resolve(current), forget: () => undefined };
    transport = new Transport({ credentials, clock: systemClock(), userAgent: 'fairway/0.0.0-test' });
  });

  beforeEach(() => {
    status = 201;
    denied.clear();
    asked.length = 0;
  });

  after(() => {
    transport.close();
    server.close();
    server.closeAllConnections();
  });

  it('asks for each right of the ClusterRole and of the Role, and writes nothing', async () => {
    assert.deepEqual(shown(await examineRights(transport, allocatorRights('kube-system'), signal)), [
      'ok services: we may get',
      'ok services/status: we may update',
      'ok events: we may create, patch',
      'ok leases: we may create in kube-system',
      'ok leases: we may get, update kube-router-lballoc in kube-system',
    ]);
    const path = 'POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews';
    assert.deepEqual(
      asked.toSorted(),
      [
        'get /services',
        'update /services/status',
        'create /events',
        'patch /events',
        'create coordination.k8s.io/leases in kube-system',
        'get coordination.k8s.io/leases in kube-system kube-router-lballoc',
        'update coordination.k8s.io/leases in kube-system kube-router-lballoc',
      ]
        .map(what => `${path} ${what}`)
        .toSorted(),
    );
  });

  it('says what does not work without a right, and the rule that gives it', async () => {
    denied.add('update /services/status');
    denied.add('patch /events');
    denied.add('update coordination.k8s.io/leases in fairway kube-router-lballoc');
    const findings = await examineRights(transport, allocatorRights('fairway'), signal);
    assert.deepEqual(shown(findings.filter(({ verdict }) => verdict !== 'ok')), [
      'missing services/status: no address is written: our identity lacks "update" of "services/status"; add to its ClusterRole the rule apiGroups: [""], resources: ["services/status"], verbs: ["update"]',
      'warning events: Services do not tell why they get no address: our identity lacks "patch" of "events"; add to its ClusterRole the rule apiGroups: [""], resources: ["events"], verbs: ["patch"]',
      'missing leases: it cannot be elected: our identity lacks "update" of "leases" kube-router-lballoc in fairway; add to a Role of it in the namespace fairway the rule apiGroups: ["coordination.k8s.io"], resources: ["leases"], resourceNames: ["kube-router-lballoc"], verbs: ["update"]',
    ]);
  });

  it('is warned of where a server does not answer that question', async () => {
    status = 404;
    const rights: readonly Right[] = allocatorRights('kube-system').slice(0, 1);
    assert.deepEqual(shown(await examineRights(transport, rights, signal)), [
      'warning services: whether we may write it cannot be asked: 404 no such page',
    ]);
  });

  it('says who we are in the election', async () => {
    const say = async (podName: string | undefined): Promise<string> =>
      shown(await electionExaminer({ podName, nodeName: 'node1' }).examine(signal)).join();
    assert.match(await say(undefined), /^ok POD_NAME: not set: in the election of the allocator we are node1,/);
    assert.match(await say('fairway-x7k2p'), /^ok POD_NAME: .* we are fairway-x7k2p$/);
  });
});

describe('fairway check, of the links to announce on', () => {
  it('names those that are not there, that are down, and that know no ARP', () => {
    const flags = new Map([
      ['lo', ['LOOPBACK', 'UP']],
      ['eth0', ['BROADCAST', 'UP', 'LOWER_UP']],
      ['eth1', ['BROADCAST']],
      ['wg0', ['POINTOPOINT', 'NOARP', 'UP']],
    ]);
    assert.deepEqual(shown(judgeAnnouncingLinks(flags, ['eth0', 'eth1', 'wg0', 'bond0'])), [
      'ok eth0: announces (--announce-interfaces)',
      'warning eth1: is down: nothing is announced on it until it is up',
      'missing wg0: knows no ARP (NOARP): nobody asks there for an address; name another link by --announce-interfaces',
      'missing bond0: is no link of this host: nothing is announced on it; correct --announce-interfaces (there are eth0, eth1, wg0)',
    ]);
  });
});

describe('fairway check, of the pools of load-balancer addresses', () => {
  const say = async (read: () => Promise<object | undefined>): Promise<string> =>
    shown(await addressPoolsExaminer({ name: 'kube-system/address-pools', read }).examine(signal)).join('\n');

  it('says that they are not there, and why they cannot be read', async () => {
    assert.equal(
      await say(() => Promise.resolve(undefined)),
      'missing kube-system/address-pools: is not there, and so are no named pools; make it, or correct --loadbalancer-pools',
    );
    assert.equal(await say(() => Promise.reject(new Error('403'))), 'missing kube-system/address-pools: cannot be read: 403');
  });

  it('names the pools that there are, and what is wrong with which', async () => {
    const of = (...lines: readonly string[]): (() => Promise<object>) => {
      const metadata = { namespace: 'kube-system', name: 'address-pools' };
      return () => Promise.resolve({ metadata, data: { 'pools.yaml': lines.join('\n') } });
    };
    assert.equal(
      await say(of('pools:', '- name: lan', '  addresses: [192.0.2.8/29]', '- name: six', "  addresses: ['fd00::/112']")),
      'ok kube-system/address-pools: pools lan, six',
    );
    assert.match(
      await say(of('pools:', '- name: lan', '  addresses: [192.0.2.8/29]', '- name: typo', '  addreses: [192.0.2.16/29]')),
      /^ok kube-system\/address-pools: pools lan\nwarning kube-system\/address-pools: [\s\S]*typo[\s\S]*addreses/,
    );
    assert.match(await say(of('pools: [')), /^warning kube-system\/address-pools: .*not YAML/);
    assert.equal(await say(of('pools: []')), 'warning kube-system/address-pools: holds no pool');
  });
});
