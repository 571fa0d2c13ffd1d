/**
 * Credentials for the API server from a kubeconfig, from the pod's service account, or from `--master` alone, as client-go's
 * `BuildConfigFromFlags` chooses. `KubeConfig` of the official client resolves contexts and runs exec and OIDC plugins; files are
 * read here, on every use, so that rotated tokens, certificates and kubeconfigs are picked up.
 */
import { X509Certificate } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { dirname, join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { User } from '@kubernetes/client-node';
import { FairwayError, messageOf } from '../errors.ts';
import type { CredentialSource, Credentials, TlsIdentity } from './credentials.ts';
import { parseKubeconfig, type SelectedContext } from './kubeconfig-file.ts';
import { PluginLogin } from './plugin-login.ts';
import { isRawObject } from './raw-object.ts';

export interface KubeconfigOptions {
  /** `--kubeconfig`; '' where not given. */
  readonly kubeconfig: string;
  /** `--master`: overrides the server of the kubeconfig, and works without one; '' where not given. */
  readonly master: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => Promise<Buffer>;
  /** Told where a kubeconfig that is not there gives way to the pod's own account. */
  readonly onReplaced?: (message: string) => void;
  /** Default `/var/run/secrets/kubernetes.io/serviceaccount`. */
  readonly serviceAccountDirectory?: string;
}

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const NO_TLS: TlsIdentity = { ca: undefined, cert: undefined, key: undefined, serverName: '', verification: 'required' };

/**
 * The credentials that the flags ask for. Rejects with FW_CONFIG_KUBECONFIG where they cannot be used as they are: call it at start,
 * where that ends the process; later failures of `current` are for the reflectors to report and try again.
 */
export async function openCredentials(options: KubeconfigOptions): Promise<CredentialSource> {
  if (options.kubeconfig !== '' && !(await isReplaceable(options))) {
    const source = new KubeconfigCredentials(options);
    await source.check();
    return source;
  }
  if (options.master !== '') {
    const credentials = { server: serverUrl(options.master, '--master'), tls: NO_TLS, headers: {}, origin: '--master' };
    return { current: () => Promise.resolve(credentials), forget: () => undefined };
  }
  const source = new InClusterCredentials(options);
  await source.current();
  return source;
}

/** In a pod, a kubeconfig that is not there gives way to the pod's own account: it may be of a ConfigMap that this cluster does not have. */
async function isReplaceable({ kubeconfig, master, environment, readFile, onReplaced }: KubeconfigOptions): Promise<boolean> {
  if ((environment['KUBERNETES_SERVICE_HOST'] ?? '') === '' || master !== '') return false;
  try {
    await readFile(kubeconfig);
    return false;
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')) return false;
    onReplaced?.(`--kubeconfig=${kubeconfig} is not there: the pod's own account is used, at KUBERNETES_SERVICE_HOST`);
    return true;
  }
}

/** The pod's own service account. The kubelet renews the token file long before the token expires. */
class InClusterCredentials implements CredentialSource {
  readonly #options: KubeconfigOptions;

  constructor(options: KubeconfigOptions) {
    this.#options = options;
  }

  async current(): Promise<Credentials> {
    const { environment, serviceAccountDirectory = SERVICE_ACCOUNT } = this.#options;
    const host = environment['KUBERNETES_SERVICE_HOST'];
    const port = environment['KUBERNETES_SERVICE_PORT'] ?? '443';
    if (host === undefined || host === '') {
      throw wrong(
        'not in a cluster: KUBERNETES_SERVICE_HOST is not set; give --kubeconfig FILE, --master URL, or --manifests DIRECTORY',
      );
    }
    const files = new NamedFiles(this.#options.readFile, 'service account');
    const server = serverUrl(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`, 'KUBERNETES_SERVICE_HOST');
    const ca = await files.certificate(join(serviceAccountDirectory, 'ca.crt'), 'ca.crt');
    const token = await files.token(join(serviceAccountDirectory, 'token'), 'token');
    return { server, tls: { ...NO_TLS, ca }, headers: { authorization: `Bearer ${token}` }, origin: 'service account' };
  }

  forget(): void {}
}

class KubeconfigCredentials implements CredentialSource {
  readonly #options: KubeconfigOptions;
  readonly #origin: string;
  #selected: { readonly text: string; readonly context: SelectedContext; readonly login: PluginLogin } | undefined;

  constructor(options: KubeconfigOptions) {
    this.#options = options;
    this.#origin = `kubeconfig ${options.kubeconfig}`;
  }

  /** Everything that can be told without the network and without running a plugin. */
  async check(): Promise<void> {
    const { context } = await this.#load();
    this.#server(context);
    await this.#tls(context);
    await this.#ownHeaders(context);
  }

  async current(): Promise<Credentials> {
    const { context, login } = await this.#load();
    const [tls, own, plugin] = [await this.#tls(context), await this.#ownHeaders(context), await login.login()];
    return {
      server: this.#server(context),
      tls: { ...tls, cert: plugin.cert ?? tls.cert, key: plugin.key ?? tls.key },
      headers: { ...plugin.headers, ...own },
      origin: this.#origin,
    };
  }

  forget(): void {
    this.#selected = undefined;
  }

  /** Parsed again only when its text changed: the plugin's credential is remembered with it. */
  async #load(): Promise<{ readonly context: SelectedContext; readonly login: PluginLogin }> {
    const file = this.#options.kubeconfig;
    const text = (await new NamedFiles(this.#options.readFile, '--kubeconfig').bytes(file, 'file')).toString('utf8');
    if (this.#selected?.text !== text) {
      const context = parseKubeconfig(text, file);
      this.#selected = { text, context, login: new PluginLogin(loginOf(context, dirname(file)), this.#origin) };
    }
    return this.#selected;
  }

  #server({ cluster }: SelectedContext): URL {
    const { master } = this.#options;
    if (master !== '') return serverUrl(master, '--master');
    return serverUrl(cluster.server, `${this.#origin}: clusters[${cluster.name}].cluster.server`);
  }

  async #tls({ cluster, user }: SelectedContext): Promise<TlsIdentity> {
    const files = new NamedFiles(this.#options.readFile, this.#origin);
    const [ofCluster, ofUser] = [`clusters[${cluster.name}].cluster`, `users[${user.name}].user`];
    const ca = await files.either(cluster.caFile, cluster.caData, `${ofCluster}.certificate-authority`);
    if (ca !== undefined) files.checkCertificate(ca, `${ofCluster}.certificate-authority`, cluster.caFile ?? '');
    const cert = await files.either(user.certFile, user.certData, `${ofUser}.client-certificate`);
    const key = await files.either(user.keyFile, user.keyData, `${ofUser}.client-key`);
    if ((cert === undefined) !== (key === undefined)) {
      throw wrong(`${this.#origin}: ${ofUser}: client-certificate and client-key go together; one of them is missing`);
    }
    if (cert !== undefined && key !== undefined) {
      try {
        createSecureContext({ cert, key });
      } catch (error) {
        throw wrong(`${this.#origin}: ${ofUser}: client-certificate and client-key cannot be used: ${messageOf(error)}`, error);
      }
    }
    const verification = cluster.skipTLSVerify ? 'skipped' : 'required';
    return { ca: verification === 'skipped' ? undefined : ca, cert, key, serverName: cluster.tlsServerName ?? '', verification };
  }

  /** client-go: a token file wins over a token, both over a plugin. */
  async #ownHeaders({ user, tokenFile }: SelectedContext): Promise<Record<string, string>> {
    const headers: Record<string, string> = {};
    if (user.username)
      headers['authorization'] = `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}`;
    if (user.token) headers['authorization'] = `Bearer ${user.token.trim()}`;
    if (tokenFile !== '') {
      const files = new NamedFiles(this.#options.readFile, this.#origin);
      headers['authorization'] = `Bearer ${await files.token(tokenFile, `users[${user.name}].user.tokenFile`)}`;
    }
    if (user.impersonateUser) headers['impersonate-user'] = user.impersonateUser;
    return headers;
  }
}

/** The user as a plugin needs it; what is read here is not read twice. Relative commands are relative to the kubeconfig. */
function loginOf({ user }: SelectedContext, directory: string): User {
  const authProvider: unknown = user.authProvider;
  const login: User = { name: user.name, authProvider };
  const exec: unknown = user.exec;
  if (!isRawObject(exec)) return login;
  const { command, env, apiVersion } = exec;
  const execInfo = { apiVersion, kind: 'ExecCredential', spec: { interactive: false } };
  const isRelative = typeof command === 'string' && command.includes('/') && !command.startsWith('/');
  return {
    ...login,
    exec: {
      ...exec,
      command: isRelative ? join(directory, command) : command,
      env: [
        { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(execInfo) },
        ...(Array.isArray(env) ? env.filter(isRawObject) : []),
      ],
    },
  };
}

/** client-go takes a server without a scheme as plain HTTP. */
function serverUrl(text: string, field: string): URL {
  const url = URL.parse(/^[a-z]+:\/\//.test(text) ? text : `http://${text}`);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw wrong(`${field}: ${JSON.stringify(text)} is not the URL of an API server; write https://HOST:PORT`);
  }
  return url;
}

/** Files that a configuration names, with messages that name the field too. */
class NamedFiles {
  readonly #readFile: (path: string) => Promise<Buffer>;
  readonly #origin: string;

  constructor(readFile: (path: string) => Promise<Buffer>, origin: string) {
    this.#readFile = readFile;
    this.#origin = origin;
  }

  async bytes(path: string, field: string): Promise<Buffer> {
    try {
      return await this.#readFile(path);
    } catch (error) {
      throw wrong(
        `${this.#origin}: ${field}: ${path} cannot be read: ${messageOf(error)}; correct the path or the permissions`,
        error,
      );
    }
  }

  /** The file where one is named, else the base64 text of the `-data` field. */
  async either(path: string | undefined, data: string | undefined, field: string): Promise<Buffer | undefined> {
    if (path) return await this.bytes(path, field);
    return data ? Buffer.from(data, 'base64') : undefined;
  }

  async certificate(path: string, field: string): Promise<Buffer> {
    const bytes = await this.bytes(path, field);
    this.checkCertificate(bytes, field, path);
    return bytes;
  }

  checkCertificate(bytes: Buffer, field: string, path: string): void {
    try {
      new X509Certificate(bytes);
    } catch (error) {
      const place = path === '' ? `${field}-data` : `${field}: ${path}`;
      throw wrong(`${this.#origin}: ${place} holds no PEM certificate; put the cluster's CA certificate there`, error);
    }
  }

  async token(path: string, field: string): Promise<string> {
    const token = (await this.bytes(path, field)).toString('utf8').trim();
    if (token === '' || /[^\x21-\x7e]/.test(token)) throw wrong(`${this.#origin}: ${field}: ${path} holds no bearer token`);
    return token;
  }
}

function wrong(message: string, cause?: unknown): FairwayError {
  return new FairwayError('FW_CONFIG_KUBECONFIG', message, { cause });
}
