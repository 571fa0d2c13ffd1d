/** What Services and pools are told. */
import { quoted } from '../../daemon/cluster/raw-object.ts';
import type { Family, IpAddress } from '../../daemon/net/address.ts';
import type { Diagnostic, DiagnosticCode } from '../../daemon/reconcile/fragment.ts';
import type { Failure } from './allocate.ts';
import type { Claimant } from './claimant.ts';
import type { Judgement } from './ledger.ts';
import type { Pool } from './pools.ts';

/** Why a Service does not get what it asks for, whatever is free. */
export type Refusal =
  | { readonly why: 'request'; readonly trouble: string }
  | { readonly why: 'other family'; readonly address: IpAddress; readonly families: readonly Family[] }
  | { readonly why: 'unknown pool'; readonly names: readonly string[] }
  | { readonly why: 'closed pool'; readonly pool: Pool }
  | { readonly why: 'outside'; readonly address: IpAddress; readonly pools: readonly Pool[] }
  | { readonly why: 'closed address'; readonly address: IpAddress; readonly pool: Pool }
  | { readonly why: 'other pool'; readonly address: IpAddress; readonly pool: Pool }
  | { readonly why: 'family'; readonly families: readonly Family[] };

type Told = readonly [code: DiagnosticCode, text: string];

/** All that is told of a Service. `has`: what it has after all. */
export function diagnosticsOf(
  { claimant, lost, atNodes, aim: { refusals }, outcome: { failure } }: Judgement,
  has: readonly IpAddress[],
): readonly Diagnostic[] {
  const told: readonly Told[] = [
    ...statusTold(claimant),
    ...[...lost].map(([address, winner]): Told => conflictTold(address, winner)),
    ...[...atNodes].map(([address, node]): Told => atNodeTold(address, node)),
    ...refusals.map(refusal => refusalTold(claimant, refusal, keeping(has))),
    ...(failure === undefined ? [] : [failureTold(claimant, failure, keeping(has))]),
  ];
  return told.map(([code, text]) => ({ code, object: claimant.owner, message: `${claimant.name}: ${text}` }));
}

function statusTold({ wish, holdings, pending, service }: Claimant): readonly Told[] {
  const told: Told[] = [];
  if (pending?.trouble !== undefined) told.push(['FW_LB_STATUS', pending.trouble]);
  if (wish === undefined) return told;
  const { foreign, outside } = holdings;
  const { writtenBy = '', ingressHostnames = [] } = service.loadBalancer ?? {};
  const writer = writtenBy === '' ? 'another controller' : writtenBy;
  const remedy =
    'If no other controller is to serve it, remove them from status.loadBalancer; if one is, name its class in spec.loadBalancerClass.';
  if (foreign.length > 0)
    told.push([
      'FW_LB_STATUS',
      `its status has ${foreign.join(', ')}, written by ${writer} and in no pool that may serve it; they stay, and it gets no further addresses. ${remedy}`,
    ]);
  if (ingressHostnames.length > 0)
    told.push([
      'FW_LB_STATUS',
      `its status has ${ingressHostnames.join(', ')}, which is never ours; host names stay beside our addresses. ${remedy}`,
    ]);
  for (const address of outside)
    told.push([
      'FW_LB_OUTSIDE',
      `it has ${address}, which is in no pool that may serve it (any more); that address is taken back, and another given where one is free.`,
    ]);
  return told;
}

function conflictTold(address: IpAddress, winner: string): Told {
  return [
    'FW_LB_CONFLICT',
    `${address} is ${winner}'s as well, which has the better right to it; this Service must leave it. To share it, give both the same fairway.dev/lb-share, and different ports.`,
  ];
}

function atNodeTold(address: IpAddress, node: string): Told {
  return [
    'FW_LB_CONFLICT',
    `${address} is an address of ${node} as well, and one of the two does not get its packets. Give the Node another address, or take this one out of its pool.`,
  ];
}

