/** The driver of links: ip-link(8). */
import { FairwayError } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type Link, sameLink } from '../reconcile/link.ts';
import { isOverlayLink, VXLAN_LINK } from '../reconcile/routing-tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, type BatchLines, textOf, withUsableLinks } from './ip-batch.ts';
import { loadModules } from './kernel-modules.ts';
import { bridgesInUse, type Device, devicesOf, TUNNEL_TTL } from './link-read.ts';

export interface LinkDriverOptions {
  readonly runner: CommandRunner;
  /** Whether a link of that name and type is ours, whichever process of ours made it. One of our name but another type is not. */
  readonly owns: (name: string, type: Link['type']) => boolean;
}

/** Whether a link is pod routing's by name and type: the bridge, and tunnels of ours or kube-router's. */
export function isPodRoutingLink(name: string, type: Link['type']): boolean {
  switch (type) {
    case 'dummy':
      return false;
    case 'bridge':
      return name === POD_BRIDGE;
    case 'vxlan':
      return name === VXLAN_LINK;
    case 'ipip':
    case 'ip6tnl':
      return isOverlayLink(name) && name !== VXLAN_LINK;
  }
}

/** The bridge of pods, as kube-router's CNI configuration names it. */
const POD_BRIDGE = 'kube-bridge';

/**
 * Links of every type we make. One that is wanted counts as missing while it is down or otherwise not as we make it, so that nothing is sent by it;
 * creating brings what is there already to what is wanted, in place where the kernel can, which keeps the routes by it. It is refused where a link of
 * another type has the name. One that is not wanted is told whatever its state, so that it goes; a bridge only while it has no ports: with
 * ports it is somebody's still, and deleting it is quietly left.
 *
 * Dummy links are NOARP: they answer for no address; that other links answer for it over IPv4 is what the sysctls arp_ignore and
 * arp_announce prevent (IPv6 answers for the addresses of the asked link only).
 *
 * VXLAN is of the kind GPE (draft-ietf-nvo3-vxlan-gpe), which carries IP packets without an Ethernet header: the kernel drops Ethernet frames whose
 * source is the receiving link's own MAC address as its own echo, so that plain VXLAN needs another address on each node and an entry of it for
 * each neighbour. With GPE routes alone say all there is to say, and 14 bytes a packet are saved.
 */
