/** What is wanted of one Service's status, and what it is told. */
import type { IpAddress } from '../../daemon/net/address.ts';
import { entry, type Fragment } from '../../daemon/reconcile/fragment.ts';
import { diagnosticsOf } from './diagnostics.ts';
import type { Judgement } from './ledger.ts';

/** Undefined where there is nothing to want or to say. */
export function fragmentOf(judgement: Judgement): Fragment | undefined {
  const { owner, service, holdings } = judgement.claimant;
  const addresses = wantedOf(judgement);
  const diagnostics = diagnosticsOf(judgement, addresses);
  const isInvolved = addresses.length > 0 || holdings.found.length > 0;
  if (!isInvolved && diagnostics.length === 0) return undefined;
  const { namespace, name, uid } = service.meta;
  const status = entry('serviceStatus', { namespace, name, uid, addresses, found: holdings.found });
  return { owner, entries: isInvolved ? [status] : [], diagnostics };
}

function wantedOf({ claimant: { wish, holdings }, aim, lost, outcome }: Judgement): readonly IpAddress[] {
  if (wish === undefined) return [];
  const { foreign, found, kept, surplus } = holdings;
  // Only an address that is another Service's, or no pool's any more, is worth a writing beside what another controller wrote.
  if (foreign.length > 0) {
    const stay = new Set([...kept.values(), ...surplus].filter(address => !lost.has(address)));
    return found.filter(address => stay.has(address));
  }
  return wish.families
    .map(family => outcome.granted.get(family) ?? aim.kept.get(family))
    .filter((address): address is IpAddress => address !== undefined);
}

/** It lacks an address that it needs. */
export function isWaiting({ aim: { demand, isStuck, kept }, outcome: { granted } }: Judgement): boolean {
  return isStuck || (demand?.needs.some(({ family }) => !kept.has(family) && !granted.has(family)) ?? false);
}
