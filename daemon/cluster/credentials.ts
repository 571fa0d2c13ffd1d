/** What a connection to the API server needs to know: where it is, whom to trust, who we are. */
import { createHash } from 'node:crypto';

/** The TLS half of the credentials. A connection is made anew when any byte of it changes. */
export interface TlsIdentity {
  /** PEM; undefined trusts the system's authorities. */
  readonly ca: Buffer | undefined;
  /** PEM of the client certificate, where there is one. */
  readonly cert: Buffer | undefined;
  readonly key: Buffer | undefined;
  /** Name the server's certificate must carry where it is not the host of the URL; '' otherwise. */
  readonly serverName: string;
  readonly verification: 'required' | 'skipped';
}

export interface Credentials {
  readonly server: URL;
  readonly tls: TlsIdentity;
  /** `Authorization` and impersonation headers. Secret: never logged. */
  readonly headers: Readonly<Record<string, string>>;
  /** What to name in messages, such as `kubeconfig /etc/fairway/kubeconfig`. */
  readonly origin: string;
}

/** Files, tokens and plugins behind the credentials are read again and again, so rotation is seen. */
export interface CredentialSource {
  /** The same object only where nothing was read anew. Rejects with a FairwayError that names file, field and remedy. */
  current(): Promise<Credentials>;
  /** The server refused what `current` gave (401): nothing remembered may be used again. */
  forget(): void;
}

/** Two credentials with equal fingerprints can share a connection. */
export function connectionFingerprint({ server, tls }: Credentials): string {
  const hash = createHash('sha256');
  for (const part of [server.href, tls.serverName, tls.verification, tls.ca, tls.cert, tls.key]) {
    const bytes = typeof part === 'string' ? Buffer.from(part) : (part ?? Buffer.alloc(0));
    hash.update(`${bytes.length}:`).update(bytes);
  }
  return hash.digest('base64');
}
