/** Address families of GoBGP 3 that we speak of. */
import type { Family } from '../net/address.ts';
import { Family_Afi, Family_Safi, type Family as GobgpFamily } from './proto/gobgp.ts';

export function familyToApi(family: Family): GobgpFamily {
  return { afi: family === 'ipv4' ? Family_Afi.AFI_IP : Family_Afi.AFI_IP6, safi: Family_Safi.SAFI_UNICAST };
}

/** Undefined for one that is not ours. */
export function familyOfApi(family: GobgpFamily | undefined): Family | undefined {
  if (family?.safi !== Family_Safi.SAFI_UNICAST) return undefined;
  if (family.afi === Family_Afi.AFI_IP) return 'ipv4';
  return family.afi === Family_Afi.AFI_IP6 ? 'ipv6' : undefined;
}
