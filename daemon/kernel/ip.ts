/** The drivers of links and of addresses on them: ip(8). */
import { FairwayError } from '../errors.ts';
import { familyOf, HOST_BITS, parseAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import type { Link } from '../reconcile/link.ts';
import { type LinkAddress, TABLES } from '../reconcile/tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, type Batch, withUsableLinks } from './ip-batch.ts';

export interface IpDriverOptions {
  readonly runner: CommandRunner;
  /** The links that are ours by name. */
  readonly ownLinks: ReadonlySet<string>;
}

/**
 * Dummy links, made up. One that is down, or of our name but another type, counts as missing: creating sets up what is there already,
 * and is refused for another type. Dummy links are NOARP: they answer for no address; that other links answer for it over IPv4 is
 * what the sysctls arp_ignore and arp_announce prevent (IPv6 answers for the addresses of the asked link only).
 */
export function linkDriver(options: IpDriverOptions): TableDriver<Link> {
  const read = async (expected: ReadonlyMap<string, Link>, signal: AbortSignal): Promise<ReadonlyMap<string, Link>> => {
    const argv = ['ip', '-j', '-d', 'link', 'show', 'type', 'dummy'] as const;
    const result = await options.runner.run({ argv }, signal);
    if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    const found = new Map<string, Link>();
    for (const name of upLinks(result.stdout)) {
      if (options.ownLinks.has(name)) found.set(name, expected.get(name) ?? { name, type: 'dummy' });
    }
    return found;
  };
  const linesOf = (change: Change<Link>): readonly string[] =>
    change.op === 'delete'
      ? [`link delete dev ${change.from.name}`]
      : [`link add dev ${change.to.name} type ${change.to.type}`, `link set dev ${change.to.name} up`];
  return ipDriver({
    read,
    linesOf,
    runner: options.runner,
    nameOf: link => `link '${link.name}'`,
    linkOf: link => link.name,
  });
}

/**
 * Host addresses on our links; those with a network's prefix length are someone else's. IPv4 ones have link scope (as kube-router's), so that
 * none becomes the source of a connection elsewhere; IPv6 ones are deprecated (preferred lifetime 0, RFC 6724 rule 3) to the same
 * end, usable at once (`nodad`), and without the route to themselves that makes deleting thousands of them slow.
 */
export function addressDriver(options: IpDriverOptions): TableDriver<LinkAddress> {
  const read = async (
    expected: ReadonlyMap<string, LinkAddress>,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, LinkAddress>> => {
    const found = new Map<string, LinkAddress>();
    const readLink = async (link: string): Promise<void> => {
      // One line an address, read as it comes: a third less text than JSON, and none of it kept.
      const argv = ['ip', '-o', 'addr', 'show', 'dev', link] as const;
      const onLine = (line: string): void => {
        const entry = hostAddressOf(line, link, expected);
        if (entry !== undefined) found.set(TABLES.address.key(entry), entry);
      };
      const result = await options.runner.lines({ argv }, onLine, signal);
      if (result.status !== 0 && !/does not exist|Cannot find device/.test(result.stderr)) {
        throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
      }
    };
    for (const link of options.ownLinks) await readLink(link);
    return found;
  };
  const linesOf = (change: Change<LinkAddress>): readonly string[] => {
    if (change.op === 'delete') return [`addr del ${hostPrefix(change.from.address)} dev ${change.from.link}`];
    return [additionOf(change.to)];
  };
  return ipDriver({
    read,
    linesOf,
    runner: options.runner,
    nameOf: ({ address, link }) => `address ${address} on '${link}'`,
    linkOf: ({ link }) => link,
  });
}

/** The line of a batch that puts an address on one of our links. */
export function additionOf({ address, link }: LinkAddress): string {
  const how = familyOf(address) === 'ipv4' ? 'scope link' : 'preferred_lft 0 nodad noprefixroute';
  return `addr add ${hostPrefix(address)} dev ${link} ${how}`;
}

interface IpDriver<T> {
  readonly runner: CommandRunner;
  readonly read: TableDriver<T>['read'];
  readonly linesOf: Batch<T>['linesOf'];
  readonly nameOf: (entry: T) => string;
  readonly linkOf: (entry: T) => string;
}

function ipDriver<T>(driver: IpDriver<T>): TableDriver<T> {
  const { runner, linesOf, nameOf } = driver;
  const read = (signal: AbortSignal): Promise<ReadonlyMap<string, T>> => driver.read(new Map<string, T>(), signal);
  const isDone = (change: Change<T>, found: ReadonlyMap<string, T>): boolean =>
    found.has(change.key) === (change.op !== 'delete');
  return {
    read: driver.read,
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, driver.linkOf);
      const result = await applyBatch({ runner, linesOf, nameOf, read, isDone }, usable, signal);
      return { failed: new Map([...failed, ...result.failed]) };
    },
    render: changes =>
      changes
        .flatMap(change => linesOf(change))
        .map(line => `${line}\n`)
        .join(''),
  };
}

/** Names of the links that are up, from `ip -j link show`. A filter that leaves nothing prints nothing, or empty objects. */
function upLinks(stdout: string): string[] {
  const links: unknown = parseJson(stdout);
  if (!Array.isArray(links)) throw unreadable();
  return links.flatMap((link: unknown) => {
    if (typeof link !== 'object' || link === null) throw unreadable();
    if (!('ifname' in link) || typeof link.ifname !== 'string' || !('flags' in link) || !Array.isArray(link.flags)) return [];
    return link.flags.includes('UP') ? [link.ifname] : [];
  });
}

function parseJson(text: string): unknown {
  if (text.trim() === '') return [];
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw unreadable({ cause });
  }
}

function unreadable(options?: ErrorOptions): FairwayError {
  return new FairwayError(
    'FW_READ_UNPARSABLE',
    "'ip -j link show' printed no list of links: iproute2 4.17 or newer is needed",
    options,
  );
}

/** The entry of a line of `ip -o addr show`, or undefined where it is not a host address: `8: kd    inet 10.0.0.1/32 scope link kd\ ...`. */
export function hostAddressOf(line: string, link: string, expected: ReadonlyMap<string, LinkAddress>): LinkAddress | undefined {
  const [, text, bits] = /^[0-9]+: \S+ +inet6? ([0-9a-f.:]+)\/([0-9]+) /.exec(line) ?? [];
  if (text === undefined || bits === undefined) return undefined;
  const known = expected.get(`${text} ${link}`);
  if (known !== undefined) return known;
  // The C library writes a few IPv6 addresses with a dotted tail.
  const address = parseAddress(text);
  if (address === undefined || Number(bits) !== HOST_BITS[familyOf(address)]) return undefined;
  return expected.get(`${address} ${link}`) ?? { link, address };
}
