/**
 * Words to systemd by systemd-notify(1): Node.js has no datagram sockets of AF_UNIX, which is what sd_notify(3) speaks through.
 *
 * Without `--no-block` the tool waits until systemd has taken the message (a barrier, sd_notify(3)): a message whose sender is gone by then belongs
 * to no unit and is dropped. Without `--pid`, which would make somebody the main process. The sender is the tool itself, since we may not speak
 * under another's name: hence NotifyAccess=all in the unit.
 */
import { FairwayError } from '../errors.ts';
import type { CommandRunner } from './command.ts';

/** Milliseconds; the tool itself gives the barrier five seconds. */
const TIMEOUT_MS = 10_000;

/** Hands assignments over (`READY=1`). Rejects where systemd has not taken them. */
export function systemdNotify(runner: CommandRunner): (assignments: readonly string[], signal: AbortSignal) => Promise<void> {
  return async (assignments, signal) => {
    const { status, stderr } = await runner.run({ argv: ['systemd-notify', ...assignments], timeoutMs: TIMEOUT_MS }, signal);
    if (status !== 0)
      throw new FairwayError('FW_COMMAND_FAILED', `'systemd-notify': ${stderr.trim() || `exit status ${status}`}`);
  };
}
