/** The driver of addresses on our links: ip-address(8). */
import { FairwayError } from '../errors.ts';
import { familyOf, HOST_BITS, parseAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type LinkAddress, TABLES } from '../reconcile/tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, textOf, withUsableLinks } from './ip-batch.ts';

export interface IpDriverOptions {
  readonly runner: CommandRunner;
  /** The links that are ours by name. */
  readonly ownLinks: ReadonlySet<string>;
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
  const readAnew = (signal: AbortSignal): Promise<ReadonlyMap<string, LinkAddress>> =>
    read(new Map<string, LinkAddress>(), signal);
  return {
    read,
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, ({ link }) => link);
      const batch = { runner: options.runner, linesOf, nameOf, read: readAnew, isDone };
      const result = await applyBatch(batch, usable, signal);
      return { failed: new Map([...failed, ...result.failed]) };
    },
    render: changes => textOf(changes.flatMap(linesOf)),
  };
}

function nameOf({ address, link }: LinkAddress): string {
  return `address ${address} on '${link}'`;
}

function isDone(change: Change<LinkAddress>, found: ReadonlyMap<string, LinkAddress>): boolean {
  return found.has(change.key) === (change.op !== 'delete');
}

/** The line of a batch that puts an address on one of our links. */
export function additionOf({ address, link }: LinkAddress): string {
  const how = familyOf(address) === 'ipv4' ? 'scope link' : 'preferred_lft 0 nodad noprefixroute';
  return `addr add ${hostPrefix(address)} dev ${link} ${how}`;
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
