/** Whether two plans of our part in BGP are the same, passwords included. */

import { sameText } from '../../daemon/reconcile/stable.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';
import type { BgpPlan } from './bgp.ts';

export function sameBgpPlan(former: BgpPlan, now: BgpPlan): boolean {
  const { externalPeers: formerPeers, ...formerRest } = former;
  const { externalPeers: peers, ...rest } = now;
  return (
    sameText(formerRest, rest) &&
    formerPeers.length === peers.length &&
    formerPeers.every((peer, index) => {
      const other = peers[index];
      return other !== undefined && peer.address === other.address && TABLES.bgpPeer.same(peer, other);
    })
  );
}
