/** What `fairway check` says of an API server, asked over real TLS. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import { RESOURCES } from '../../../daemon/cluster/resources.ts';
import { Transport } from '../../../daemon/cluster/transport.ts';
import { apiExaminer } from '../../../daemon/commands/examine/api.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { FakeApiServer } from '../../fakes/api-server.ts';

describe('fairway check, of the API server', () => {
  let directory: string;
  let fake: FakeApiServer;
  const clock = systemClock();
  let kubeconfig: string;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'check-api-'));
    fake = await FakeApiServer.start({ directory });
    kubeconfig = fake.writeKubeconfig();
  });

  afterEach(() => {
    fake.stop();
    rmSync(directory, { recursive: true });
  });

  async function findings(): Promise<readonly string[]> {
    const open = async (): Promise<Transport> => {
      const credentials = await openCredentials({ kubeconfig, master: '', environment: {}, readFile: path => readFile(path) });
      return new Transport({ credentials, clock, userAgent: 'fairway/0.0.0-test' });
    };
    const reads = [RESOURCES.Service, RESOURCES.Node, RESOURCES.Pod];
    const found = await apiExaminer({ open, remarks: () => [], reads, writes: [], clock }).examine(new AbortController().signal);
    return found.map(({ verdict, subject, remark }) => `${verdict} ${subject}: ${remark}`);
  }

  it('says of each resource that it may be listed and watched', async () => {
    assert.deepEqual(
      await findings(),
      ['services', 'nodes', 'pods'].map(name => `ok ${name}: may be listed and watched`),
    );
  });

  it('names each verb that RBAC refuses, with the rule that allows it', async () => {
    fake.behaviour.forbidden.add('watch nodes');
    fake.behaviour.forbidden.add('list pods');
    const [services, nodes, pods] = await findings();
    assert.match(services ?? '', /^ok services/);
    assert.match(nodes ?? '', /^missing nodes: .*lacks the verb "watch" on "nodes"; add to its ClusterRole the rule/);
    assert.match(pods ?? '', /^missing pods: .*lacks the verb "list" on "pods"/);
  });

  it('says once that our credential is not known', async () => {
    fake.behaviour.token = 'renewed';
    const said = await findings();
    assert.equal(said.length, 1);
    assert.match(said[0] ?? '', /^missing API server: .*does not know us \(401/);
  });

  it('says once that nobody answers, and which file names no server', async () => {
    fake.stop();
    const said = await findings();
    assert.equal(said.length, 1);
    assert.match(said[0] ?? '', /^missing API server: .*ECONNREFUSED/);
    kubeconfig = join(directory, 'absent');
    assert.match((await findings()).join(), /^missing credentials: .*absent/);
  });
});
