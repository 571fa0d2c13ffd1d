/**
 * Who of several nodes has an address: the one with the highest hash of both names (rendezvous hashing: Thaler and Ravishankar, "Using Name-Based Mappings to
 * Increase Hit Rates", 1998). Every node computes it alike from the names alone, in whatever order it knows them. A node that goes moves only the addresses
 * that it had, spread over all others; a node that comes takes its share and moves nothing else.
 *
 * 32 bits suffice: what is equal by chance is decided by name. Nothing is chosen by an enemy here, so that the hash need not be a secure one.
 */

/** FNV-1a (draft-eastlake-fnv), well mixed: names of nodes often differ in their last letter only. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return mixed(hash);
}

export interface Contender {
  readonly name: string;
  /** {@link hashOf} of the name. */
  readonly hash: number;
}

/** `hash`: {@link hashOf} what they contend for. Undefined of nobody. */
export function highest<C extends Contender>(contenders: readonly C[], hash: number): C | undefined {
  let best: C | undefined;
  let bestScore = -1;
  for (const contender of contenders) {
    const score = mixed(hash ^ contender.hash);
    if (score > bestScore || (score === bestScore && best !== undefined && contender.name < best.name)) {
      best = contender;
      bestScore = score;
    }
  }
  return best;
}

/** The finalizer of MurmurHash3: every bit of the number changes half of the bits of the outcome. */
function mixed(number: number): number {
  let hash = number;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
