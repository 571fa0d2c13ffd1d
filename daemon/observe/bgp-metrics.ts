/** Metrics of BGP sessions, asked of gobgpd at each scrape. */
import { Gauge, type Registry } from 'prom-client';
import type { Clock } from '../net/clock.ts';

export interface BgpMetricsOptions {
  readonly registry: Registry;
  readonly clock: Pick<Clock, 'now'>;
  /** `silent` where gobgpd does not answer in time; undefined where nobody wants to speak BGP. Never rejects. */
  readonly read: () => Promise<Answer>;
}

export interface BgpPicture {
  /** Ours. */
  readonly asn: number;
  readonly peers: readonly {
    readonly address: string;
    readonly asn: number;
    readonly state: string;
    /** Prefixes taken in from it, and told to it. */
    readonly received: number;
    readonly advertised: number;
  }[];
}

type Peer = BgpPicture['peers'][number];
type Answer = BgpPicture | 'silent' | undefined;

/** gobgpd counts what it told every neighbour for each answer: it is left alone for so many times what that took. Of a few neighbours every scrape is fresh. */
const REST = { times: 20, longestMs: 60_000 };

export class BgpMetrics {
  readonly #options: BgpMetricsOptions;
  #reading: Promise<Answer> | undefined;
  /** Until when the last answer is good enough. */
  #isFreshUntil = Number.NEGATIVE_INFINITY;

  constructor(options: BgpMetricsOptions) {
    this.#options = options;
    this.#registerKubeRouters();
    this.#register('fairway_bgp_up', 'Whether gobgpd answers; no value where no BGP is wanted', [], (gauge, picture) =>
      gauge.set(picture === undefined ? 0 : 1),
    );
    const labels = ['address'] as const;
    const ofPeer = (name: string, help: string, value: (peer: Peer) => number): void => {
      this.#register(name, help, labels, (gauge, picture) => {
        for (const peer of picture?.peers ?? []) gauge.set({ address: peer.address }, value(peer));
      });
    };
    ofPeer('fairway_bgp_session_up', 'Whether the session with a neighbour is established', ({ state }) =>
      state === 'established' ? 1 : 0,
    );
    ofPeer('fairway_bgp_received_prefixes', 'Prefixes taken in from a neighbour', ({ received }) => received);
    ofPeer('fairway_bgp_advertised_prefixes', 'Prefixes told to a neighbour', ({ advertised }) => advertised);
  }

  #registerKubeRouters(): void {
    this.#register(
      'kube_router_bgp_peer_info',
      'Always 1: a BGP neighbour, internal or external, with its AS number and the state of its session',
      ['address', 'type', 'asn', 'state'],
      (gauge, picture) => {
        for (const { address, asn, state } of picture?.peers ?? []) {
          const type = asn === picture?.asn ? 'internal' : 'external';
          // In capitals, as GoBGP names the states.
          gauge.set({ address, type, asn, state: state.toUpperCase() }, 1);
        }
      },
    );
    this.#register('kube_router_controller_bgp_peers', 'BGP neighbours', [], (gauge, picture) =>
      gauge.set(picture?.peers.length ?? 0),
    );
  }

  #register<L extends string>(
    name: string,
    help: string,
    labelNames: readonly L[],
    fill: (gauge: Gauge<L>, picture: BgpPicture | undefined) => void,
  ): void {
    const collect = (): Promise<Answer> => this.#collect();
    new Gauge<L>({
      name,
      help,
      labelNames,
      registers: [this.#options.registry],
      async collect() {
        const picture = await collect();
        // What was is not what is; without labels `reset` leaves a 0.
        this.reset();
        if (picture !== undefined) fill(this, picture === 'silent' ? undefined : picture);
        else if (labelNames.length === 0) this.remove();
      },
    });
  }

  /** All gauges of a scrape, and of scrapes that overlap, share one reading. */
  #collect(): Promise<Answer> {
    const { clock, read } = this.#options;
    if (this.#reading !== undefined && clock.now() <= this.#isFreshUntil) return this.#reading;
    const start = clock.now();
    this.#isFreshUntil = Number.POSITIVE_INFINITY;
    this.#reading = read().then(answer => {
      const end = clock.now();
      // Who is silent is asked again at once.
      const rest = typeof answer === 'object' ? Math.min(REST.longestMs, (end - start) * REST.times) : 0;
      this.#isFreshUntil = end + rest;
      return answer;
    });
    return this.#reading;
  }
}
