/** What of pod routing a node's kernel holds. */
import { addressOfBytes } from '../../daemon/net/address.ts';
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import type { Family } from './objects.ts';

interface ShownLink {
  readonly ifname?: string;
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Readonly<Record<string, unknown>> };
}

/** By what packets to each of these addresses leave: `eth0`, `ipip`, `ip6tnl in gue`, `vxlan gpe`; `none` where there is no way. */
export async function waysTo(lab: Lab, node: LabHost, addresses: readonly string[]): Promise<readonly string[]> {
  const input = ['link show', ...addresses.map(address => `route get ${address}`)].join('\n');
  const { stdout } = await lab.run(node, ['ip', '-j', '-d', '-force', '-batch', '-'], { input: `${input}\n` });
  const lists = stdout
    .split('\n')
    .filter(line => line.startsWith('['))
    .map(line => JSON.parse(line) as readonly (ShownLink & { readonly dev?: string })[]);
  const [links = [], ...routes] = lists;
  const kinds = new Map(links.map(link => [link.ifname ?? '', kindOf(link)]));
  return routes.map(([route]) => kinds.get(route?.dev ?? '') ?? 'none');
}

function kindOf({ ifname = '', linkinfo }: ShownLink): string {
  const { info_kind: kind = '', info_data: data = {} } = linkinfo ?? {};
  if (kind === 'vxlan') return data['gpe'] === true ? 'vxlan gpe' : kind;
  if (kind !== 'ipip' && kind !== 'ip6tnl') return ifname;
  const encap = data['encap'] as { readonly type?: string } | undefined;
  return encap?.type === undefined || encap.type === 'none' ? kind : `${kind} in ${encap.type}`;
}

/** How many tunnels to other nodes a node has. */
export async function tunnelsOf(lab: Lab, node: LabHost): Promise<number> {
  const links = await lab.expectRun(node, ['ip', '-o', 'link', 'show']);
  return [...links.matchAll(/^[0-9]+: tun-/gm)].length;
}

const BGP_PORT = 179;
const ESTABLISHED = '01';

/** Addresses of the neighbours that a node has a BGP connection with, sorted: by the kernel's table of a family's connections, from either end. */
export async function bgpNeighbours(lab: Lab, node: LabHost, family: Family = 'ipv4'): Promise<readonly string[]> {
  const table = await lab.readFile(node, family === 'ipv4' ? '/proc/net/tcp' : '/proc/net/tcp6');
  const lines = table.matchAll(/^ *\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) (\d\d) /gm);
  const found = [...lines].flatMap(([, , localPort = '', remote = '', remotePort = '', state]) => {
    const ports = [localPort, remotePort].map(port => Number.parseInt(port, 16));
    return state === ESTABLISHED && ports.includes(BGP_PORT) ? [addressOf(remote)] : [];
  });
  return [...new Set(found)].sort();
}

/** As /proc/net writes it: one or four 32-bit numbers in the order of the machine's bytes. */
function addressOf(hexadecimal: string): string {
  return addressOfBytes(Buffer.from(hexadecimal, 'hex').swap32());
}

/** Lines of `ip route` about one prefix in the main table. */
export async function routesTo(lab: Lab, node: LabHost, prefix: string): Promise<readonly string[]> {
  const family: Family = prefix.includes(':') ? 'ipv6' : 'ipv4';
  const text = await lab.expectRun(node, ['ip', family === 'ipv6' ? '-6' : '-4', '-o', 'route', 'show', prefix]);
  return text
    .split('\n')
    .map(line => line.trim())
    .filter(line => line !== '');
}

/** The name of the link by which packets to this address leave. */
export async function linkTo(lab: Lab, node: LabHost, address: string): Promise<string> {
  const [route] = JSON.parse(await lab.expectRun(node, ['ip', '-j', 'route', 'get', address])) as readonly {
    readonly dev: string;
  }[];
  return route?.dev ?? '';
}

const SHOWN: readonly string[] = [
  'ip -o -d link show',
  'ip -4 rule show',
  'ip -6 rule show',
  'ip -o -4 route show table all',
  'ip -o -6 route show table all',
  'ip fou show',
];

/** Tunnels, rules, routes of both families and ports of tunnels of a node, by the command that shows them, sorted. */
export async function routingFootprint(lab: Lab, node: LabHost): Promise<string> {
  const sections = await Promise.all(
    SHOWN.map(async command => {
      const { stdout } = await lab.run(node, command.split(' '));
      const lines = stdout.split('\n').flatMap(line => (isIncidental(line) ? [] : [withoutIncidents(line)]));
      return [`$ ${command}`, ...lines.sort()];
    }),
  );
  return sections.flat().join('\n');
}

/** Links with an Ethernet address are not ours to make; link-local addresses and multicast are the kernel's business. */
function isIncidental(line: string): boolean {
  return (
    line.trim() === '' || line.includes(' link/ether ') || line.includes(' link/loopback ') || /^(\S+ )?(fe80:|ff00:)/.test(line)
  );
}

/** A link or rule that is made anew has another number. */
function withoutIncidents(line: string): string {
  return line
    .replaceAll('\\', ' ')
    .replace(/^\d+:\s/, '')
    .replace(/ permaddr \S+/, '')
    .replace(/ numtxqueues .*/, '')
    .replaceAll(/ +/g, ' ')
    .trim();
}
