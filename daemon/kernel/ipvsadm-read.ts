/** Reading virtual services back: what `ipvsadm -Sn` and `/proc/net/ip_vs` print, line by line, pure. */
import { FairwayError } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { Protocol } from '../net/port.ts';
import type { Forwarding, Listener, VirtualServer } from '../reconcile/tables.ts';
import { VirtualServerAssembly } from './virtual-server-assembly.ts';

/** Reads the lines of one printing; `end` gives what they said. Throws FW_READ_UNPARSABLE for a line it does not know. */
export interface LineParser<R> {
  line(text: string): void;
  end(): R;
}

type Servers = ReadonlyMap<string, VirtualServer>;

const PROTOCOL_OF_OPTION: Readonly<Record<string, Protocol>> = { '-t': 'TCP', '-u': 'UDP', '--sctp-service': 'SCTP' };
const FORWARDING_OF_OPTION: Readonly<Record<string, Forwarding>> = { '-m': 'masquerade', '-i': 'tunnel', '-g': 'route' };
const FLAG_OF_NAME: Readonly<Record<string, string>> = {
  'sh-fallback': 'flag-1',
  'sh-port': 'flag-2',
  'mh-fallback': 'flag-1',
  'mh-port': 'flag-2',
};

/** All of a printing of `ipvsadm -Sn`, keyed by `listenerKey`. */
export function parseSave(lines: Iterable<string>): Servers {
  const parser = saveParser(new VirtualServerAssembly(new Map(), []));
  for (const line of lines) parser.line(line);
  return parser.end();
}

/**
 * `-A -t 10.96.0.1:80 -s rr -p 300 -b sh-port`, each followed by its `-a -t 10.96.0.1:80 -r 10.1.0.1:8080 -m -w 1`. Options of a service that
 * we never set (`-o`, `-M 255.255.255.0`, `--pe sip`) are kept as further flags: the service differs from any wish then, and `-E` clears them.
 */
export function saveParser(assembly: VirtualServerAssembly): LineParser<Servers> {
  return {
    line(text) {
      if (text.startsWith('-a ')) destinationOfSave(text, assembly);
      else if (text.startsWith('-A ')) serviceOfSave(text, assembly);
      else if (text !== '') throw unparsable('ipvsadm -Sn', text);
    },
    end: () => assembly.end(),
  };
}

function serviceOfSave(text: string, assembly: VirtualServerAssembly): void {
  const words = text.split(' ');
  const others: string[] = [];
  let listener: Listener | undefined;
  let scheduler = '';
  let persistenceSeconds = 0;
  let flags: readonly string[] = [];
  for (let index = 1; index < words.length; index++) {
    const word = words[index] ?? '';
    const protocol = PROTOCOL_OF_OPTION[word];
    if (protocol !== undefined) listener = listenerOf(protocol, words[++index] ?? '');
    // Marks from 2^31 on are printed as negative numbers.
    else if (word === '-f')
      listener = { by: 'mark', mark: Number(words[++index]) >>> 0, family: words[index + 1] === '-6' ? 'ipv6' : 'ipv4' };
    else if (word === '-s') scheduler = words[++index] ?? '';
    else if (word === '-p') persistenceSeconds = Number(words[++index]);
    else if (word === '-b') flags = (words[++index] ?? '').split(',').map(name => FLAG_OF_NAME[name] ?? name);
    else if (word !== '-6') others.push(word);
  }
  if (listener === undefined) throw unparsable('ipvsadm -Sn', text);
  assembly.begin({ listener, scheduler, persistenceSeconds, schedulerFlags: [...flags, ...others].sort() });
}

