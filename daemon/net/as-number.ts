/** Autonomous system numbers, 4 bytes (RFC 6793). */

/** What {@link isPeerAsn} takes, for messages. */
export const PEER_ASNS = '1-23455, 23457-63999, 64512-65534, 131072-4294967294';

/** Public and private AS numbers a peer may have: RFC 7607 (0), RFC 6793 (23456), RFC 5398 (documentation), RFC 7300 (last ones). */
export function isPeerAsn(asn: number): boolean {
  return (
    Number.isInteger(asn) &&
    ((asn >= 1 && asn <= 23455) ||
      (asn >= 23457 && asn <= 63999) ||
      (asn >= 64512 && asn <= 65534) ||
      (asn >= 131072 && asn <= 4294967294))
  );
}

/** An unsigned 32-bit number as Go's `ParseUint` with base 0 reads it: decimal, 0x, 0b, 0o or a leading 0; undefined where the text is none. */
export function parseUint32(text: string): number | undefined {
  const word = text.trim().toLowerCase();
  if (!/^(0x[0-9a-f]+|0b[01]+|0o?[0-7]+|0|[1-9][0-9]*)$/.test(word)) return undefined;
  const value = Number(/^0[0-7]+$/.test(word) ? `0o${word}` : word);
  return value <= 0xffffffff ? value : undefined;
}
