/** BGP as commands hand it on to drivers, without what speaks it: that is loaded only where BGP is spoken. */
import type { Speaker } from '../bgp/speaker.ts';
import { FairwayError } from '../errors.ts';

/** What the drivers of the BGP tables talk through. */
export interface BgpAccess {
  /** Throws FW_BGP_UNREACHABLE while there is none. */
  speaker(): Speaker;
  isRestarting(): boolean;
  /** The server was stopped and started. */
  restarted(): void;
}

/** Of a command that speaks no BGP, and of a daemon before it does. */
export const NO_BGP: BgpAccess = {
  speaker: () => {
    throw new FairwayError('FW_BGP_UNREACHABLE', 'nobody speaks BGP here');
  },
  isRestarting: () => false,
  restarted: () => undefined,
};
