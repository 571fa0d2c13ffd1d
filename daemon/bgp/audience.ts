/**
 * Our mark in a path says who may hear of it: a community of the block that RFC 1997 reserves (0x0000xxxx), so that no one else's means it. It never
 * leaves the node: every statement of the export policy that accepts a path of ours takes it away or puts something else in its place.
 */
import type { Audience } from '../reconcile/routing-tables.ts';

export const AUDIENCE_MARKS: Readonly<Record<Audience, number>> = { everyone: 0x0000fa01, fabric: 0x0000fa02 };

/** As GoBGP and its command write it: `HIGH:LOW`. */
export function communityText(community: number): string {
  return `${community >>> 16}:${community & 0xffff}`;
}
