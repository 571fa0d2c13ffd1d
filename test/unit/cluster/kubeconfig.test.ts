import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'mocha';
import { type CredentialSource, type Credentials, connectionFingerprint } from '../../../daemon/cluster/credentials.ts';
import { openCredentials } from '../../../daemon/cluster/kubeconfig.ts';
import { FairwayError } from '../../../daemon/errors.ts';
import { CertificateAuthority, type KeyPair } from '../../fakes/certificates.ts';

describe('a kubeconfig', () => {
  let directory: string;
  let file: string;
  let authority: CertificateAuthority;
  let client: KeyPair;
  const open = (
    changes: {
      master?: string;
      kubeconfig?: string;
      environment?: Record<string, string>;
      account?: string;
      told?: string[];
    } = {},
  ): Promise<CredentialSource> =>
    openCredentials({
      kubeconfig: changes.kubeconfig ?? file,
      master: changes.master ?? '',
      environment: changes.environment ?? {},
      readFile: path => readFile(path),
      onReplaced: message => changes.told?.push(message),
      ...(changes.account === undefined ? {} : { serviceAccountDirectory: changes.account }),
    });
  const current = async (changes: Parameters<typeof open>[0] = {}): Promise<Credentials> => (await open(changes)).current();
  const write = (changes: { cluster?: object; user?: object | undefined; context?: object; top?: object } = {}): void => {
    const cluster = { server: 'https://api.example:6443', 'certificate-authority': 'ca.crt', ...changes.cluster };
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'main',
      clusters: [{ name: 'main', cluster }],
      users: [{ name: 'daemon', user: changes.user ?? { token: 'secret' } }],
      contexts: [{ name: 'main', context: { cluster: 'main', user: 'daemon', ...changes.context } }],
      ...changes.top,
    };
    writeFileSync(file, JSON.stringify(config));
  };
  const refused = async (pattern: RegExp): Promise<void> => {
    await assert.rejects(open(), (error: unknown) => {
      assert.ok(error instanceof FairwayError);
      assert.equal(error.code, 'FW_CONFIG_KUBECONFIG');
      assert.match(error.message, pattern);
      assert.ok(error.message.includes(file), `names the file: ${error.message}`);
      return true;
    });
  };
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'kubeconfig-'));
    authority = new CertificateAuthority(directory, 'ca');
    client = authority.issue('daemon');
    file = join(directory, 'config');
  });
  after(() => rmSync(directory, { recursive: true }));
  beforeEach(() => write());

  describe('that is right', () => {
    it('gives server, CA and token; paths are relative to its folder', async () => {
      const credentials = await current();
      assert.equal(credentials.server.href, 'https://api.example:6443/');
      assert.deepEqual(credentials.tls.ca, authority.own.cert);
      assert.deepEqual(credentials.headers, { authorization: 'Bearer secret' });
      assert.equal(credentials.tls.verification, 'required');
    });

    it('may hold certificates as base64 text', async () => {
      const encode = (bytes: Buffer): string => bytes.toString('base64');
      write({
        cluster: { 'certificate-authority': undefined, 'certificate-authority-data': encode(authority.own.cert) },
        user: { 'client-certificate-data': encode(client.cert), 'client-key-data': encode(client.key) },
      });
      const { tls, headers } = await current();
      assert.deepEqual([tls.ca, tls.cert, tls.key, headers], [authority.own.cert, client.cert, client.key, {}]);
    });

    it('may name client certificates, tls-server-name, a user to impersonate, and skip the verification', async () => {
      write({
        cluster: { 'tls-server-name': 'kubernetes', 'insecure-skip-tls-verify': true, 'certificate-authority': undefined },
        user: {
          'client-certificate': client.certFile,
          'client-key': 'ca-daemon.key',
          as: 'system:proxy',
          username: 'a',
          password: 'b',
        },
      });
      const { tls, headers } = await current();
      assert.deepEqual([tls.cert, tls.key, tls.serverName, tls.verification], [client.cert, client.key, 'kubernetes', 'skipped']);
      assert.deepEqual(headers, { authorization: 'Basic YTpi', 'impersonate-user': 'system:proxy' });
    });

    it('has its server replaced by --master, and its credentials kept', async () => {
      const { server, headers } = await current({ master: 'https://10.0.0.1:6443' });
      assert.deepEqual([server.href, headers], ['https://10.0.0.1:6443/', { authorization: 'Bearer secret' }]);
    });

    it('is not needed where --master names a plain HTTP server', async () => {
      const { server, headers } = await current({ kubeconfig: '', master: '127.0.0.1:8001' });
      assert.deepEqual([server.href, headers], ['http://127.0.0.1:8001/', {}]);
    });

    it('has its token file read again every time', async () => {
      writeFileSync(join(directory, 'token'), 'first\n');
      write({ user: { tokenFile: 'token', token: 'not this' } });
      const source = await open();
      assert.deepEqual((await source.current()).headers, { authorization: 'Bearer first' });
      writeFileSync(join(directory, 'token'), 'second\n');
      assert.deepEqual((await source.current()).headers, { authorization: 'Bearer second' });
    });

    it('is read again after it changed, and a rotated certificate asks for a new connection', async () => {
      const source = await open();
      const former = await source.current();
      write({ user: { token: 'renewed' } });
      const renewed = await source.current();
      assert.deepEqual(renewed.headers, { authorization: 'Bearer renewed' });
      assert.equal(connectionFingerprint(former), connectionFingerprint(renewed));
      write({ user: { 'client-certificate': client.certFile, 'client-key': client.keyFile } });
      assert.notEqual(connectionFingerprint(await source.current()), connectionFingerprint(renewed));
    });
  });

  describe('with an exec plugin', () => {
    const plugin = (script: string): object => ({
      exec: {
        apiVersion: 'client.authentication.k8s.io/v1',
        command: './plugin.sh',
        args: ['x'],
        env: [{ name: 'COUNT', value: join(directory, 'count') }],
        script,
      },
    });
    const script = (body: string): void => writeFileSync(join(directory, 'plugin.sh'), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    const answer = (status: object): string => `cat <<END\n${JSON.stringify({ kind: 'ExecCredential', status })}\nEND`;

    it('gets the token that the program prints, and runs it again only when that is worth nothing any more', async () => {
      script(`echo run >> "$COUNT"\n${answer({ token: 'from-plugin' })}`);
      write({ user: plugin('') });
      const source = await open();
      const both = await Promise.all([source.current(), source.current()]);
      for (const { headers } of both) assert.deepEqual(headers, { authorization: 'Bearer from-plugin' });
      await source.current();
      assert.equal(await readFile(join(directory, 'count'), 'utf8'), 'run\n');
      source.forget();
      await source.current();
      assert.equal(await readFile(join(directory, 'count'), 'utf8'), 'run\nrun\n');
    });

    it('gets certificates from it', async () => {
      script(answer({ clientCertificateData: client.cert.toString(), clientKeyData: client.key.toString() }));
      write({ user: plugin('') });
      const { tls } = await current();
      assert.deepEqual([tls.cert, tls.key], [client.cert, client.key]);
    });

    it('says what the program said when it fails, and can be asked again', async () => {
      script('echo "login expired: run cloud login" >&2; exit 1');
      write({ user: plugin('') });
      const source = await open();
      await assert.rejects(
        source.current(),
        /config: users\[daemon\]\.user\.exec \(.*plugin\.sh\) gave no credential: login expired: run cloud login/,
      );
      script(answer({ token: 'now' }));
      assert.deepEqual((await source.current()).headers, { authorization: 'Bearer now' });
    });

    it('names a program that is not there', async () => {
      write({ user: { exec: { command: 'no-such-plugin', apiVersion: 'client.authentication.k8s.io/v1' } } });
      await assert.rejects((await open()).current(), /exec \(no-such-plugin\) gave no credential: .*ENOENT/);
    });

    it('names a program that prints something else', async () => {
      for (const output of ['echo nonsense', 'echo null', 'echo "{}"']) {
        script(output);
        write({ user: plugin(output) });
        const source = await open();
        await assert.rejects(source.current(), /plugin\.sh\) gave no credential/);
        script(answer({ token: 'now' }));
        assert.deepEqual((await source.current()).headers, { authorization: 'Bearer now' });
      }
    });
  });

  describe('that is wrong stops the daemon with a message', () => {
    it('when the file is not there', async () => {
      rmSync(file);
      await refused(/--kubeconfig: file: .* cannot be read: ENOENT.*correct the path/);
    });

    it('when it is not YAML, or something else', async () => {
      writeFileSync(file, 'clusters: [\n  {name: x\n');
      await refused(/config:\d: not YAML: /);
      for (const text of ['', 'just text', '[]', 'kind: Pod\napiVersion: v1\n']) {
        writeFileSync(file, text);
        await refused(/not a kubeconfig|not YAML/);
      }
    });

    it('when there is no current context, or it leads nowhere', async () => {
      write({ top: { 'current-context': undefined } });
      await refused(/current-context is missing; set it to one of the contexts \(there: main\)/);
      write({ top: { 'current-context': 'other' } });
      await refused(/current-context: there is no context "other" \(there: main\)/);
      write({ context: { cluster: 'other' } });
      await refused(/contexts\[main\]\.context\.cluster: there is no cluster "other" \(there: main\)/);
      write({ context: { user: 'nobody' } });
      await refused(/contexts\[main\]\.context\.user: there is no user "nobody" \(there: daemon\)/);
      write({ top: { users: [{ user: {} }] } });
      await refused(/users\[0\]\.name is missing/);
    });

    it('when the CA is missing or garbage', async () => {
      write({ cluster: { 'certificate-authority': 'none.crt' } });
      await refused(/clusters\[main\]\.cluster\.certificate-authority: .*none\.crt cannot be read: ENOENT/);
      writeFileSync(join(directory, 'garbage.crt'), 'garbage');
      write({ cluster: { 'certificate-authority': 'garbage.crt' } });
      await refused(/certificate-authority: .*garbage\.crt holds no PEM certificate; put the cluster's CA certificate there/);
      write({ cluster: { 'certificate-authority': undefined, 'certificate-authority-data': 'Z2FyYmFnZQ==' } });
      await refused(/certificate-authority-data holds no PEM certificate/);
    });

    it('when client certificate and key do not belong together', async () => {
      write({ user: { 'client-certificate': client.certFile } });
      await refused(/users\[daemon\]\.user: client-certificate and client-key go together; one of them is missing/);
      write({ user: { 'client-certificate': client.certFile, 'client-key': authority.own.keyFile } });
      await refused(/client-certificate and client-key cannot be used: .*mismatch/);
    });

    it('when the token file is missing or empty', async () => {
      write({ user: { tokenFile: 'absent' } });
      await refused(/users\[daemon\]\.user\.tokenFile: .*absent cannot be read/);
      writeFileSync(join(directory, 'empty'), '\n');
      write({ user: { tokenFile: 'empty' } });
      await refused(/users\[daemon\]\.user\.tokenFile: .*empty holds no bearer token/);
    });

    it('when the server is no URL, or only reachable through a proxy', async () => {
      write({ cluster: { server: 'ftp://x' } });
      await refused(/clusters\[main\]\.cluster\.server: "ftp:\/\/x" is not the URL of an API server; write https:\/\/HOST:PORT/);
      write({ cluster: { 'proxy-url': 'http://proxy:3128' } });
      await refused(/proxy-url is not supported/);
    });
  });

  describe('in a pod is the service account', () => {
    const environment = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };

    it('whose token is read again every time', async () => {
      const account = join(directory, 'account');
      mkdirSync(account);
      writeFileSync(join(account, 'ca.crt'), authority.own.cert);
      writeFileSync(join(account, 'token'), 'pod-token');
      const source = await open({ kubeconfig: '', environment, account });
      const { server, headers, tls } = await source.current();
      assert.deepEqual(
        [server.href, headers, tls.ca],
        ['https://[fd00::1]/', { authorization: 'Bearer pod-token' }, authority.own.cert],
      );
      writeFileSync(join(account, 'token'), 'rotated');
      assert.deepEqual((await source.current()).headers, { authorization: 'Bearer rotated' });
    });

    it('also where the kubeconfig is not there, which is told; one that is there and wrong is an error as everywhere', async () => {
      const account = join(directory, 'other-account');
      mkdirSync(account);
      writeFileSync(join(account, 'ca.crt'), authority.own.cert);
      writeFileSync(join(account, 'token'), 'pod-token');
      const told: string[] = [];
      const missing = join(directory, 'of-no-config-map');
      const source = await open({ kubeconfig: missing, environment, account, told });
      assert.equal((await source.current()).origin, 'service account');
      assert.deepEqual(told, [`--kubeconfig=${missing} is not there: the pod's own account is used, at KUBERNETES_SERVICE_HOST`]);
      await assert.rejects(open({ kubeconfig: missing, account }), /cannot be read/, 'outside of a pod');
      writeFileSync(missing, 'no: kubeconfig');
      await assert.rejects(
        open({ kubeconfig: missing, environment, account }),
        (error: unknown) => error instanceof FairwayError,
      );
    });

    it('and outside of one, the message says what to give', async () => {
      await assert.rejects(
        open({ kubeconfig: '' }),
        /not in a cluster: KUBERNETES_SERVICE_HOST is not set; give --kubeconfig FILE/,
      );
      await assert.rejects(
        open({ kubeconfig: '', environment, account: join(directory, 'none') }),
        /service account: ca\.crt: .* cannot be read/,
      );
    });
  });
});
