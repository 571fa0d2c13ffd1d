/** Where our gobgpd answers the `gobgp` command, as kube-router reads its two flags. */
import { isLoopback, mustParseAddress, parseAddress, withPort } from '../net/address.ts';

const LOCAL = mustParseAddress('127.0.0.1');

/**
 * `HOST:PORT` for `--api-hosts`; none with port 0. A text that is no address means 127.0.0.1; an address of the host is bound besides 127.0.0.1, all
 * addresses include it.
 */
export function adminHosts(address: string, port: number): readonly string[] {
  if (port === 0) return [];
  const parsed = parseAddress(address) ?? LOCAL;
  const isAlone = isLoopback(parsed) || parsed === '0.0.0.0' || parsed === '::';
  return (isAlone ? [parsed] : [parsed, LOCAL]).map(each => withPort(each, port));
}