function destinationOfSave(text: string, assembly: VirtualServerAssembly): void {
  const start = text.indexOf(' -r ') + 4;
  const stop = text.indexOf(' ', start);
  const colon = text.lastIndexOf(':', stop);
  const [option, , weight] = text.slice(stop + 1).split(' ', 3);
  const forwarding = FORWARDING_OF_OPTION[option ?? ''];
  if (start < 4 || stop < 0 || colon < start || forwarding === undefined) throw unparsable('ipvsadm -Sn', text);
  const address = text.charAt(start) === '[' ? text.slice(start + 1, colon - 1) : text.slice(start, colon);
  assembly.destination(address, Number(text.slice(colon + 1, stop)), Number(weight), forwarding);
}

function listenerOf(protocol: Protocol, text: string): Listener | undefined {
  const colon = text.lastIndexOf(':');
  const address = parseAddress(text.slice(0, colon).replace(/^\[|\]$/g, ''));
  return address === undefined ? undefined : { by: 'address', protocol, address, port: Number(text.slice(colon + 1)) };
}

/** What `/proc/net/ip_vs` says. */
export interface ProcReading {
  readonly servers: Servers;
  /** Persistence timeouts of all persistent services in the kernel's ticks, by `listenerKey`. */
  readonly ticks: ReadonlyMap<string, number>;
  /** False where the file cannot say all: see {@link procParser}. Then only `ipvsadm -Sn` can. */
  readonly isComplete: boolean;
}

/** All of a printing of `/proc/net/ip_vs`. `ticksPerSecond` is the kernel's CONFIG_HZ, undefined where it is not known. */
export function parseProc(lines: Iterable<string>, ticksPerSecond: number | undefined): ProcReading {
  const parser = procParser(new VirtualServerAssembly(new Map(), []), new Map(), ticksPerSecond);
  for (const line of lines) parser.line(line);
  return parser.end();
}

/**
 * Format: `ip_vs_info_seq_show` in the kernel's net/netfilter/ipvs/ip_vs_ctl.c. The file does not tell everything: scheduler flags are
 * missing (they mean something to `sh` and `mh` only), persistence is in ticks of a length it does not name, and the family of a
 * firewall mark shows in the destinations alone, so that it is believed only where `expected` has a service of that mark and family.
 */
export function procParser(
  assembly: VirtualServerAssembly,
  expected: Servers,
  ticksPerSecond: number | undefined,
): LineParser<ProcReading> {
  const ticks = new Map<string, number>();
  let isComplete = true;
  let mark: MarkHeader | undefined;

  const begin = (header: ProcHeader, listener: Listener): void => {
    let persistenceSeconds = 0;
    if (header.ticks > 0) {
      persistenceSeconds = header.ticks / (ticksPerSecond ?? 1);
      if (ticksPerSecond === undefined) isComplete = false;
    }
    if (header.scheduler === 'sh' || header.scheduler === 'mh') isComplete = false;
    const key = assembly.begin({ listener, scheduler: header.scheduler, persistenceSeconds, schedulerFlags: header.others });
    if (header.ticks > 0) ticks.set(key, header.ticks);
    if (listener.by === 'mark' && !expected.has(key)) isComplete = false;
  };
  const serviceLine = (text: string): void => {
    if (mark !== undefined) isComplete = false;
    mark = undefined;
    const header = procHeader(text);
    if (header.listener === undefined) mark = header;
    else begin(header, header.listener);
  };
  return {
    line(text) {
      if (text.startsWith('  -> ')) {
        if (text.startsWith('  -> Remote')) return;
        // A service by mark begins with its first destination: only that tells the family.
        if (mark !== undefined) begin(mark, { by: 'mark', mark: mark.mark, family: text.charAt(5) === '[' ? 'ipv6' : 'ipv4' });
        mark = undefined;
        destinationOfProc(text, assembly);
      } else if (text !== '' && !text.startsWith('IP Virtual Server') && !text.startsWith('Prot ')) serviceLine(text);
    },
    end() {
      if (mark !== undefined) isComplete = false;
      return { servers: assembly.end(), ticks, isComplete };
    },
  };
}

