/** Many waits at once, but not too many. */

/** Calls `each` for all items, at most so many at a time; results in the order of the items. Rejects at the first rejection. */
export async function inParallel<T, R>(
  items: readonly T[],
  atMost: number,
  each: (item: T) => Promise<R>,
): Promise<readonly R[]> {
  const results = new Array<R>(items.length);
  const waiting = items.entries();
  const lane = async (): Promise<void> => {
    for (const [index, item] of waiting) results[index] = await each(item);
  };
  await Promise.all(Array.from({ length: Math.min(atMost, items.length) }, lane));
  return results;
}
