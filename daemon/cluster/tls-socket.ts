/** The TLS socket under a connection, with errors that say what to look at. */
import { isIP } from 'node:net';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { FairwayError, messageOf } from '../errors.ts';
import type { Clock } from '../net/clock.ts';
import type { Credentials } from './credentials.ts';

/** TCP keepalive finds a dead peer even where nothing else is configured to. */
export const KEEPALIVE_MS = 15_000;

/** The TLS options of the credentials, for HTTP/2 and HTTP/1.1 alike. */
export function tlsOptions({ server, tls }: Credentials): ConnectionOptions {
  const host = hostOf(server);
  const serverName = tls.serverName || (isIP(host) === 0 ? host : '');
  return {
    host,
    port: Number(server.port || 443),
    ...(serverName === '' ? {} : { servername: serverName }),
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    rejectUnauthorized: tls.verification === 'required',
  };
}

/** The host without the brackets of an IPv6 URL. */
export function hostOf(server: URL): string {
  return server.hostname.replace(/^\[|\]$/g, '');
}

/** An open, verified socket that offers HTTP/2 first. Rejects with FW_API_UNREACHABLE. */
export function connectTls(
  credentials: Credentials,
  options: { readonly clock: Clock; readonly connectMs: number; readonly signal: AbortSignal },
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...tlsOptions(credentials), ALPNProtocols: ['h2', 'http/1.1'] });
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.setNoDelay(true);
    const fail = (error: unknown): void => {
      settle();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(unreachable(error, credentials));
    };
    const abort = (): void => fail(options.signal.reason);
    const late = (): void => fail(new Error(`no answer within ${options.connectMs / 1000} s`));
    const cancel = options.clock.after(options.connectMs, late);
    const settle = (): void => {
      cancel();
      socket.off('error', fail);
      options.signal.removeEventListener('abort', abort);
    };
    socket.once('error', fail);
    socket.once('secureConnect', () => {
      settle();
      resolve(socket);
    });
    options.signal.addEventListener('abort', abort, { once: true });
    if (options.signal.aborted) abort();
  });
}

/** FW_API_UNREACHABLE with the address tried and, where the code of the error tells, what to do. */
export function unreachable(error: unknown, credentials: Credentials): FairwayError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const remedy = remedyOf(code, credentials);
  const message = `API server ${credentials.server.origin}: ${messageOf(error)}${remedy === '' ? '' : `; ${remedy}`}`;
  return new FairwayError('FW_API_UNREACHABLE', message, { cause: error });
}

/** Codes of OpenSSL's verification (openssl-verification-options(1)) and of Node's sockets. */
function remedyOf(code: string, { origin, tls }: Credentials): string {
  if (/^(SELF_SIGNED_CERT|DEPTH_ZERO|UNABLE_TO_(VERIFY|GET)|CERT_SIGNATURE|CERT_UNTRUSTED)/.test(code)) {
    const trusted = tls.ca === undefined ? 'no CA is given, so the system decides' : 'another CA signed the certificate';
    return `${trusted}: set certificate-authority in ${origin} to the CA of this server`;
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return `use a name the certificate carries, or set tls-server-name in ${origin}`;
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') return "renew the server's certificate, or correct the clock";
  if (code === 'ECONNREFUSED') return `nothing listens there: check that the server runs and that ${origin} names its port`;
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return `the name does not resolve: check the server of ${origin}`;
  if (/^(ENETUNREACH|EHOSTUNREACH|ETIMEDOUT)$/.test(code)) return `no way there: check routes and the server of ${origin}`;
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'EPROTO')
    return `that port does not speak TLS: check the server of ${origin}`;
  return '';
}
