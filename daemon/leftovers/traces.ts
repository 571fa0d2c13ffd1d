/** What tells the traces of a predecessor on a node from everything else there. Pure. */
import type { Predecessor } from '../config/options-commands.ts';
import type { IpAddress } from '../net/address.ts';

/** A rule as `iptables-save` prints it: `-A CHAIN TEXT`. */
export interface SavedRule {
  readonly table: string;
  readonly chain: string;
  readonly text: string;
}

export interface Traces {
  readonly of: Predecessor;
  /** Whether a chain of that table (`filter`, `nat`, `mangle`) is theirs by its name. */
  isChain(table: string, name: string): boolean;
  /**
   * Chains that rules of others may jump to as well (CNI's portmap can be told to use KUBE-MARK-MASQ), each with what it is of no use without: while
   * somebody does, they stay. All other jumps from built-in chains to chains of theirs are theirs.
   */
  readonly lent: ReadonlyMap<string, readonly string[]>;
  /** A rule in a built-in chain that is theirs, although it jumps to no chain of theirs. `marks` are those of their direct server return. */
  isRule(rule: SavedRule, marks: ReadonlySet<number>): boolean;
  /** Whether a set is theirs by its name, and never ours. */
  isSet(name: string): boolean;
  /** Tables of nftables, as `nft list tables` prints them. */
  readonly nftTables: readonly string[];
  /** The dummy link that their virtual addresses stand on, in modes with IPVS. */
  readonly dummy: string;
  /** TCP port that they answer /healthz at unless told otherwise. */
  readonly healthPort: number;
}

/** Which modules of ours have programmed this node: what they share with kube-router is ours then. */
export interface Ours {
  readonly services: boolean;
  readonly policy: boolean;
  readonly routing: boolean;
}

/** A chain of each module that is there whenever the module is at work. */
const CHAINS: Readonly<Record<keyof Ours, readonly string[]>> = {
  services: ['FAIRWAY-MASQUERADE', 'FAIRWAY-INPUT'],
  policy: ['FAIRWAY-POLICY-FORWARD'],
  routing: ['FAIRWAY-ROUTING'],
};

/** By the chains of ours that are there. */
export function oursBy(chains: ReadonlySet<string>): Ours {
  const has = (module: keyof Ours): boolean => CHAINS[module].some(chain => chains.has(chain));
  return { services: has('services'), policy: has('policy'), routing: has('routing') };
}

/** An address of the host with the link that it stands on. */
export interface StandingAddress {
  readonly link: string;
  readonly address: IpAddress;
}
