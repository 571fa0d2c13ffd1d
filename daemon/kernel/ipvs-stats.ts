/** Reading what IPVS counts: `ipvsadm -Ln --stats` and `--rate`. */
import { FairwayError } from '../errors.ts';
import { parseAddress } from '../net/address.ts';
import type { Protocol } from '../net/port.ts';
import type { ServiceTraffic } from '../reconcile/service-traffic.ts';
import type { Listener } from '../reconcile/tables.ts';
import type { CommandRunner } from './command.ts';

/** Milliseconds for one listing: who asks for metrics waits no longer than this. */
const LIMIT_MS = 10_000;

/**
 * The traffic of all virtual services. A virtual service that comes or goes between the two listings is left out. Throws a FairwayError where
 * ipvsadm cannot be asked: FW_CAPABILITY_TOOL_MISSING where there is none.
 */
export async function readServiceTraffic(runner: CommandRunner, signal: AbortSignal): Promise<readonly ServiceTraffic[]> {
  // One after the other: the node has better things to do than to be measured.
  const totals = await readListing('--stats', runner, signal);
  const rates = await readListing('--rate', runner, signal);
  return [...totals].flatMap(([name, { listener, numbers }]) => {
    const rate = rates.get(name);
    return rate === undefined ? [] : [trafficOf(listener, numbers, rate.numbers)];
  });
}

/** The five columns of a listing: connections, packets in and out, bytes in and out. */
type Numbers = readonly [number, number, number, number, number];

interface Row {
  readonly listener: Listener;
  readonly numbers: Numbers;
}

/** By the text that names the virtual service in both listings. */
async function readListing(
  kind: '--stats' | '--rate',
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Row>> {
  const rows = new Map<string, Row>();
  // Without --exact large numbers are rounded: 1234M.
  const argv = ['ipvsadm', '-Ln', kind, '--exact'] as const;
  const onLine = (line: string): void => {
    if (!isService(line)) return;
    const [, name = '', ...numbers] = ROW.exec(line) ?? [];
    const listener = listenerOf(name);
    if (listener === undefined) {
      throw new FairwayError('FW_READ_UNPARSABLE', `'${argv.join(' ')}' printed a line we cannot read: ${JSON.stringify(line)}`);
    }
    const [a, b, c, d, e] = numbers.map(Number);
    rows.set(name, { listener, numbers: [a ?? 0, b ?? 0, c ?? 0, d ?? 0, e ?? 0] });
  };
  const result = await runner.lines({ argv, timeoutMs: LIMIT_MS }, onLine, signal);
  if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
  return rows;
}

/** `TCP  10.96.0.10:80                      40      200      200    10960    50720`. */
const ROW = /^(\S+ +\S+(?: IPv6)?) +([0-9]+) +([0-9]+) +([0-9]+) +([0-9]+) +([0-9]+) *$/;

/** Neither a heading nor a destination. */
function isService(line: string): boolean {
  return line !== '' && !line.startsWith('  ->') && !line.startsWith('IP Virtual Server') && !line.startsWith('Prot ');
}

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];

/** `TCP  10.96.0.10:80`, `UDP  [fd00:96::a]:53`, `FWM  4660`, `FWM  4660 IPv6`. */
function listenerOf(name: string): Listener | undefined {
  const [word, where = '', ipv6] = name.split(/ +/);
  // Marks from 2^31 on are printed as negative numbers.
  if (word === 'FWM') return { by: 'mark', mark: Number(where) >>> 0, family: ipv6 === undefined ? 'ipv4' : 'ipv6' };
  const protocol = PROTOCOLS.find(each => each === word);
  const colon = where.lastIndexOf(':');
  const address = parseAddress(where.slice(0, colon).replace(/^\[|\]$/g, ''));
  if (protocol === undefined || address === undefined) return undefined;
  return { by: 'address', protocol, address, port: Number(where.slice(colon + 1)) };
}

function trafficOf(listener: Listener, totals: Numbers, rates: Numbers): ServiceTraffic {
  const [connections, packetsIn, packetsOut, bytesIn, bytesOut] = totals;
  const [connectionRate, packetRateIn, packetRateOut, byteRateIn, byteRateOut] = rates;
  return {
    listener,
    connections,
    packetsIn,
    packetsOut,
    bytesIn,
    bytesOut,
    connectionRate,
    packetRateIn,
    packetRateOut,
    byteRateIn,
    byteRateOut,
  };
}
