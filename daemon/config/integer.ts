/** Unsigned integers as Go's `strconv.ParseUint` reads them. */

/** Go literals, what pflag's uint flags take: `179`, `0x10`, `0b101`, `0o17`, `017` (octal), `1_000`. */
const LITERAL = /^(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)$/;

/** The value of a Go integer literal in any base, or undefined where the text is none. */
export function parseUintLiteral(text: string): bigint | undefined {
  if (!LITERAL.test(text)) return undefined;
  const digits = text.replaceAll('_', '');
  return BigInt(/^0[0-7]/.test(digits) ? `0o${digits.slice(1)}` : digits);
}

/** The value of decimal digits, or undefined. pflag reads the entries of a list of uints so: leading zeros do not mean octal. */
export function parseUintDecimal(text: string): bigint | undefined {
  return /^[0-9]+$/.test(text) ? BigInt(text) : undefined;
}
