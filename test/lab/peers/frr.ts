/** Debian's FRRouting as a peer: bgpd with zebra, so that next hops are resolved and best paths reach the kernel, several of them too. */
import type { Lab } from '../lab.ts';
import { FAMILIES, type Family } from '../objects.ts';
import type { LabProcess } from '../process.ts';
import { until } from '../until.ts';
import {
  BGP_PORT,
  byFamily,
  HOLD_SECONDS,
  NODE_ASN,
  type Peer,
  type PeerNeighbor,
  type PeerOptions,
  type PeerPath,
  type PeerSession,
} from './peer.ts';

const FOLDER = '/run/frr';
const DAEMONS = '/usr/lib/frr';

/** What `show bgp neighbors json` tells of one, as far as tests ask. */
export interface FrrNeighbor {
  readonly remoteAs: number;
  readonly bgpState: string;
  readonly bgpTimerHoldTimeMsecs: number;
  readonly connectionsEstablished: number;
  readonly addressFamilyInfo: Readonly<Record<string, { readonly acceptedPrefixCounter: number }>>;
  readonly neighborCapabilities?: Readonly<Record<string, unknown>>;
  readonly gracefulRestartInfo?: {
    readonly remoteGrMode: string;
    /** Restart State of its last OPEN. */
    readonly rBit: boolean;
    readonly timers: { readonly receivedRestartTimer: number };
  };
  readonly hostLocal: string;
  readonly portLocal: number;
  /** 1 with TCP MD5. */
  readonly authenticationEnabled?: number;
}

interface FrrPath {
  readonly stale?: boolean;
  readonly peer: { readonly peerId: string };
  readonly nexthops: readonly { readonly ip: string; readonly scope?: string; readonly used?: boolean }[];
  readonly aspath: { readonly segments: readonly { readonly list: readonly number[] }[] };
  readonly community?: { readonly list: readonly string[] };
  readonly largeCommunity?: unknown;
  readonly extendedCommunity?: unknown;
}

export class FrrPeer implements Peer {
  readonly options: PeerOptions;
  readonly #lab: Lab;
  #daemons: readonly LabProcess[] = [];

  private constructor(lab: Lab, options: PeerOptions) {
    this.#lab = lab;
    this.options = options;
  }

  /** Resolves when it answers. */
  static async start(lab: Lab, options: PeerOptions): Promise<FrrPeer> {
    const peer = new FrrPeer(lab, options);
    const { host, port = BGP_PORT } = options;
    await lab.writeFile(host, `${FOLDER}/zebra.conf`, zebraConfig());
    await lab.writeFile(host, `${FOLDER}/bgpd.conf`, bgpdConfig(options));
    // They give up root for it before they make their sockets.
    await lab.expectRun(host, ['chown', 'frr:frr', FOLDER]);
    await peer.#start('zebra', []);
    await peer.#start('bgpd', ['-p', String(port)]);
    return peer;
  }

  /** Commands of vtysh(1) in turn; what they print. */
  async ask(...commands: readonly string[]): Promise<string> {
    const argv = ['vtysh', '--vty_socket', FOLDER, ...commands.flatMap(command => ['-c', command])];
    return await this.#lab.expectRun(this.options.host, argv);
  }

  async neighbors(): Promise<Readonly<Record<string, FrrNeighbor>>> {
    return JSON.parse(await this.ask('show bgp neighbors json')) as Record<string, FrrNeighbor>;
  }

  async neighbor(address: string): Promise<FrrNeighbor> {
    const found = (await this.neighbors())[address];
    if (found === undefined) throw new Error(`FRR on ${this.options.host.name} knows no neighbor ${address}`);
    return found;
  }

  async sessions(): Promise<ReadonlyMap<string, PeerSession>> {
    return new Map(
      Object.entries(await this.neighbors()).map(([address, { bgpState, connectionsEstablished }]) => [
        address,
        { isEstablished: bgpState === 'Established', incarnation: String(connectionsEstablished) },
      ]),
    );
  }

  async paths(family: Family, about = ''): Promise<readonly PeerPath[]> {
    const table = `show bgp ${family} unicast`;
    const { routes } = JSON.parse(await this.ask(`${table} json`)) as { routes: Record<string, unknown> };
    const prefixes = Object.keys(routes).filter(prefix => prefix.startsWith(about));
    if (prefixes.length === 0) return [];
    const details = await this.ask(...prefixes.map(prefix => `${table} ${prefix} json`));
    return documentsOf(details).flatMap(document => pathsOf(document as { prefix?: string; paths?: readonly FrrPath[] }));
  }

