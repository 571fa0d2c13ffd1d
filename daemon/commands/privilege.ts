/** What a command may do at all. */
import { FairwayError } from '../errors.ts';

/** Throws where we are not root: without it every tool would fail, one after another. */
export function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new FairwayError(
    'FW_CAPABILITY_PRIVILEGE',
    'changing the network of a host takes root: run it as root, or the pod as privileged',
  );
}
