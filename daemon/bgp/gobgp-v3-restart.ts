/**
 * How long we tell nothing after a restart (RFC 4724, 4.1). GoBGP waits until each neighbour it knows has marked the end of its routes, those that are
 * down and those that know nothing of graceful restart among them, so that in practice it is the time that decides: it counts for each session from
 * when that came up, and then that neighbour is told all. What the flags ask for (360 s) would leave every neighbour without news for as long as one of
 * them is down. Neighbours go on using our routes meanwhile, but hear of no new ones.
 */
import type { BgpPeer, BgpPolicy } from '../reconcile/routing-tables.ts';
import type { AddPeerOptions } from './speaker.ts';

/** Seconds, GoBGP's least: 0 stands for 360. */
const ONLY_OWN_SECONDS = 1;
/** Seconds within which all neighbours that are there are met and have told what they know: both sides call every 5 to 10 s. */
const LEARNED_SECONDS = 15;

/** What we originate is complete before the first session; what we hand on is so once those who told it have done so again. */
export function deferralSeconds(
  { gracefulRestart }: BgpPeer,
  { isRestarting }: AddPeerOptions,
  exported: BgpPolicy | undefined,
): number {
  const asked = gracefulRestart?.deferralSeconds ?? 0;
  if (!isRestarting) return asked;
  return tellsLearned(exported) ? Math.max(ONLY_OWN_SECONDS, Math.min(asked, LEARNED_SECONDS)) : ONLY_OWN_SECONDS;
}

/** As route reflectors do. */
function tellsLearned(exported: BgpPolicy | undefined): boolean {
  if (exported === undefined) return false;
  const { statements, otherwise } = exported;
  return (
    otherwise === 'accept' ||
    statements.some(({ verdict, origin, audience }) => verdict === 'accept' && origin !== 'local' && audience === undefined)
  );
}
