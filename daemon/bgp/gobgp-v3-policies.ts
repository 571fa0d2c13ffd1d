/**
 * The policies in force, read and changed. The next version of a policy is made beside the one in force and put in its place by one call, so that at no
 * moment a neighbour is told, or taken at, more than one of the two allows. The earlier version is taken away last: while it is there, what the change
 * means for routes told before is not done yet, and the policy does not count as in force.
 */
import type { BgpPolicy } from '../reconcile/routing-tables.ts';
import type { GobgpCalls } from './gobgp-v3-calls.ts';
import { type ApiPolicy, defaultActionOf, policyOfApi, policyToApi } from './gobgp-v3-policy.ts';
import { withdrawRejected } from './gobgp-v3-withdraw.ts';
import {
  type DefinedSet,
  DefinedType,
  ListDefinedSetRequest,
  Policy,
  PolicyAssignment,
  PolicyDirection,
  ResetPeerRequest,
  ResetPeerRequest_SoftResetDirection,
  RouteAction,
} from './proto/gobgp.ts';

type Direction = BgpPolicy['direction'];

const DIRECTIONS = { import: PolicyDirection.IMPORT, export: PolicyDirection.EXPORT } as const;
const RESETS = { import: ResetPeerRequest_SoftResetDirection.IN, export: ResetPeerRequest_SoftResetDirection.OUT } as const;
const SET_TYPES = [DefinedType.NEIGHBOR, DefinedType.PREFIX, DefinedType.COMMUNITY];

/** All that GoBGP has of a direction. */
interface Found {
  readonly assignment: PolicyAssignment;
  /** Ours of all versions, in force or left over. */
  readonly versions: readonly Policy[];
  readonly sets: readonly DefinedSet[];
}

export class GobgpPolicies {
  readonly #calls: GobgpCalls;

  constructor(calls: GobgpCalls) {
    this.#calls = calls;
  }

  async inForce(direction: Direction, signal: AbortSignal): Promise<BgpPolicy | undefined> {
    const { assignment, versions, sets } = await this.#find(direction, signal);
    const [assigned, ...more] = assignment.policies;
    if (assigned === undefined || more.length > 0 || versions.length !== 1 || versions[0]?.name !== assigned.name)
      return undefined;
    if (assignment.defaultAction !== defaultActionOf(direction)) return undefined;
    return policyOfApi(direction, assigned, sets);
  }

  /** Undefined puts none in force. */
  async change(direction: Direction, next: BgpPolicy | undefined, ownAsn: number, signal: AbortSignal): Promise<void> {
    const found = await this.#find(direction, signal);
    const name = `${prefixOf(direction)}${Math.max(0, ...versionsOf(direction, found)) + 1}`;
    if (next !== undefined) await this.#make(policyToApi(next, name), signal);
    await this.assign(direction, next === undefined ? [] : [name], signal);
    if (direction === 'export') {
      await withdrawRejected(this.#calls, { before: policiesBefore(direction, found), after: next }, ownAsn, signal);
    }
    await this.#reset(direction, signal);
    await this.#remove(found.versions, found.sets, signal);
  }

  async assign(direction: Direction, names: readonly string[], signal: AbortSignal): Promise<void> {
    const assignment = PolicyAssignment.fromPartial({
      name: 'global',
      direction: DIRECTIONS[direction],
      policies: names.map(name => ({ name })),
      defaultAction: defaultActionOf(direction),
    });
    const what = `the ${direction} policy`;
    await this.#calls.unary(what, (api, ...rest) => api.setPolicyAssignment({ assignment }, ...rest), signal);
  }

  async #find(direction: Direction, signal: AbortSignal): Promise<Found> {
    const of = { name: 'global', direction: DIRECTIONS[direction] };
    const assignments = await this.#calls.list('its policies', (api, options) => api.listPolicyAssignment(of, options), signal);
    const policies = await this.#calls.list('its policies', (api, options) => api.listPolicy({ name: '' }, options), signal);
    const sets: DefinedSet[] = [];
    for (const definedType of SET_TYPES) {
      const request = ListDefinedSetRequest.fromPartial({ definedType });
      const answer = await this.#calls.list('its sets', (api, options) => api.listDefinedSet(request, options), signal);
      sets.push(...answer.flatMap(({ definedSet }) => definedSet ?? []));
    }
    const isOurs = ({ name }: { readonly name: string }): boolean => name.startsWith(prefixOf(direction));
    return {
      assignment: assignments[0]?.assignment ?? PolicyAssignment.fromPartial({}),
      versions: policies.flatMap(({ policy }) => policy ?? []).filter(isOurs),
      sets: sets.filter(isOurs),
    };
  }

  async #make({ policy, sets }: ApiPolicy, signal: AbortSignal): Promise<void> {
    try {
      for (const definedSet of sets)
        await this.#calls.unary(definedSet.name, (api, ...rest) => api.addDefinedSet({ definedSet }, ...rest), signal);
      const request = { policy, referExistingStatements: false };
      await this.#calls.unary(policy.name, (api, ...rest) => api.addPolicy(request, ...rest), signal);
    } catch (thrown) {
      // Those that were made: a version that nobody uses would stay.
      for (const set of sets) await this.#removeSet(set, signal).catch(() => undefined);
      throw thrown;
    }
  }

  /** So that it counts for what is known already, on both sides of each session. */
  async #reset(direction: Direction, signal: AbortSignal): Promise<void> {
    const request = ResetPeerRequest.fromPartial({ address: 'all', soft: true, direction: RESETS[direction] });
    await this.#calls.unary('a soft reset', (api, ...rest) => api.resetPeer(request, ...rest), signal);
  }

  async #remove(versions: readonly Policy[], sets: readonly DefinedSet[], signal: AbortSignal): Promise<void> {
    for (const { name } of versions) {
      const request = { policy: Policy.fromPartial({ name }), preserveStatements: false, all: true };
      await this.#calls.unary(name, (api, ...rest) => api.deletePolicy(request, ...rest), signal);
    }
    for (const set of sets) await this.#removeSet(set, signal);
  }

  async #removeSet({ definedType, name }: DefinedSet, signal: AbortSignal): Promise<void> {
    const request = { definedSet: { definedType, name, list: [], prefixes: [] }, all: true };
    await this.#calls.unary(name, (api, ...rest) => api.deleteDefinedSet(request, ...rest), signal);
  }
}

/** Those that may have been in force when neighbours were told what they know: of a policy that is not ours it is taken that it let everything by. */
function policiesBefore(direction: Direction, { assignment, versions, sets }: Found): readonly BgpPolicy[] {
  const everything: BgpPolicy = { direction, statements: [], otherwise: 'accept' };
  const isOurs = new Set(versions.map(({ name }) => name));
  const hasForeign = assignment.policies.some(({ name }) => !isOurs.has(name));
  const tellsByDefault = assignment.policies.length === 0 && assignment.defaultAction !== RouteAction.REJECT;
  if (hasForeign || tellsByDefault) return [everything];
  return versions.map(policy => policyOfApi(direction, policy, sets) ?? everything);
}

function prefixOf(direction: Direction): string {
  return `fairway-${direction}-`;
}

function versionsOf(direction: Direction, { versions, sets }: Found): readonly number[] {
  return [...versions, ...sets].map(({ name }) => Number.parseInt(name.slice(prefixOf(direction).length), 10) || 0);
}
