import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'mocha';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import { type ApiResponse, Transport, type TransportOptions } from '../../../daemon/cluster/transport.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { FakeApiServer, type FakeApiServerOptions } from '../../fakes/api-server.ts';
import { CertificateAuthority } from '../../fakes/certificates.ts';
import { service } from './api-harness.ts';

describe('requests to the API server', () => {
  let directory: string;
  let fake: FakeApiServer;
  let transport: Transport | undefined;
  const serve = async (options: Omit<FakeApiServerOptions, 'directory'> = {}): Promise<void> => {
    fake = await FakeApiServer.start({ directory, ...options });
    fake.put(service('a'));
  };
  const connect = async (kubeconfig = fake.writeKubeconfig(), options: Partial<TransportOptions> = {}): Promise<Transport> => {
    const credentials = await openCredentials({ kubeconfig, master: '', environment: {}, readFile: path => readFile(path) });
    transport = new Transport({ credentials, clock: systemClock(), userAgent: 'fairway/test', ...options });
    return transport;
  };
  const get = (path = '/api/v1/services', signal = new AbortController().signal): Promise<ApiResponse> => {
    assert.ok(transport !== undefined);
    return transport.request({ method: 'GET', path, signal });
  };
  const text = async (response: ApiResponse): Promise<string> => {
    const parts: Buffer[] = [];
    for await (const part of response.body) parts.push(part);
    return Buffer.concat(parts).toString();
  };
  const fails = async (pattern: RegExp): Promise<void> => {
    await assert.rejects(get(), (error: unknown) => {
      assert.ok(error instanceof FairwayError, String(error));
      assert.equal(error.code, 'FW_API_UNREACHABLE');
      assert.match(error.message, pattern);
      return true;
    });
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'transport-'));
  });
  afterEach(async () => {
    transport?.close();
    transport = undefined;
    fake.stop();
    rmSync(directory, { recursive: true });
  });

  for (const [protocol, connections] of [
    ['h2', 1],
    ['http/1.1', 3],
    ['plain', 1],
  ] as const) {
    it(`share connections: ${connections} for 20 lists over ${protocol}`, async () => {
      await serve({ protocol });
      await connect();
      for (let round = 0; round < 20; round++) assert.match(await text(await get()), /"name":"a"/);
      assert.ok(fake.relay.accepted <= connections, `${fake.relay.accepted} connections`);
    });
  }

  it('read an answer that is there as a whole, however late', async () => {
    await serve();
    await connect();
    const late = await get();
    // By the time of these, all of it has come.
    for (let round = 0; round < 3; round++) await text(await get());
    assert.match(await text(late), /"name":"a"/);
  });

  it('all wait for the one connection that is being made', async () => {
    await serve();
    await connect();
    await Promise.all(Array.from({ length: 50 }, async () => text(await get())));
    assert.equal(fake.relay.accepted, 1);
  });

  it('get a new connection when the certificate changes, while running ones end in peace', async () => {
    await serve();
    const client = fake.authority.issue('first');
    const kubeconfig = fake.writeKubeconfig({ user: { 'client-certificate': client.certFile, 'client-key': client.keyFile } });
    await connect(kubeconfig);
    const watch = await get('/api/v1/services?watch=true');
    const second = fake.authority.issue('second');
    writeFileSync(client.certFile, readFileSync(second.certFile));
    writeFileSync(client.keyFile, readFileSync(second.keyFile));
    await text(await get());
    assert.equal(fake.relay.accepted, 2);
    fake.put(service('b'));
    let seen = '';
    for await (const part of watch.body) {
      seen += part.toString();
      if (seen.includes('"name":"b"')) break;
    }
    assert.match(seen, /"name":"b"/);
  });

  it('are authenticated by client certificate alone', async () => {
    await serve();
    const client = fake.authority.issue('daemon');
    await connect(fake.writeKubeconfig({ user: { 'client-certificate': client.certFile, 'client-key': client.keyFile } }));
    assert.equal((await get()).status, 200);
  });

  it('say that the server is not the one the CA vouches for', async () => {
    await serve();
    const other = new CertificateAuthority(directory, 'other-ca');
    await connect(fake.writeKubeconfig({ cluster: { 'certificate-authority': other.own.certFile } }));
    await fails(
      /API server https:\/\/127\.0\.0\.1:\d+: .*; another CA signed the certificate: set certificate-authority in kubeconfig .*\/kubeconfig to the CA of this server/,
    );
    await connect(fake.writeKubeconfig({ cluster: { 'certificate-authority': undefined } }));
    await fails(/no CA is given, so the system decides: set certificate-authority/);
  });

  it('say that the certificate is for another name, unless tls-server-name agrees', async () => {
    await serve();
    await connect(fake.writeKubeconfig({ cluster: { 'tls-server-name': 'other.example' } }));
    await fails(/use a name the certificate carries, or set tls-server-name in kubeconfig/);
    await connect(fake.writeKubeconfig({ cluster: { 'tls-server-name': 'localhost' } }));
    assert.equal((await get()).status, 200);
  });

  it('say that nothing listens there', async () => {
    await serve();
    const free = createServer().listen(0, '127.0.0.1');
    await once(free, 'listening');
    const address = free.address();
    free.close();
    await once(free, 'close');
    assert.ok(typeof address === 'object' && address !== null);
    for (const scheme of ['https', 'http']) {
      await connect(fake.writeKubeconfig({ cluster: { server: `${scheme}://127.0.0.1:${address.port}` } }));
      await fails(/ECONNREFUSED.*; nothing listens there: check that the server runs and that kubeconfig .* names its port/);
    }
  });

  it('say that the port does not speak TLS', async () => {
    await serve({ protocol: 'plain' });
    await connect(fake.writeKubeconfig({ cluster: { server: fake.url.replace('http:', 'https:') } }));
    await fails(/that port does not speak TLS/);
  });

  it('say that a server which accepts and stays silent is no server', async () => {
    await serve();
    fake.relay.freeze();
    await connect(fake.writeKubeconfig(), { connectMs: 50 });
    await fails(/no answer within 0\.05 s/);
  });

  it('are refused with the name of the file when the token is not known', async () => {
    await serve();
    await connect(fake.writeKubeconfig({ user: { token: 'expired' } }));
    await assert.rejects(get(), (error: unknown) => {
      assert.ok(error instanceof FairwayError);
      assert.equal(error.code, 'FW_API_DENIED');
      assert.match(
        error.message,
        /does not know us \(401 Unauthorized\): kubeconfig .*\/kubeconfig: its credential is expired, revoked or for another cluster; renew it/,
      );
      assert.ok(!error.message.includes('Bearer') && !/token-of|expired'/.test(error.message));
      return true;
    });
  });

  it('end at once when they are aborted, before and after the response', async () => {
    await serve();
    await connect();
    const early = new AbortController();
    early.abort(new Error('too early'));
    await assert.rejects(get('/api/v1/services', early.signal), /too early/);
    const late = new AbortController();
    const watch = await get('/api/v1/services?watch=true', late.signal);
    late.abort(new Error('enough'));
    await assert.rejects(text(watch), /enough/);
  });

  it('are refused after the end', async () => {
    await serve();
    await connect();
    await text(await get());
    transport?.close();
    await assert.rejects(get(), /the transport is closed/);
  });

  it('get a new connection after the server closed the old one', async () => {
    await serve();
    await connect();
    await text(await get());
    fake.relay.cut('fin');
    await new Promise(resolve => setTimeout(resolve, 20));
    assert.equal((await get()).status, 200);
    assert.equal(fake.relay.accepted, 2);
  });
});