  async announce(...prefixes: readonly string[]): Promise<void> {
    await this.#network('network', prefixes);
  }

  async withdraw(...prefixes: readonly string[]): Promise<void> {
    await this.#network('no network', prefixes);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#daemons.map(daemon => daemon.stop()));
  }

  async #network(verb: string, prefixes: readonly string[]): Promise<void> {
    const lines = byFamily(prefixes).flatMap(([family, some]) =>
      some.length === 0
        ? []
        : [`address-family ${family} unicast`, ...some.map(prefix => `${verb} ${prefix}`), 'exit-address-family'],
    );
    await this.ask('configure terminal', `router bgp ${this.options.asn}`, ...lines);
  }

  async #start(name: 'zebra' | 'bgpd', further: readonly string[]): Promise<void> {
    const { host } = this.options;
    const argv = [
      `${DAEMONS}/${name}`,
      ...['-f', `${FOLDER}/${name}.conf`, '-i', `${FOLDER}/${name}.pid`, '-z', `${FOLDER}/zserv.api`],
      ...['--vty_socket', FOLDER, '-P', '0', ...further],
    ];
    this.#daemons = [...this.#daemons, this.#lab.startDaemon(host, argv)];
    await until(
      `${name} answers on ${host.name}`,
      async () => await this.#lab.run(host, ['vtysh', '--vty_socket', FOLDER, '-d', name, '-c', 'show version']),
      ({ status }) => status === 0,
    );
  }
}

function zebraConfig(): string {
  return ['log stdout', 'ip nht resolve-via-default', 'ipv6 nht resolve-via-default', ''].join('\n');
}

function bgpdConfig({ asn, host, neighbors, announces = [] }: PeerOptions): string {
  const ofFamily = new Map(byFamily(announces));
  const neighborLines = neighbors.flatMap(neighborConfig);
  const familyLines = FAMILIES.flatMap(family => [
    ` address-family ${family} unicast`,
    '  maximum-paths 8',
    ...neighbors.map(({ address }) => `  neighbor ${address} activate`),
    ...(ofFamily.get(family) ?? []).map(prefix => `  network ${prefix}`),
    ' exit-address-family',
  ]);
  return [
    'log stdout',
    `router bgp ${asn}`,
    ` bgp router-id ${host.addresses.ipv4}`,
    // Both are FRR's care for the public Internet: nothing to or from an external peer without a policy; nothing announced that is no route.
    ' no bgp ebgp-requires-policy',
    ' no bgp network import-check',
    ...neighborLines,
    ...familyLines,
    '',
  ].join('\n');
}

function neighborConfig(neighbor: PeerNeighbor): readonly string[] {
  const { address, asn = NODE_ASN, password, multihopTtl, callsOn, holdSeconds = HOLD_SECONDS } = neighbor;
  return [
    ` neighbor ${address} remote-as ${asn}`,
    ` neighbor ${address} timers ${Math.floor(holdSeconds / 3)} ${holdSeconds}`,
    ...(callsOn === undefined
      ? [` neighbor ${address} passive`]
      : [` neighbor ${address} port ${callsOn}`, ` neighbor ${address} timers connect 1`]),
    ...(password === undefined ? [] : [` neighbor ${address} password ${password}`]),
    ...(multihopTtl === undefined ? [] : [` neighbor ${address} ebgp-multihop ${multihopTtl}`]),
  ];
}

/** vtysh prints the answers one after the other. */
function documentsOf(text: string): readonly unknown[] {
  return text
    .split(/^(?=\{)/m)
    .filter(part => part.trim() !== '')
    .map(part => JSON.parse(part) as unknown);
}

function pathsOf({ prefix = '', paths = [] }: { prefix?: string; paths?: readonly FrrPath[] }): readonly PeerPath[] {
  return paths
    .filter(({ peer }) => !/^(0\.0\.0\.0|::)$/.test(peer.peerId))
    .map(path => ({
      prefix,
      from: path.peer.peerId,
      nextHop: (path.nexthops.find(({ scope }) => scope !== 'link-local') ?? path.nexthops[0])?.ip ?? '',
      asPath: path.aspath.segments.flatMap(({ list }) => list),
      communities: path.community?.list ?? [],
      isStale: path.stale === true,
    }));
}
