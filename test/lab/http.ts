/** HTTP from hosts of the lab without curl(1), which a minimal Debian lacks. */
import assert from 'node:assert/strict';
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';

/** One request of HTTP/1.0, so that the answer ends with the connection; printed as it came, or how it failed. */
const SCRIPT = `
use IO::Socket::IP;
my ($address, $port, $path) = @ARGV;
my $socket = IO::Socket::IP->new(PeerHost => $address, PeerPort => $port, Timeout => 2);
unless ($socket) { print $!{ECONNREFUSED} || $!{EHOSTUNREACH} ? "refused" : $!{ETIMEDOUT} ? "timeout" : "failed: $!"; exit }
print $socket "GET $path HTTP/1.0\\r\\nHost: lab\\r\\n\\r\\n";
local $/;
print scalar <$socket>;
`;

export interface HttpAnswer {
  readonly status: number;
  /** By name in small letters. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The answer, or `refused`, `timeout` or an error's text where there is none. */
export async function httpGet(lab: Lab, from: LabHost, address: string, port: number, path = '/'): Promise<HttpAnswer | string> {
  const printed = await lab.expectRun(from, ['perl', '-e', SCRIPT, address, String(port), path]);
  const [, status, fields = '', body = ''] = /^HTTP\/1\.1 (\d+) [^\r]*\r\n(.*?)\r\n\r\n(.*)$/s.exec(printed) ?? [];
  if (status === undefined) return printed;
  const headers = fields.split('\r\n').map(line => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const;
  });
  return { status: Number(status), headers: Object.fromEntries(headers), body };
}

/** What was answered; fails where nothing was. */
export function answered(answer: HttpAnswer | string): HttpAnswer {
  if (typeof answer === 'string') assert.fail(`no answer: ${answer}`);
  return answer;
}
