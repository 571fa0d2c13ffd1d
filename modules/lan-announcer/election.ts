/** Which node answers for an address, decided by every node alike. */
import type { AddressPool, ObjectKey } from '../../daemon/cluster/kinds.ts';
import { type Family, familyOf, type IpAddress } from '../../daemon/net/address.ts';
import { type Announcer, EXCLUSION, STATES } from './announcers.ts';
import { hashOf, highest } from './rendezvous.ts';

/** What one Service wants of an address that it has; others may have it too. */
export interface Candidacy {
  readonly service: ObjectKey;
  /** The nodes with an endpoint, of which it must be one; undefined where any node will do. */
  readonly endpointNodes: readonly string[] | undefined;
  /** Why no node may answer for an address of this Service; undefined where one may. */
  readonly objection: string | undefined;
}

export interface Decision {
  /** Undefined where nobody answers. */
  readonly owner: string | undefined;
  /** Why that is so though it should not be, or why the owner may not serve; undefined where all is well. */
  readonly trouble: string | undefined;
  /** The Services whose endpoints are on other nodes than the owner. */
  readonly missed: readonly ObjectKey[];
  /** One node tells of the trouble, lest a hundred do. */
  readonly teller: string | undefined;
}

/** The nodes that may have addresses of one family and one pool. */
interface Field {
  /** By state, in the order of {@link STATES}. */
  readonly byState: readonly (readonly Announcer[])[];
  /** Why there are none. */
  readonly objection: string | undefined;
}

export class Election {
  readonly #announcers: readonly Announcer[];
  readonly #tellers: readonly Announcer[];
  readonly #nodeAt: ReadonlyMap<IpAddress, string>;
  readonly #fields = new Map<string, Field>();

  constructor(announcers: readonly Announcer[]) {
    this.#announcers = announcers;
    const well = announcers.filter(({ state }) => state === 'well');
    this.#tellers = well.length > 0 ? well : announcers;
    this.#nodeAt = new Map(announcers.flatMap(({ name, addresses }) => addresses.map(address => [address, name])));
  }

  decide(address: IpAddress, pool: AddressPool | undefined, candidacies: readonly Candidacy[]): Decision {
    const hash = hashOf(address);
    const teller = highest(this.#tellers, hash)?.name;
    const nobody = (trouble: string | undefined): Decision => ({ owner: undefined, trouble, missed: NOBODY, teller });
    const node = this.#nodeAt.get(address);
    if (node !== undefined) return nobody(`it is an address of Node ${node}, which answers for it itself; choose another`);
    const objection = candidacies.find(candidacy => candidacy.objection !== undefined)?.objection;
    if (objection !== undefined) return nobody(objection);
    const field = this.#field(familyOf(address), pool);
    if (field.objection !== undefined) return nobody(field.objection);
    const bound = candidacies.filter(({ endpointNodes }) => endpointNodes !== undefined);
    for (const announcers of field.byState) {
      const fit = bound.length === 0 ? announcers : fittest(announcers, bound, candidacies.length > bound.length);
      const owner = highest(fit, hash);
      if (owner === undefined) continue;
      const missed = bound.filter(each => isMissed(each, owner.name)).map(({ service }) => service);
      return { owner: owner.name, trouble: troubleWith(owner), missed, teller };
    }
    return nobody(withoutEndpoint(bound, pool));
  }

  #field(family: Family, pool: AddressPool | undefined): Field {
    const selecting = pool?.nodeSelector === undefined ? undefined : pool;
    const key = `${family} ${selecting?.name ?? ''}`;
    let field = this.#fields.get(key);
    if (field === undefined) {
      field = this.#fieldOf(family, selecting);
      this.#fields.set(key, field);
    }
    return field;
  }

  #fieldOf(family: Family, pool: AddressPool | undefined): Field {
    const ofFamily = this.#announcers.filter(({ families }) => families.includes(family));
    const selected = pool === undefined ? ofFamily : ofFamily.filter(({ pools }) => pools.includes(pool.name));
    const permitted = selected.filter(({ isExcluded }) => !isExcluded);
    const byState = STATES.map(state => permitted.filter(announcer => announcer.state === state));
    if (permitted.length > 0) return { byState, objection: undefined };
    return { byState, objection: whyNone(family, pool, ofFamily, selected) };
  }
}

const NOBODY: readonly never[] = [];

function whyNone(
  family: Family,
  pool: AddressPool | undefined,
  ofFamily: readonly Announcer[],
  selected: readonly Announcer[],
): string {
  const name = family === 'ipv6' ? 'IPv6' : 'IPv4';
  if (ofFamily.length === 0) return `no node has an ${name} address; give nodes one, or the Service an address of another family`;
  if (pool !== undefined && selected.length === 0)
    return `no node with an ${name} address matches the nodeSelector of pool ${pool.name}; label a node, or change the selector`;
  const among = pool === undefined ? '' : ` that matches the nodeSelector of pool ${pool.name}`;
  return `every node${among} has the label ${EXCLUSION}; remove it from one`;
}

/** Those who have endpoints of the most Services. Where some Service is content with any node, none at all will do too. */
function fittest(announcers: readonly Announcer[], bound: readonly Candidacy[], isAnyGood: boolean): readonly Announcer[] {
  let most = isAnyGood ? 0 : 1;
  let fit: Announcer[] = [];
  for (const announcer of announcers) {
    const count = bound.filter(({ endpointNodes }) => endpointNodes?.includes(announcer.name)).length;
    if (count > most) {
      most = count;
      fit = [];
    }
    if (count === most) fit.push(announcer);
  }
  return fit;
}

/** A Service without any endpoint misses nothing. */
function isMissed({ endpointNodes = NOBODY }: Candidacy, owner: string): boolean {
  return endpointNodes.length > 0 && !endpointNodes.some(name => name === owner);
}

/** Nobody behind the address is no trouble: who answered would have nothing to say. */
function withoutEndpoint(bound: readonly Candidacy[], pool: AddressPool | undefined): string | undefined {
  const places = [...new Set(bound.flatMap(({ endpointNodes = NOBODY }) => endpointNodes))].sort();
  if (places.length === 0) return undefined;
  const named = places.length > 3 ? `${places.slice(0, 3).join(', ')} ...` : places.join(', ');
  const why = pool?.nodeSelector === undefined ? '' : ` for pool ${pool.name}`;
  return `its traffic policy is Local, and the nodes with an endpoint (${named}) may not announce it${why}; let them, run an endpoint on a node that may, or set externalTrafficPolicy: Cluster`;
}

function troubleWith({ name, state }: Announcer): string | undefined {
  return state === 'unready'
    ? `no node that may announce it is ready; it is left to ${name}, which answers if it can; see kubectl describe node ${name}`
    : undefined;
}
