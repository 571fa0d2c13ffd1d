/** How large a set (ipset(8)) must be allowed to grow. */

/** What ipset(8) gives a set that does not say. */
export const LEAST_ELEMENTS = 65_536;

/**
 * A set that must grow is made anew and filled again, while a high limit costs nothing (memory follows the content). So there are few
 * steps, sixteen-fold each, with a fourth of the limit as the most that is in use: 65,536 elements, 1,048,576, 16,777,216 ... Shrinking
 * back over a step changes nothing in the kernel, where a larger set is as good.
 */
export function maxElementsFor(count: number): number {
  let limit: number = LEAST_ELEMENTS;
  while (count > limit / 4) limit *= 16;
  return limit;
}
