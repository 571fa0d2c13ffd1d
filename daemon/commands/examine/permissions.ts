/** Whether we may do what the daemon does: rights, and places it writes to. */
import { access, constants, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { messageOf } from '../../errors.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

/** Bits of capabilities(7). */
const CAPABILITIES = [
  { bit: 12, name: 'CAP_NET_ADMIN', isVital: true, use: 'nothing of the network can be changed' },
  { bit: 16, name: 'CAP_SYS_MODULE', isVital: false, use: 'kernel modules must be loaded beforehand' },
  { bit: 21, name: 'CAP_SYS_ADMIN', isVital: false, use: 'no tunnels can be made in pods (direct server return)' },
] as const;

/** Bytes below which a place is called full: what is kept there is a few kilobytes. */
const SPACE = 1_048_576;

export interface PermissionsOptions {
  readonly userId: number;
  readonly readFile: (path: string) => Promise<string>;
  /** Folders the daemon writes to, with what it keeps there; made where they are not there. */
  readonly folders: readonly { readonly path: string; readonly holds: string }[];
}

export function permissionsExaminer({ userId, readFile, folders }: PermissionsOptions): Examiner {
  return {
    title: 'Permissions',
    examine: async () => [
      userId === 0 ? ok('user', 'root') : missing('user', `user ${userId}: run as root, or the pod as privileged`),
      ...capabilities(await readFile('/proc/self/status').catch(() => '')),
      await settings(),
      ...(await Promise.all(folders.map(folderFinding))),
    ],
  };
}

/** The effective set, a hexadecimal mask (proc(5)). */
function capabilities(status: string): readonly Finding[] {
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  if (mask === undefined) return [warning('capabilities', '/proc/self/status does not tell them')];
  const held = BigInt(`0x${mask}`);
  return CAPABILITIES.map(({ bit, name, isVital, use }) => {
    if ((held >> BigInt(bit)) & 1n) return ok(name, 'held');
    const remark = `not held: ${use}; give it to the container, or CapabilityBoundingSet of the unit`;
    return isVital ? missing(name, remark) : warning(name, remark);
  });
}

async function settings(): Promise<Finding> {
  const path = '/proc/sys/net/ipv4/ip_forward';
  try {
    await access(path, constants.W_OK);
    return ok('/proc/sys/net', 'writable');
  } catch (thrown) {
    const remedy = 'mount /proc/sys writable (a privileged container), or set what the log names on the host with sysctl(8)';
    return missing('/proc/sys/net', `${messageOf(thrown)}; ${remedy}`);
  }
}

async function folderFinding({ path, holds }: { readonly path: string; readonly holds: string }): Promise<Finding> {
  try {
    const there = await nearest(path);
    await access(there, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = await statfs(there);
    const free = bavail * bsize;
    if (free < SPACE) return warning(path, `${free} bytes are free: ${holds} cannot be kept; free some space`);
    return ok(path, there === path ? 'writable' : `can be made below ${there}`);
  } catch (thrown) {
    return missing(
      path,
      `${messageOf(thrown)}: ${holds} cannot be kept; make it writable (a volume of the pod, ReadWritePaths of the unit)`,
    );
  }
}

/** The folder, or the first one above it that is there. */
async function nearest(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const isThere = await access(at).then(
      () => true,
      () => false,
    );
    if (isThere || at === dirname(at)) return at;
  }
}