export function linkDriver({ runner, owns }: LinkDriverOptions): TableDriver<Link> {
  const show = async (types: readonly string[], signal: AbortSignal): Promise<string> => {
    // A batch, so that one process asks for each type: a node has hundreds of other links.
    const argv = ['ip', '-j', '-d', '-force', '-batch', '-'] as const;
    const result = await runner.run({ argv, stdin: textOf(types.map(type => `link show type ${type}`)) }, signal);
    if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    return result.stdout;
  };

  const devices = async (signal: AbortSignal): Promise<ReadonlyMap<string, Device>> => {
    const shown = devicesOf(await show(TYPES, signal));
    return new Map(shown.filter(({ link }) => owns(link.name, link.type)).map(device => [device.link.name, device]));
  };

  const read = async (expected: ReadonlyMap<string, Link>, signal: AbortSignal): Promise<ReadonlyMap<string, Link>> => {
    const there = await devices(signal);
    const unwanted = [...there.values()].filter(({ link }) => !expected.has(link.name));
    const inUse = await inUseAmong(unwanted, signal);
    const found = new Map<string, Link>();
    for (const [name, { link, isAsMade }] of there) {
      const known = expected.get(name);
      if (known === undefined ? !inUse.has(name) : isAsMade) {
        found.set(name, known !== undefined && sameLink(link, known) ? known : link);
      }
    }
    return found;
  };

  /** Of these, the bridges that have ports. Asked only where there is a bridge to ask about. */
  const inUseAmong = async (of: readonly Device[], signal: AbortSignal): Promise<ReadonlySet<string>> =>
    of.some(({ link }) => link.type === 'bridge') ? bridgesInUse(await show(['bridge_slave'], signal)) : new Set();

  /** By which link packets to each of these addresses leave now; none for those without a route. */
  const waysTo = async (remotes: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, string>> => {
    if (remotes.length === 0) return new Map();
    const stdin = textOf(remotes.map(remote => `route get ${remote}`));
    // Without -force ip would end at the first that has no route.
    const { stdout } = await runner.run({ argv: ['ip', '-o', '-force', '-batch', '-'], stdin }, signal);
    return new Map([...stdout.matchAll(/^(\S+) .*?\bdev (\S+) /gm)].map(([, remote = '', link = '']) => [remote, link]));
  };

  const attempt = async (
    changes: readonly Change<Link>[],
    twins: 'stay' | 'go first',
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, FairwayError>> => {
    const there = await devices(signal);
    const twinFor = (change: Change<Link>): Tunnel | undefined =>
      change.op === 'create' && !there.has(change.key) ? twinOf(change.to, there) : undefined;
    const remotes = twins === 'stay' ? changes.flatMap(change => twinFor(change)?.remote ?? []) : [];
    const ways = await waysTo(remotes, signal);
    const doomed = changes.flatMap(change => (change.op === 'delete' ? (there.get(change.key) ?? []) : []));
    const inUse = await inUseAmong(doomed, signal);
    const linesOf = (change: Change<Link>): BatchLines => {
      if (change.op === 'delete' && inUse.has(change.key)) return [];
      const twin = twinFor(change);
      const room = twin === undefined ? [] : [roomFor(twin, ways.get(twin.remote))];
      return [...room, ...linesFrom(there.get(change.key), change)];
    };
    const due = changes.filter(change => linesOf(change).length > 0);
    const wanted = new Map(due.flatMap(change => (change.op === 'delete' ? [] : [[change.key, change.to] as const])));
    const readAnew = (): Promise<ReadonlyMap<string, Link>> => read(wanted, signal);
    const { failed } = await applyBatch({ runner, linesOf, nameOf, remedyOf, isDone, read: readAnew }, due, signal);
    return failed;
  };

  return {
    read,
    /** How a link is brought to what is wanted is a matter of what is there at that moment, so that is looked at first. */
    async apply(changes, signal) {
      const { usable, failed } = withUsableLinks(changes, link => link.name);
      if (usable.length === 0) return { failed };
      try {
        const first = await attempt(usable, 'stay', signal);
        const refusedFor = (isWhy: (link: Link, said: string) => boolean): readonly Change<Link>[] =>
          usable.filter(change => change.op !== 'delete' && isWhy(change.to, first.get(change.key)?.message ?? ''));
        const lacking = refusedFor(lacksModule);
        const again = [...lacking, ...refusedFor((_, said) => said.includes('File exists'))];
        for (const [key, error] of first) failed.set(key, error);
        if (again.length === 0) return { failed };
        const modules = lacking.flatMap(change => (change.op === 'delete' ? [] : MODULES[change.to.type]));
        if (modules.length > 0) await loadModules(runner, modules, signal);
        const second = await attempt(again, 'go first', signal);
        for (const { key } of again) failed.delete(key);
        for (const [key, error] of second) failed.set(key, error);
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        for (const { key } of usable) if (!failed.has(key)) failed.set(key, thrown);
      }
      return { failed };
    },
    render: changes =>
      textOf(
        changes.flatMap(change => linesFrom(change.op === 'create' ? undefined : { link: change.from, isAsMade: true }, change)),
      ),
  };
}

const TYPES: readonly Link['type'][] = ['dummy', 'bridge', 'ipip', 'ip6tnl', 'vxlan'];

/** Modules that make the type known; for tunnels also those of GUE around them. */
export const MODULES: Readonly<Record<Link['type'], readonly string[]>> = {
  dummy: ['dummy'],
  bridge: ['bridge'],
  ipip: ['ipip', 'fou'],
  ip6tnl: ['ip6_tunnel', 'fou6'],
  vxlan: ['vxlan'],
};

/** Whether the kernel said so because a module is missing; that of GUE it calls an invalid argument. */
function lacksModule(link: Link, said: string): boolean {
  return /Unknown device type|not supported/.test(said) || (hasGue(link) && said.includes('Invalid argument'));
}

function hasGue(link: Link): boolean {
  return (link.type === 'ipip' || link.type === 'ip6tnl') && link.guePort !== undefined;
}

function nameOf({ name }: Link): string {
  return `link '${name}'`;
}

function isDone(change: Change<Link>, found: ReadonlyMap<string, Link>): boolean {
  const there = found.get(change.key);
  if (change.op === 'delete') return there === undefined;
  return there !== undefined && sameLink(there, change.to);
}

function remedyOf(link: Link, reason: string): string | undefined {
  if (lacksModule(link, reason)) {
    const [module] = MODULES[link.type];
    return hasGue(link)
      ? `the kernel lacks GUE tunnels: 'modprobe -a ${MODULES[link.type].join(' ')}', or CONFIG_NET_FOU_IP_TUNNELS and CONFIG_IPV6_FOU_TUNNEL`
      : `the kernel lacks the ${module} module`;
  }
  if (link.type === 'vxlan' && reason.includes('Address already in use')) {
    return `another program or VXLAN link has UDP port ${link.port}: see 'ss -lun', or choose another with --overlay-encap-port`;
  }
  if ((link.type === 'ipip' || link.type === 'ip6tnl') && reason === 'File exists') {
    return `a link of that name is there, or another tunnel from ${link.local} to ${link.remote}: rename or delete it`;
  }
  return undefined;
}

type Tunnel = Extract<Link, { type: 'ipip' | 'ip6tnl' }>;

/** A tunnel of ours by another name (kube-router's) to the same node: the kernel has one between two addresses and by one link. */
function twinOf(link: Link, there: ReadonlyMap<string, Device>): Tunnel | undefined {
  if (link.type !== 'ipip' && link.type !== 'ip6tnl') return undefined;
  for (const { link: other } of there.values()) {
    if (other.type === link.type && other.local === link.local && other.remote === link.remote) return other;
  }
  return undefined;
}

/**
 * Makes room for a tunnel between the same addresses. Tied to the link that its packets leave by anyhow, the twin goes on working beside ours, and goes as
 * any tunnel that is not wanted: when routes lead by ours. Where there is no such link nothing can be lost.
 */
function roomFor({ name, type, local, remote }: Tunnel, link: string | undefined): string {
  return link === undefined || link === name
    ? `link delete dev ${name}`
    : `link change dev ${name} type ${type} local ${local} remote ${remote} dev ${link}`;
}

/** The lines that lead from what is there to what the change asks for. */
function linesFrom(there: Device | undefined, change: Change<Link>): BatchLines {
  if (change.op === 'delete') return there === undefined ? [] : [`link delete dev ${there.link.name}`];
  const { to } = change;
  if (there === undefined) return additionOf(to);
  return alterationOf(there, to) ?? [`link delete dev ${to.name}`, ...additionOf(to)];
}

/** `up` on a line of its own, after all else is settled. */
function additionOf(link: Link): BatchLines {
  const { name } = link;
  switch (link.type) {
    case 'dummy':
      return [`link add dev ${name} type dummy`, `link set dev ${name} up`];
    case 'bridge':
      // An MTU that is given with `add` lasts until the first port.
      return [`link add dev ${name} type bridge`, `link set dev ${name}${mtuOf(link)} up`];
    case 'ipip':
    case 'ip6tnl':
      return [`link add dev ${name}${mtuOf(link)} ${tunnelOf(link)}`, `link set dev ${name} up`];
    case 'vxlan':
      return [`link add dev ${name}${mtuOf(link)} type vxlan external gpe dstport ${link.port}`, `link set dev ${name} up`];
  }
}

/** In place, or undefined where the kernel cannot: not to another type, and nothing of VXLAN but its MTU. */
function alterationOf({ link, isAsMade }: Device, to: Link): BatchLines | undefined {
  if (link.type !== to.type) return undefined;
  const { name } = to;
  switch (to.type) {
    case 'dummy':
      return [`link set dev ${name} up`];
    case 'bridge':
      return [`link set dev ${name}${mtuOf(to)} up`];
    case 'ipip':
    case 'ip6tnl':
      return [`link change dev ${name}${mtuOf(to)} ${tunnelOf(to)}`, `link set dev ${name} up`];
    case 'vxlan':
      return isAsMade && link.type === 'vxlan' && link.port === to.port ? [`link set dev ${name}${mtuOf(to)} up`] : undefined;
  }
}

function mtuOf({ mtu }: { readonly mtu: number | undefined }): string {
  return mtu === undefined ? '' : ` mtu ${mtu}`;
}

/** With GUE as kube-router has it: source ports by flow, UDP checksums over IPv6 alone (there the kernel takes none without). */
function tunnelOf({ type, local, remote, guePort }: Tunnel): string {
  const kind = type === 'ipip' ? 'mode ipip' : 'mode ip6ip6';
  const how = type === 'ipip' ? `ttl ${TUNNEL_TTL}` : `hoplimit ${TUNNEL_TTL} encaplimit none`;
  const csum = type === 'ipip' ? 'noencap-csum' : 'encap-udp6-csum';
  const encap = guePort === undefined ? 'encap none' : `encap gue encap-sport auto encap-dport ${guePort} ${csum}`;
  return `type ${type} ${kind} local ${local} remote ${remote} ${how} ${encap}`;
}
