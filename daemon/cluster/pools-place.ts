/** Where the named pools of load-balancer addresses are (`--loadbalancer-pools`). */

import type { ObjectPlace } from './resources.ts';

export type PoolsPlace =
  | { readonly in: 'ConfigMap'; readonly configMap: ObjectPlace }
  | { readonly in: 'file'; readonly path: string };

/** Undefined for '', where none are asked for. The text is one that the flag accepts. */
export function poolsPlaceOf(text: string): PoolsPlace | undefined {
  if (text === '') return undefined;
  if (text.startsWith('/')) return { in: 'file', path: text };
  const [namespace = '', name = ''] = text.split('/');
  return { in: 'ConfigMap', configMap: { namespace, name } };
}
