/** Logins that need a program or another server: exec plugins and auth providers, run by the official client. */
import type { RequestOptions } from 'node:https';
import { KubeConfig, type User } from '@kubernetes/client-node';
import { FairwayError, messageOf } from '../errors.ts';
import { isRawObject } from './raw-object.ts';

/** What a plugin answered. */
export interface PluginCredentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
}

/** One user's login. The plugin runs when there is no credential yet or the last one has expired. */
export class PluginLogin {
  readonly #user: User;
  readonly #origin: string;
  /** Remembers the credential. Undefined until it is wanted, and after a failure: it would remember a useless answer for ever. */
  #config: KubeConfig | undefined;
  /** One run at a time, however many requests wait for it: a program that hangs is not started again and again. */
  #running: Promise<PluginCredentials> | undefined;

  constructor(user: User, origin: string) {
    this.#user = user;
    this.#origin = origin;
  }

  /** Rejects with FW_API_DENIED, which is no reason to stop: the program or its server may come back. */
  async login(): Promise<PluginCredentials> {
    if (!this.#user.exec && !this.#user.authProvider) return { headers: {}, cert: undefined, key: undefined };
    try {
      this.#running ??= this.#ask().finally(() => {
        this.#running = undefined;
      });
      return await this.#running;
    } catch (error) {
      this.#config = undefined;
      const exec: unknown = this.#user.exec;
      const field = isRawObject(exec) ? `exec (${String(exec['command'])})` : 'auth-provider';
      const message = `${this.#origin}: users[${this.#user.name}].user.${field} gave no credential: ${messageOf(error)}`;
      throw new FairwayError('FW_API_DENIED', message, { cause: error });
    }
  }

  async #ask(): Promise<PluginCredentials> {
    this.#config ??= loginConfig(this.#user);
    const options: RequestOptions = { headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    const credentials = { headers: textHeaders(options.headers), cert: pem(options.cert), key: pem(options.key) };
    if (!credentials.headers['authorization'] && credentials.cert === undefined) {
      throw new Error('there is neither a token nor a client certificate in its answer');
    }
    return credentials;
  }
}

/** Only the login is asked of this one: the server's address and certificates are the transport's business. */
function loginConfig(user: User): KubeConfig {
  const config = new KubeConfig();
  config.loadFromClusterAndUser({ name: 'login', server: 'https://login.invalid', skipTLSVerify: true }, user);
  return config;
}

function textHeaders(headers: RequestOptions['headers']): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (typeof value === 'string') texts[name.toLowerCase()] = value.trim();
  }
  return texts;
}

function pem(value: unknown): Buffer | undefined {
  if (typeof value === 'string') return Buffer.from(value);
  return Buffer.isBuffer(value) ? value : undefined;
}
