/**
 * Debian's ExaBGP as a peer: it has no table of its own and does what its process API is told, sense or not. What it hears comes out as lines of
 * JSON, of which its table is kept here.
 */
import type { Lab } from '../lab.ts';
import type { Family } from '../objects.ts';
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

const FOLDER = '/run/exabgp';
const COMMANDS = `${FOLDER}/commands`;
const RELAY = `${FOLDER}/relay.sh`;

/** Its helper process: commands from a fifo go in, events come out on standard error, which nothing else uses. */
const RELAY_SCRIPT = `exec 3<>${COMMANDS}
cat <&3 &
cat >&2
kill $!
`;

/** Prefixes in one command; one of all would be a line of hundreds of kilobytes. */
const PREFIXES_PER_COMMAND = 1000;

interface Update {
  readonly attribute?: {
    readonly 'as-path'?: readonly number[];
    readonly community?: readonly (readonly [number, number])[];
  };
  /** By family, then by next hop. */
  readonly announce?: Readonly<Record<string, Readonly<Record<string, readonly { readonly nlri?: string }[]>>>>;
  readonly withdraw?: Readonly<Record<string, readonly { readonly nlri: string }[]>>;
}

/** Of the two types that tests ask about. */
interface Event {
  readonly type: string;
  readonly neighbor: {
    readonly address: { readonly peer: string };
    readonly state?: string;
    readonly message?: { readonly update?: Update };
  };
}

export class ExabgpPeer implements Peer {
  readonly options: PeerOptions;
  readonly #lab: Lab;
  readonly #sessions = new Map<string, PeerSession>();
  /** By neighbour and prefix. */
  readonly #paths = new Map<string, PeerPath>();
  #answers: readonly string[] = [];
  #daemon: LabProcess | undefined;

  private constructor(lab: Lab, options: PeerOptions) {
    this.#lab = lab;
    this.options = options;
  }

