/**
 * Who answers for addresses on a LAN, as another host there sees it: asked by ARP and neighbour solicitation on the wire, and overheard. Hosts by
 * their names, whatever their hardware addresses.
 */
import { join } from 'node:path';
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import type { LabProcess } from './process.ts';
import type { Moment } from './watch.ts';

const PROGRAM = ['perl', join(import.meta.dirname, 'traffic', 'neighbours.pl')] as const;

/** What was said on the LAN about who has an address. */
export interface Saying {
  readonly at: Moment;
  readonly what: 'request' | 'reply' | 'solicitation' | 'advertisement';
  /** The host that said it; a hardware address that is no host's as it is. */
  readonly by: string;
  readonly sender: string;
  readonly target: string;
}

export class LanEar {
  readonly #lab: Lab;
  readonly #at: LabHost;
  /** By hardware address. */
  readonly #hosts: ReadonlyMap<string, string>;
  readonly #listening: LabProcess;

  private constructor(lab: Lab, at: LabHost, hosts: ReadonlyMap<string, string>, listening: LabProcess) {
    this.#lab = lab;
    this.#at = at;
    this.#hosts = hosts;
    this.#listening = listening;
  }

  /** At eth0 of a host, about hosts on its LAN. Resolves when it hears. */
  static async open(lab: Lab, at: LabHost, hosts: readonly LabHost[]): Promise<LanEar> {
    const macs = await Promise.all(hosts.map(async host => [await hardwareAddress(lab, host), host.name] as const));
    const listening = lab.startDaemon(at, [...PROGRAM, 'hear']);
    await listening.waitForLine(/^hearing$/, 10_000);
    return new LanEar(lab, at, new Map(macs), listening);
  }

  /**
   * Asks for each address once, as a host asks that has not met it; gives the names of all that answer within the time (milliseconds), each as
   * often as it answers, sorted. An address that nobody answers for has none.
   */
  async whoHas(addresses: readonly string[], waitMs = 500): Promise<ReadonlyMap<string, readonly string[]>> {
    const printed = await this.#lab.expectRun(this.#at, [...PROGRAM, 'ask', String(waitMs), ...addresses]);
    const answers = new Map<string, string[]>(addresses.map(address => [address, []]));
    for (const line of printed.split('\n')) {
      const [address = '', mac = ''] = line.split(' ');
      answers.get(address)?.push(this.#nameOf(mac));
    }
    return new Map([...answers].map(([address, names]) => [address, names.sort()]));
  }

  /** All that was said since a moment, or ever. */
  heard(since: Moment = 0): readonly Saying[] {
    return this.#listening.lines
      .map(({ text }) => text.split(' '))
      .flatMap(([at = '', what = '', mac = '', sender = '', target = '']) =>
        isSaying(what) && Number(at) >= since ? [{ at: Number(at), what, by: this.#nameOf(mac), sender, target }] : [],
      );
  }

  #nameOf(mac: string): string {
    return this.#hosts.get(mac) ?? mac;
  }
}

function isSaying(what: string): what is Saying['what'] {
  return ['request', 'reply', 'solicitation', 'advertisement'].includes(what);
}

async function hardwareAddress(lab: Lab, host: LabHost): Promise<string> {
  const printed = await lab.expectRun(host, ['ip', '-o', 'link', 'show', 'eth0']);
  return /link\/ether (\S+)/.exec(printed)?.[1] ?? '';
}