interface ProcHeaderFields {
  readonly scheduler: string;
  readonly ticks: number;
  /** Options of a foreign hand, as in {@link saveParser}. */
  readonly others: readonly string[];
}
type MarkHeader = ProcHeaderFields & { readonly listener: undefined; readonly mark: number };
type ProcHeader = MarkHeader | (ProcHeaderFields & { readonly listener: Listener });

/** `TCP  0A600001:0050 rr persistent 30000 FFFFFFFF`, `FWM  00001234 rr`. */
export function procHeader(text: string): ProcHeader {
  const [protocol, where = '', scheduler = '', ...rest] = text.trimEnd().split(/ +/);
  const others = rest.includes('ops') ? ['-o'] : [];
  const at = rest.indexOf('persistent');
  const ticks = at < 0 ? 0 : Number(rest[at + 1]) >>> 0;
  // A netmask per client other than the whole address; for IPv6 the kernel prints the prefix length 128 byte-swapped.
  if (at >= 0 && rest[at + 2] !== 'FFFFFFFF' && rest[at + 2] !== '80000000') others.push('-M');
  const fields = { scheduler, ticks, others: others.sort() };
  if (protocol === 'FWM') return { ...fields, listener: undefined, mark: Number.parseInt(where, 16) };
  const colon = where.lastIndexOf(':');
  const address = hexAddress(where.slice(0, colon));
  if (address === undefined || (protocol !== 'TCP' && protocol !== 'UDP' && protocol !== 'SCTP'))
    throw unparsable('/proc/net/ip_vs', text);
  return { ...fields, listener: { by: 'address', protocol, address, port: Number.parseInt(where.slice(colon + 1), 16) } };
}

/** Columns where the IPv4 form stands: `  -> 0A010001:1F90      Masq    1      0          0`; the IPv6 form is longer by 33. */
const PORT_AT = 14;
const FORWARDING_AT = 24;
const WEIGHT_AT = 32;
const V6_SHIFT = 33;

/** Of a destination's line: `counts` are weight, active and inactive connections. An IPv6 address is in full. */
export function destinationOfProcLine(text: string): {
  readonly address: string;
  readonly port: number;
  readonly counts: string;
} {
  const shift = text.charAt(5) === '[' ? V6_SHIFT : 0;
  const address = shift > 0 ? text.slice(6, PORT_AT + shift - 2) : dottedDecimal(Number.parseInt(text.slice(5, PORT_AT - 1), 16));
  const port = Number.parseInt(text.slice(PORT_AT + shift, PORT_AT + shift + 4), 16);
  return { address, port, counts: text.slice(WEIGHT_AT + shift) };
}

function destinationOfProc(text: string, assembly: VirtualServerAssembly): void {
  const { address, port, counts } = destinationOfProcLine(text);
  const forwarding = forwardingOfProc(text.charAt(FORWARDING_AT + (text.charAt(5) === '[' ? V6_SHIFT : 0)));
  if (forwarding === undefined) throw unparsable('/proc/net/ip_vs', text);
  assembly.destination(address, port, Number.parseInt(counts, 10), forwarding);
}

/** By the first letter of Masq, Tunnel, Route; older kernels say Local for a route to the node itself. */
function forwardingOfProc(letter: string): Forwarding | undefined {
  if (letter === 'M') return 'masquerade';
  if (letter === 'T') return 'tunnel';
  return letter === 'R' || letter === 'L' ? 'route' : undefined;
}

/** `0A600001` or `[fd00:0000:0000:0000:0000:0000:0000:0001]`. */
function hexAddress(text: string): IpAddress | undefined {
  if (text.startsWith('[')) return parseAddress(text.slice(1, -1));
  return /^[0-9A-F]{8}$/.test(text) ? parseAddress(dottedDecimal(Number.parseInt(text, 16))) : undefined;
}

function dottedDecimal(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

function unparsable(source: string, line: string): FairwayError {
  return new FairwayError('FW_READ_UNPARSABLE', `${source} printed a line we cannot read: ${JSON.stringify(line)}`);
}
