/** The network namespace of a pod: where it is, whether it is still the same one, and running tools in it. */
import { stat } from 'node:fs/promises';
import { FairwayError } from '../errors.ts';
import type { Command, CommandRunner } from './command.ts';
import type { PodSandbox } from './cri.ts';

/** A namespace that was there when it was looked for. */
export interface PodNamespace {
  /** Id of the sandbox at the container runtime. */
  readonly sandbox: string;
  readonly path: string;
  /** Of the namespace itself: a path below /proc leads elsewhere once its process is gone and the number given anew. */
  readonly inode: number;
}

/** The daemon's own. */
const OWN = '/proc/self/ns/net';

/** The first of the sandbox's paths at which there is a namespace, and one that is not ours. Throws a FairwayError with the remedy where there is none. */
export async function namespaceOf({ id, namespacePaths }: PodSandbox): Promise<PodNamespace> {
  if (namespacePaths.length === 0) {
    const message = `the container runtime does not say where the network namespace of sandbox ${id} is (verbose PodSandboxStatus, 'runtimeSpec' or 'pid')`;
    throw new FairwayError('FW_COMMAND_FAILED', message);
  }
  for (const path of namespacePaths) {
    const inode = await inodeAt(path);
    if (inode !== undefined) return { sandbox: id, path, inode };
  }
  throw new FairwayError(
    'FW_COMMAND_FAILED',
    `the network namespace of sandbox ${id} is not to be seen at ${namespacePaths.join(' nor at ')}: run Fairway with hostPID, or mount /run/netns with mountPropagation HostToContainer`,
  );
}

/** Whether the same namespace is still there. */
export async function isStillThere({ path, inode }: PodNamespace): Promise<boolean> {
  return (await inodeAt(path)) === inode;
}

/**
 * The inode of the namespace at the path. Undefined where there is none: nothing, a plain file (what a namespace's mount looks like in a container that does
 * not see the host's mounts), or our own namespace (so looks a process of the host's network, or a number of a process without hostPID).
 */
async function inodeAt(path: string): Promise<number | undefined> {
  try {
    const [own, found] = await Promise.all([stat(OWN), stat(path)]);
    return found.dev === own.dev && found.ino !== own.ino ? found.ino : undefined;
  } catch {
    return undefined;
  }
}

/** Runs tools within the network namespace; files and processes stay the daemon's own, and /proc/sys/net is that of the namespace. */
export function runnerWithin(runner: CommandRunner, { path }: PodNamespace): CommandRunner {
  const within = (command: Command): Command => ({ ...command, argv: ['nsenter', `--net=${path}`, ...command.argv] });
  return {
    run: (command, signal) => runner.run(within(command), signal),
    lines: (command, onLine, signal) => runner.lines(within(command), onLine, signal),
  };
}
