/** A certificate authority for one test run, made with openssl(1). */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface KeyPair {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Keys and certificates in one folder; each call of `issue` costs about 20 ms. */
export class CertificateAuthority {
  readonly #directory: string;
  readonly #name: string;
  readonly own: KeyPair;

  /** @param name file name prefix and common name; several authorities may share the folder */
  constructor(directory: string, name: string) {
    this.#directory = directory;
    this.#name = name;
    const [certFile, keyFile] = this.#files(name);
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
    openssl('req', '-x509', ...key, '-days', '3650', '-subj', `/CN=${name}`, '-out', certFile);
    this.own = pair(certFile, keyFile);
  }

  /** A certificate for a server at the given IP addresses and names, or for a client where there are none. */
  issue(name: string, subjects: { readonly addresses?: readonly string[]; readonly names?: readonly string[] } = {}): KeyPair {
    const [certFile, keyFile] = this.#files(`${this.#name}-${name}`);
    const request = join(this.#directory, `${name}.csr`);
    const extensions = join(this.#directory, `${name}.ext`);
    const alternatives = [
      ...(subjects.addresses ?? []).map(ip => `IP:${ip}`),
      ...(subjects.names ?? []).map(dns => `DNS:${dns}`),
    ];
    writeFileSync(extensions, alternatives.length === 0 ? '' : `subjectAltName=${alternatives.join(',')}\n`);
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile];
    openssl('req', '-new', ...key, '-subj', `/CN=${name}`, '-out', request);
    const signer = ['-CA', this.own.certFile, '-CAkey', this.own.keyFile, '-set_serial', String(process.hrtime.bigint())];
    openssl('x509', '-req', '-in', request, ...signer, '-days', '3650', '-extfile', extensions, '-out', certFile);
    return pair(certFile, keyFile);
  }

  #files(name: string): [string, string] {
    return [join(this.#directory, `${name}.crt`), join(this.#directory, `${name}.key`)];
  }
}

function pair(certFile: string, keyFile: string): KeyPair {
  return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) };
}

function openssl(...argv: readonly string[]): void {
  execFileSync('openssl', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
}
