/** Which AS numbers a flag may hold. */
import { uint, uintList, type ValueType } from './value-types.ts';

/** AS numbers of external peers. */
export const peerAsns: ValueType<readonly number[]> = uintList(
  isPeerAsn,
  'AS numbers: 1-23455, 23457-63999, 64512-65534, 131072-4294967294',
);

/** Public and private AS numbers a peer may have: RFC 7607 (0), RFC 6793 (23456), RFC 5398 (documentation), RFC 7300 (last ones). */
function isPeerAsn(asn: number): boolean {
  return (
    (asn >= 1 && asn <= 23455) ||
    (asn >= 23457 && asn <= 63999) ||
    (asn >= 64512 && asn <= 65534) ||
    (asn >= 131072 && asn <= 4294967294)
  );
}

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
