/** Debian's BIRD 2 as a peer. Its answers are text for people; what tests ask of them is read here. */
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

const FOLDER = '/run/bird';
const CONTROL = `${FOLDER}/bird.ctl`;
const CONFIG = `${FOLDER}/bird.conf`;

/** A path with all attributes that it came with, as `BGP.NAME` by name. */
export interface BirdPath extends PeerPath {
  readonly attributes: ReadonlyMap<string, string>;
}

export class BirdPeer implements Peer {
  readonly options: PeerOptions;
  readonly #lab: Lab;
  readonly #announced: Set<string>;
  #daemon: LabProcess | undefined;

  private constructor(lab: Lab, options: PeerOptions) {
    this.#lab = lab;
    this.options = options;
    this.#announced = new Set(options.announces);
  }

  /** Resolves when it answers. */
  static async start(lab: Lab, options: PeerOptions): Promise<BirdPeer> {
    const peer = new BirdPeer(lab, options);
    await peer.#configure();
    peer.#daemon = lab.startDaemon(options.host, ['bird', '-f', '-c', CONFIG, '-s', CONTROL, '-P', `${FOLDER}/bird.pid`]);
    await until(
      `BIRD answers on ${options.host.name}`,
      async () => await lab.run(options.host, ['birdc', '-s', CONTROL, 'show', 'status']),
      ({ status }) => status === 0,
    );
    return peer;
  }

  /** A command of birdc(8); what it prints. */
  async ask(command: string): Promise<string> {
    return await this.#lab.expectRun(this.options.host, ['birdc', '-s', CONTROL, ...command.split(' ')]);
  }

  async sessions(): Promise<ReadonlyMap<string, PeerSession>> {
    const text = await this.ask('show protocols all');
    const parts = text.split(/\n(?=\S)/).filter(part => /^\S+\s+BGP\s/.test(part));
    return new Map(
      parts.map(part => {
        const address = /Neighbor address: (\S+)/.exec(part)?.[1] ?? '';
        const [, since = ''] = /^\S+\s+BGP\s+\S+\s+\S+\s+(\S+ \S+ \S+)/.exec(part) ?? [];
        return [address, { isEstablished: /BGP state: +Established/.test(part), incarnation: since }];
      }),
    );
  }

  async paths(family: Family, about = ''): Promise<readonly BirdPath[]> {
    const text = await this.ask(`show route table ${TABLES[family]} all`);
    return pathsOf(text, this.options.neighbors).filter(({ prefix }) => prefix.startsWith(about));
  }

  async announce(...prefixes: readonly string[]): Promise<void> {
    for (const prefix of prefixes) this.#announced.add(prefix);
    await this.#configure();
    await this.ask('configure');
  }

  async withdraw(...prefixes: readonly string[]): Promise<void> {
    for (const prefix of prefixes) this.#announced.delete(prefix);
    await this.#configure();
    await this.ask('configure');
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
  }

  async #configure(): Promise<void> {
    await this.#lab.writeFile(this.options.host, CONFIG, configText(this.options, [...this.#announced]));
  }
}

const TABLES: Readonly<Record<Family, string>> = { ipv4: 'master4', ipv6: 'master6' };

function configText(options: PeerOptions, announced: readonly string[]): string {
  const statics = byFamily(announced).map(([family, prefixes]) =>
    block(`protocol static fixed_${family}`, [`${family};`, ...prefixes.map(prefix => `route ${prefix} blackhole;`)]),
  );
  const kernels = FAMILIES.map(family =>
    block(`protocol kernel kernel_${family}`, [
      `${family} { import none; export filter { if source = RTS_BGP then accept; reject; }; };`,
      'merge paths on limit 8;',
    ]),
  );
  return [
    `router id ${options.host.addresses.ipv4};`,
    'timeformat protocol "%F %T %3f";',
    'protocol device {}',
    ...kernels,
    ...statics,
    ...options.neighbors.map((neighbor, index) => neighborText(options, neighbor, index)),
    '',
  ].join('\n');
}

function neighborText({ asn, port = BGP_PORT }: PeerOptions, neighbor: PeerNeighbor, index: number): string {
  const { address, asn: nodeAsn = NODE_ASN, password, multihopTtl, callsOn, holdSeconds = HOLD_SECONDS } = neighbor;
  return block(`protocol bgp ${nameOf(index)}`, [
    `local port ${port} as ${asn};`,
    `neighbor ${address} port ${callsOn ?? BGP_PORT} as ${nodeAsn};`,
    callsOn === undefined ? 'passive on;' : 'connect delay time 1; connect retry time 1;',
    `hold time ${holdSeconds};`,
    ...(password === undefined ? [] : [`password "${password}";`]),
    multihopTtl === undefined ? 'direct;' : `multihop ${multihopTtl};`,
    ...FAMILIES.map(
      family => `${family} { import all; export filter { if source = RTS_STATIC then accept; reject; }; next hop self; };`,
    ),
  ]);
}

function block(head: string, lines: readonly string[]): string {
  return [`${head} {`, ...lines.map(line => `  ${line}`), '}'].join('\n');
}

function nameOf(index: number): string {
  return `node_${index}`;
}

/** `10.244.1.0/24 unicast [node_0 ...] * (100) [AS64512i]` begins a path, blanks instead of the prefix a further one to it. */
function pathsOf(text: string, neighbors: readonly PeerNeighbor[]): readonly BirdPath[] {
  const paths: BirdPath[] = [];
  let prefix = '';
  for (const part of text.split(/\n(?=(?:[0-9a-f.:]+\/\d+)? +(?:unicast|blackhole|unreachable|prohibit) \[)/)) {
    const [, given = '', protocol = ''] = /^([0-9a-f.:]+\/\d+)? +\S+ \[(\S+) /.exec(part) ?? [];
    if (given !== '') prefix = given;
    const index = neighbors.findIndex((_, number) => nameOf(number) === protocol);
    if (index === -1) continue;
    const attributes = new Map(
      [...part.matchAll(/^\tBGP\.([^:]+): ?(.*)$/gm)].map(([, name = '', value = '']) => [name, value.trim()] as const),
    );
    paths.push({
      prefix,
      from: neighbors[index]?.address ?? '',
      nextHop: attributes.get('next_hop')?.split(' ')[0] ?? '',
      asPath: (attributes.get('as_path') ?? '').split(' ').filter(Boolean).map(Number),
      communities: [...(attributes.get('community') ?? '').matchAll(/\((\d+),(\d+)\)/g)].map(([, one, two]) => `${one}:${two}`),
      isStale: /\bstale\b/.test(part.split('\n')[0] ?? ''),
      attributes,
    });
  }
  return paths;
}
