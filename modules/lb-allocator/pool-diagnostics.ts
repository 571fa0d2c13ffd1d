/** What is told of the pools themselves. */
import { type AddressPools, keyOf } from '../../daemon/cluster/kinds.ts';
import { addressOfNumber, formatAddressRange } from '../../daemon/net/address-range.ts';
import type { Fragment, ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { Overlap, Pools } from './pools.ts';

const MODULE: ObjectRef = { kind: 'Module', key: 'lb-allocator/pools', since: 0 };

/** Neither flag is given. */
export function noPoolsFragment(): Fragment {
  const message =
    'there is no pool to hand out addresses of: give --loadbalancer-ip-range or --loadbalancer-pools. Services keep the addresses that they have from us.';
  return { owner: MODULE, entries: [], diagnostics: [{ code: 'FW_LB_POOL', object: MODULE, message }] };
}

/** About the object that holds the named pools, or the module where it is the flag's pool alone. Undefined where all is well. */
export function poolsFragment(pools: Pools, configured: AddressPools | undefined): Fragment | undefined {
  const messages = [
    ...pools.overlaps.map(overlapMessage),
    ...pools.all
      .filter(({ free }) => free.size === 0)
      .map(
        ({ definition: { name } }) =>
          `pool ${name} has no address to hand out: all are of earlier pools. Give it a range of its own, or remove it.`,
      ),
    ...(pools.areAllKnown
      ? []
      : [
          'not all named pools are known, since what holds them is missing or cannot be read; Services keep the addresses that may be of those.',
        ]),
  ];
  if (messages.length === 0) return undefined;
  const owner: ObjectRef =
    configured === undefined
      ? MODULE
      : { kind: 'ConfigMap', key: keyOf(configured.meta), since: configured.meta.creationTimestamp };
  const subject = configured === undefined ? '--loadbalancer-pools' : `pools of ${keyOf(configured.meta)}`;
  return {
    owner,
    entries: [],
    diagnostics: messages.map(message => ({ code: 'FW_LB_POOL', object: owner, message: `${subject}: ${message}` })),
  };
}

function overlapMessage({ first, second, family, addresses }: Overlap): string {
  const text = formatAddressRange({
    first: addressOfNumber(addresses.first, family),
    last: addressOfNumber(addresses.last, family),
    prefix: undefined,
  });
  return `pools ${first.name} and ${second.name} overlap in ${text}; these addresses belong to ${first.name}. Take them out of one of the two.`;
}
