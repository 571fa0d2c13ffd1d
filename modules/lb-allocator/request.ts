/** What a Service asks of the allocation: addresses, a pool, company. MetalLB's annotations mean the same as ours. */
import type { Service } from '../../daemon/cluster/kinds.ts';
import { quoted } from '../../daemon/cluster/raw-object.ts';
import { type Family, familyOf, type IpAddress, parseAddress } from '../../daemon/net/address.ts';

export interface Request {
  /** At most one of a family. */
  readonly addresses: ReadonlyMap<Family, IpAddress>;
  /** What asks for them: an annotation or `spec.loadBalancerIP`. */
  readonly addressSource: string;
  /** '' for none in particular. */
  readonly pool: string;
  readonly poolSource: string;
  /** Services with the same key may share an address; '' shares with nobody. */
  readonly shareKey: string;
  /** Why the addresses cannot be used; undefined if they can. */
  readonly trouble: string | undefined;
}

/** The first that is there counts: our own words, MetalLB's, its older ones. */
const ADDRESSES = ['fairway.dev/lb-ips', 'metallb.io/loadBalancerIPs', 'metallb.universe.tf/loadBalancerIPs'] as const;
const POOL = ['fairway.dev/lb-pool', 'metallb.io/address-pool', 'metallb.universe.tf/address-pool'] as const;
const SHARE = ['fairway.dev/lb-share', 'metallb.io/allow-shared-ip', 'metallb.universe.tf/allow-shared-ip'] as const;

/** The field that the annotations took the place of; deprecated since Kubernetes 1.24 and still in use. */
const FIELD = 'spec.loadBalancerIP';

export function requestOf(service: Service): Request {
  const asked = firstOf(service, ADDRESSES) ?? { source: FIELD, text: service.loadBalancer?.loadBalancerIP.trim() ?? '' };
  const pool = firstOf(service, POOL);
  const { addresses, trouble } = readAddresses(asked.text);
  return {
    addresses,
    addressSource: asked.source,
    pool: pool?.text ?? '',
    poolSource: pool?.source ?? '',
    shareKey: firstOf(service, SHARE)?.text ?? '',
    trouble: trouble === undefined ? undefined : `${asked.source} is ${quoted(asked.text)}: ${trouble}`,
  };
}

function firstOf(
  { annotations }: Service,
  names: readonly string[],
): { readonly source: string; readonly text: string } | undefined {
  for (const source of names) {
    const text = annotations[source]?.trim() ?? '';
    if (text !== '') return { source, text };
  }
  return undefined;
}

function readAddresses(text: string): { readonly addresses: Request['addresses']; readonly trouble: string | undefined } {
  const addresses = new Map<Family, IpAddress>();
  if (text === '') return { addresses, trouble: undefined };
  for (const part of text.split(',').map(each => each.trim())) {
    const address = parseAddress(part);
    if (address === undefined)
      return {
        addresses: new Map(),
        trouble: `${quoted(part)} is not an IP address; write one address, or one of each family with a comma`,
      };
    const family = familyOf(address);
    const former = addresses.get(family);
    if (former !== undefined && former !== address)
      return { addresses: new Map(), trouble: `${former} and ${address} are of one family; name one of each at most` };
    addresses.set(family, address);
  }
  return { addresses, trouble: undefined };
}
