/** The driver of sysctls: files below /proc/sys, no process. */
import { FairwayError, messageOf } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type Sysctl, TABLES } from '../reconcile/tables.ts';

/** The files as the driver needs them; both reject with an error that carries the `code` of errno(3). */
export interface SysctlFiles {
  readFile(path: string): Promise<string>;
  writeFile(path: string, text: string): Promise<void>;
}

const FOLDER = '/proc/sys';

/**
 * Values are compared with their white space collapsed (the kernel separates several numbers by tabs). Creating writes only where
 * what is there is neither the value nor as good. Deleting leaves the value: what it was before us is not known, and others may rely
 * on it by now (kube-router leaves them too).
 */
export function sysctlDriver(options: { readonly files: SysctlFiles }): TableDriver<Sysctl> {
  const { files } = options;
  return {
    async read(expected, signal) {
      const found = new Map<string, Sysctl>();
      for (const [key, wanted] of expected) {
        signal.throwIfAborted();
        const value = await currentValue(files, wanted.path).catch(() => 'unreadable' as const);
        // One that cannot be read counts as not there: setting it then tells why.
        if (value === 'unreadable') continue;
        if (value === undefined) {
          if (wanted.whenMissing === 'skip') found.set(key, wanted);
        } else found.set(key, value === collapsed(wanted.value) ? wanted : { ...wanted, value });
      }
      return found;
    },
    async apply(changes, signal) {
      const failed = new Map<string, FairwayError>();
      for (const change of changes) {
        signal.throwIfAborted();
        const error = change.op === 'delete' ? undefined : await set(files, change.to);
        if (error !== undefined) failed.set(change.key, error);
      }
      return { failed };
    },
    render: changes => changes.map(rendered).join(''),
  };
}

/** As sysctl.d(5) writes it. */
function rendered(change: Change<Sysctl>): string {
  return change.op === 'delete' ? '' : `${change.to.path} = ${change.to.value}\n`;
}

async function set(files: SysctlFiles, wanted: Sysctl): Promise<FairwayError | undefined> {
  if (wanted.path.startsWith('/') || wanted.path.split('/').includes('..')) {
    return new FairwayError('FW_COMMAND_REFUSED', `sysctl '${wanted.path}' is not a path below ${FOLDER}`);
  }
  const path = `${FOLDER}/${wanted.path}`;
  try {
    const before = await currentValue(files, wanted.path);
    if (before === undefined) return wanted.whenMissing === 'skip' ? undefined : missing(path);
    if (isGood(before, wanted)) return undefined;
    await files.writeFile(path, wanted.value);
    const after = await currentValue(files, wanted.path);
    if (after !== undefined && isGood(after, wanted)) return undefined;
    return new FairwayError('FW_COMMAND_REFUSED', `${path} was set to '${wanted.value}' and reads '${after ?? 'nothing'}'`);
  } catch (thrown) {
    return unwritable(path, wanted.value, thrown);
  }
}

function isGood(value: string, wanted: Sysctl): boolean {
  return TABLES.sysctl.same({ ...wanted, value }, { ...wanted, value: collapsed(wanted.value) });
}

/** Undefined where the kernel has no such file. */
async function currentValue(files: SysctlFiles, path: string): Promise<string | undefined> {
  try {
    return collapsed(await files.readFile(`${FOLDER}/${path}`));
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT' || codeOf(thrown) === 'ENOTDIR') return undefined;
    const message = `${FOLDER}/${path} cannot be read: ${messageOf(thrown)}`;
    throw new FairwayError('FW_COMMAND_FAILED', message, { cause: thrown });
  }
}

function missing(path: string): FairwayError {
  return new FairwayError('FW_CAPABILITY_KERNEL', `the kernel has no ${path}: load the module that brings it, or build it in`);
}

function unwritable(path: string, value: string, thrown: unknown): FairwayError {
  if (thrown instanceof FairwayError) return thrown;
  const remedies: Readonly<Record<string, string>> = {
    EROFS: 'mount /proc/sys writable (a privileged container), or set it on the host with sysctl(8)',
    EACCES: 'run as root with CAP_NET_ADMIN, or set it on the host with sysctl(8)',
    EPERM: 'run as root with CAP_NET_ADMIN, or set it on the host with sysctl(8)',
    EINVAL: 'this kernel does not know that value',
  };
  const remedy = remedies[codeOf(thrown) ?? ''];
  const message = `${path} cannot be set to '${value}': ${messageOf(thrown)}${remedy === undefined ? '' : `; ${remedy}`}`;
  return new FairwayError('FW_COMMAND_REFUSED', message, { cause: thrown });
}

function collapsed(value: string): string {
  return value.trim().replace(/\s+/g, ' ');
}

function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}