  /** Resolves when it takes commands. */
  static async start(lab: Lab, options: PeerOptions): Promise<ExabgpPeer> {
    const peer = new ExabgpPeer(lab, options);
    const { host } = options;
    await lab.writeFile(host, RELAY, RELAY_SCRIPT);
    await lab.writeFile(host, `${FOLDER}/exabgp.conf`, configText(options));
    await lab.expectRun(host, ['sh', '-c', `test -p ${COMMANDS} || mkfifo ${COMMANDS}`]);
    const settings = { daemon_user: 'root', daemon_drop: 'false', api_cli: 'false', log_level: 'WARNING' };
    await lab.writeFile(host, `${FOLDER}/hosts`, `127.0.0.1 localhost\n${host.addresses.ipv4} ${host.name}.lab ${host.name}\n`);
    // It asks for its own full name at its start, and would wait for a name server that is not there.
    const start = `mount --bind ${FOLDER}/hosts /etc/hosts && exec exabgp ${FOLDER}/exabgp.conf`;
    peer.#daemon = lab.startDaemon(host, ['sh', '-c', start], {
      environment: Object.fromEntries(Object.entries(settings).map(([key, value]) => [`exabgp_${key}`, value])),
      onLine: ({ stream, text }) => {
        if (stream === 'stderr') peer.#take(text);
      },
    });
    await peer.command('version');
    return peer;
  }

  /** Commands of its API, all at once; rejects with LabError where they are not all done within the time (milliseconds). */
  async command(...commands: readonly string[]): Promise<void> {
    const before = this.#answers.length;
    await this.#lab.expectRun(this.options.host, ['tee', COMMANDS], { input: commands.map(command => `${command}\n`).join('') });
    const answers = await until(
      `exabgp on ${this.options.host.name} answers ${commands.length} commands, the first ${commands[0]?.slice(0, 120)}`,
      async () => await Promise.resolve({ answers: this.#answers.slice(before), said: this.#daemon?.lines.slice(-5) }),
      seen => seen.answers.length >= commands.length || seen.answers.includes('error'),
    );
    if (answers.answers.includes('error')) throw new Error(`exabgp refuses one of: ${commands.join('\n').slice(0, 2000)}`);
  }

  async sessions(): Promise<ReadonlyMap<string, PeerSession>> {
    return await Promise.resolve(new Map(this.#sessions));
  }

  async paths(family: Family, about = ''): Promise<readonly PeerPath[]> {
    const isIpv6 = family === 'ipv6';
    const paths = [...this.#paths.values()];
    return await Promise.resolve(paths.filter(({ prefix }) => prefix.includes(':') === isIpv6 && prefix.startsWith(about)));
  }

  async announce(...prefixes: readonly string[]): Promise<void> {
    await this.#say('announce', prefixes);
  }

  async withdraw(...prefixes: readonly string[]): Promise<void> {
    await this.#say('withdraw', prefixes);
  }

  /** Announces one prefix with attributes as its configuration spells them: `next-hop self med 5`. */
  async announceWith(prefix: string, attributes: string): Promise<void> {
    await this.command(`announce route ${prefix} ${attributes}`);
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
  }

  async #say(verb: 'announce' | 'withdraw', prefixes: readonly string[]): Promise<void> {
    const commands: string[] = [];
    for (const [family, some] of byFamily(prefixes)) {
      const nextHop = this.options.host.addresses[family];
      for (let at = 0; at < some.length; at += PREFIXES_PER_COMMAND)
        commands.push(`${verb} attributes next-hop ${nextHop} nlri ${some.slice(at, at + PREFIXES_PER_COMMAND).join(' ')}`);
    }
    await this.command(...commands);
  }

  #take(line: string): void {
    if (line === 'done' || line === 'error') this.#answers = [...this.#answers, line];
    if (!line.startsWith('{')) return;
    // What it quotes of a notification comes as it is.
    const { type, neighbor } = JSON.parse(line.replaceAll(/[\x00-\x1f]/g, ' ')) as Event;
    if (type !== 'state' && type !== 'update') return;
    const { peer } = neighbor.address;
    if (type === 'state') {
      const old = Number(this.#sessions.get(peer)?.incarnation ?? 0);
      const isEstablished = neighbor.state === 'up';
      this.#sessions.set(peer, { isEstablished, incarnation: String(old + (isEstablished ? 1 : 0)) });
      if (!isEstablished) for (const key of this.#paths.keys()) if (key.startsWith(`${peer} `)) this.#paths.delete(key);
    }
    if (neighbor.message?.update !== undefined) this.#update(peer, neighbor.message.update);
  }

  #update(from: string, { attribute = {}, announce = {}, withdraw = {} }: Update): void {
    for (const routes of Object.values(withdraw)) for (const { nlri } of routes) this.#paths.delete(`${from} ${nlri}`);
    for (const byNextHop of Object.values(announce)) {
      for (const [nextHop, routes] of Object.entries(byNextHop)) {
        for (const { nlri: prefix } of routes) {
          // The end of the routes of a family has none (RFC 4724).
          if (prefix === undefined) continue;
          this.#paths.set(`${from} ${prefix}`, {
            prefix,
            from,
            nextHop,
            asPath: attribute['as-path'] ?? [],
            communities: (attribute.community ?? []).map(pair => pair.join(':')),
            isStale: false,
          });
        }
      }
    }
  }
}

function configText(options: PeerOptions): string {
  const { neighbors } = options;
  return [
    `process relay {\n  run /bin/sh ${RELAY};\n  encoder json;\n}`,
    ...neighbors.map(neighbor => neighborText(options, neighbor)),
    '',
  ].join('\n');
}

function neighborText({ asn, host, port = BGP_PORT, announces = [] }: PeerOptions, neighbor: PeerNeighbor): string {
  const { address, asn: nodeAsn = NODE_ASN, password, callsOn, holdSeconds = HOLD_SECONDS } = neighbor;
  const lines = [
    `router-id ${host.addresses.ipv4};`,
    `local-address ${address.includes(':') ? host.addresses.ipv6 : host.addresses.ipv4};`,
    `local-as ${asn};`,
    `peer-as ${nodeAsn};`,
    `hold-time ${holdSeconds};`,
    ...(callsOn === undefined ? ['passive true;', `listen ${port};`] : [`connect ${callsOn};`]),
    ...(password === undefined ? [] : [`md5-password "${password}";`]),
    'family { ipv4 unicast; ipv6 unicast; }',
    'capability { asn4 enable; route-refresh enable; }',
    'api { processes [ relay ]; neighbor-changes; receive { parsed; update; } }',
    // Here the family is said; of a command it is guessed, and 224.0.0.0/4 becomes a route of multicast.
    ...byFamily(announces).map(([family, prefixes]) => {
      const routes = prefixes.map(prefix => `unicast ${prefix} next-hop ${host.addresses[family]};`);
      return `announce { ${family} { ${routes.join(' ')} } }`;
    }),
  ];
  return `neighbor ${address} {\n${lines.map(line => `  ${line}`).join('\n')}\n}`;
}