function refusalTold({ wish, service }: Claimant, refusal: Refusal, kept: string): Told {
  const { addressSource = '', pool = '', poolSource = '' } = wish?.request ?? {};
  switch (refusal.why) {
    case 'request':
      return ['FW_LB_REQUEST', `${refusal.trouble}. ${kept}`];
    case 'other family':
      return [
        'FW_LB_REQUEST',
        `${addressSource} asks for ${refusal.address}, and the Service is of family ${titles(refusal.families)} only; correct the request, or spec.ipFamilies and ipFamilyPolicy. ${kept}`,
      ];
    case 'unknown pool':
      return [
        'FW_LB_REQUEST',
        `${poolSource} asks for pool ${quoted(pool)}, and there is none of that name; there ${refusal.names.length === 0 ? 'are none at all' : `are ${refusal.names.join(', ')}`}. ${kept}`,
      ];
    case 'closed pool':
      return [
        'FW_LB_OUTSIDE',
        `${poolSource} asks for pool ${pool}, which does not serve it: ${whom(refusal.pool)}. Ask for another pool, or widen that one. ${kept}`,
      ];
    case 'outside':
      return [
        'FW_LB_OUTSIDE',
        `${addressSource} asks for ${refusal.address}, which is in no pool; ${servedBy(refusal.pools)}. Ask for an address of a pool, or add it to one. ${kept}`,
      ];
    case 'closed address':
      return [
        'FW_LB_OUTSIDE',
        `${addressSource} asks for ${refusal.address} of pool ${refusal.pool.definition.name}, which does not serve it: ${whom(refusal.pool)}. ${kept}`,
      ];
    case 'other pool':
      return [
        'FW_LB_OUTSIDE',
        `${addressSource} asks for ${refusal.address}, which is of pool ${refusal.pool.definition.name}, and ${poolSource} for pool ${pool}; remove one of them. ${kept}`,
      ];
    case 'family': {
      const policy =
        service.loadBalancer?.ipFamilyPolicy === 'RequireDualStack' ? ' (ipFamilyPolicy: RequireDualStack needs both)' : '';
      const pools = (wish?.serving ?? []).filter(each => pool === '' || each.definition.name === pool);
      const remedy =
        pools.length === 0
          ? 'Give it a pool that serves it: --loadbalancer-ip-range or --loadbalancer-pools'
          : `Add ${titles(refusal.families)} ranges to one, or change spec.ipFamilies`;
      return [
        'FW_LB_FAMILY',
        `no pool gives it ${titles(refusal.families)} addresses${policy}; ${servedBy(pools)}. ${remedy}. ${kept}`,
      ];
    }
  }
}

function failureTold({ wish }: Claimant, failure: Failure, kept: string): Told {
  switch (failure.why) {
    case 'taken': {
      const sharing = failure.couldShare
        ? ', or let both share it: the same fairway.dev/lb-share at both, different ports, and one externalTrafficPolicy'
        : '';
      return [
        'FW_LB_TAKEN',
        `${wish?.request.addressSource ?? ''} asks for ${failure.address}, which ${failure.by} has. Ask for another address${sharing}. ${kept}`,
      ];
    }
    case 'exhausted': {
      const pools = failure.needs.map(
        ({ family, pools: asked }) =>
          `no ${title(family)} address is free in ${asked.map(pool => filled(pool, family)).join(', ')}`,
      );
      return [
        'FW_LB_EXHAUSTED',
        `${pools.join('; ')}. Add a range to one of the pools, or delete Services that need no address. ${kept}`,
      ];
    }
  }
}

/** A pool is exhausted when all are in use: the numbers are equal as long as this is told. */
function filled({ definition, free }: Pool, family: Family): string {
  const size = free.get(family)?.size ?? 0n;
  return `pool ${definition.name} (${size} of ${size} in use)`;
}

function keeping(has: readonly IpAddress[]): string {
  return has.length === 0 ? 'Until then it has no address.' : `Until then it has ${has.join(', ')}.`;
}

function servedBy(pools: readonly Pool[]): string {
  if (pools.length === 0) return 'no pool serves it';
  const names = pools.map(({ definition: { name, autoAssign } }) => (autoAssign ? name : `${name} (only where asked for)`));
  return `it is served by ${names.join(', ')}`;
}

function whom({ definition }: Pool): string {
  const { namespaces, namespaceSelector, serviceSelector, loadBalancerClasses } = definition;
  const parts = [
    ...(namespaces.length === 0 ? [] : [`namespaces ${namespaces.join(', ')}`]),
    ...(namespaceSelector === undefined ? [] : ['namespaces by their labels']),
    ...(serviceSelector === undefined ? [] : ['Services by their labels']),
    loadBalancerClasses.length === 0 ? 'no class in particular' : `class ${loadBalancerClasses.join(', ')}`,
  ];
  return `it is for ${parts.join('; ')}`;
}

function titles(families: readonly Family[]): string {
  return families.map(title).join(' and ');
}

function title(family: Family): string {
  return family === 'ipv4' ? 'IPv4' : 'IPv6';
}
