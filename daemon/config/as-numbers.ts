/** Which AS numbers a flag may hold. */
import { isPeerAsn, PEER_ASNS } from '../net/as-number.ts';
import { uint, uintList, type ValueType } from './value-types.ts';

/** AS numbers of external peers. */
export const peerAsns: ValueType<readonly number[]> = uintList(isPeerAsn, `AS numbers: ${PEER_ASNS}`);

/** The AS number of the cluster: 0, or a private AS number (RFC 6996) with the two boundary values kube-router takes as well. */
export function clusterAsn(): ValueType<number> {
  const expected = 'use 0, 64512 to 65535 or 4200000000 to 4294967294';
  const number = uint(32);
  return {
    ...number,
    label: 'uint',
    parse(value) {
      const parsed = number.parse(value);
      if (!parsed.ok) return { ...parsed, remedy: expected };
      const asn = parsed.value;
      if (asn === 0 || (asn >= 64512 && asn <= 65535) || (asn >= 4200000000 && asn <= 4294967294)) return parsed;
      return { ok: false, problem: 'is not a private AS number', remedy: expected };
    },
  };
}
