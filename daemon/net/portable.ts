/** Values of ours as JSON and back, for files that travel: maps and sets keep their kind, of a secret only stays whether there is one. */
import { Secret } from './secret.ts';

/** What stands in the file for what JSON has no form for. */
type Tagged =
  | { readonly $: 'map' | 'set'; readonly of: readonly unknown[] }
  | { readonly $: 'secret'; readonly isEmpty: boolean };

/** In place of every secret: all are alike, so that one compared with itself is the same. */
export const HIDDEN_SECRET = new Secret('hidden');

export function toPortable(value: unknown): string {
  return JSON.stringify(value, function (this: Readonly<Record<string, unknown>>, key: string, inner: unknown): unknown {
    // Before its own toJSON made text of it.
    const original = this[key];
    if (original instanceof Secret) return { $: 'secret', isEmpty: original.isEmpty } satisfies Tagged;
    if (isMap(inner)) return { $: 'map', of: [...inner] } satisfies Tagged;
    if (inner instanceof Set) return { $: 'set', of: [...inner] } satisfies Tagged;
    return inner;
  });
}

/** Also what only behaves like one: a view over another map. */
function isMap(value: unknown): value is ReadonlyMap<unknown, unknown> {
  return typeof value === 'object' && value !== null && 'get' in value && 'entries' in value && Symbol.iterator in value;
}

/** Throws a SyntaxError for text that is no JSON. Whether it has the shape that is hoped for, the caller knows. */
export function fromPortable(text: string): unknown {
  return JSON.parse(text, (_key, inner: unknown): unknown => {
    if (typeof inner !== 'object' || inner === null || !('$' in inner)) return inner;
    const tagged = inner as Tagged;
    switch (tagged.$) {
      case 'map':
        return new Map(tagged.of as readonly (readonly [unknown, unknown])[]);
      case 'set':
        return new Set(tagged.of);
      case 'secret':
        return tagged.isEmpty ? new Secret('') : HIDDEN_SECRET;
    }
  });
}
