/** The driver of the CNI configuration file: what it says of this node's pods. No process. */
import { FairwayError, messageOf } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import type { CniConfig } from '../reconcile/routing-tables.ts';
import { CHAINED_PLUGINS, editedConfig, newConfig } from './cni-edit.ts';
import type { CniFiles } from './cni-files.ts';

/**
 * The file is read anew each time and nothing of it is remembered: people and installers write to it as well. One that needs no change counts as
 * the entry wanted, one that we cannot change as not there: applying then tells why. Deleting leaves the file: running pods go by it when they
 * end, and without it the kubelet calls the node not ready.
 */
export function cniConfigDriver({ files }: { readonly files: CniFiles }): TableDriver<CniConfig> {
  return {
    async read(expected, signal) {
      const found = new Map<string, CniConfig>();
      for (const [key, wanted] of expected) {
        signal.throwIfAborted();
        const state = await stateOf(files, wanted);
        if (state === 'as wanted') found.set(key, wanted);
        else if (state === 'other') found.set(key, { ...wanted, podCIDRs: [], mtu: undefined });
      }
      return found;
    },
    async apply(changes, signal) {
      const failed = new Map<string, FairwayError>();
      for (const change of changes) {
        signal.throwIfAborted();
        const error = change.op === 'delete' ? undefined : await write(files, change.to);
        if (error !== undefined) failed.set(change.key, error);
      }
      return { failed };
    },
    render: changes => changes.map(rendered).join(''),
  };
}

/** The part of the file that is ours. */
function rendered(change: Change<CniConfig>): string {
  if (change.op === 'delete') return '';
  const { path, podCIDRs, mtu } = change.to;
  return `${path}: ${JSON.stringify({ mtu, ipam: { ranges: podCIDRs.map(subnet => [{ subnet }]) } })}\n`;
}

async function stateOf(files: CniFiles, wanted: CniConfig): Promise<'absent' | 'other' | 'as wanted'> {
  try {
    const text = await present(files, wanted);
    if (text === undefined) return 'absent';
    return editedConfig(text, wanted) === text ? 'as wanted' : 'other';
  } catch {
    return 'absent';
  }
}

async function write(files: CniFiles, wanted: CniConfig): Promise<FairwayError | undefined> {
  try {
    const text = await present(files, wanted);
    const next = text === undefined ? newConfig(wanted, await installed(files)) : editedConfig(text, wanted);
    if (next !== text) await files.replace(wanted.path, next);
    return undefined;
  } catch (thrown) {
    return thrown instanceof FairwayError ? thrown : unwritable(wanted.path, thrown);
  }
}

/** An empty file is none: it is what an installer leaves that was killed while writing. */
async function present(files: CniFiles, { path }: CniConfig): Promise<string | undefined> {
  const text = await files.read(path);
  return text?.trim() === '' ? undefined : text;
}

async function installed(files: CniFiles): Promise<ReadonlySet<string>> {
  const answers = await Promise.all(CHAINED_PLUGINS.map(name => files.hasPlugin(name)));
  return new Set(CHAINED_PLUGINS.filter((_, index) => answers[index]));
}

function unwritable(path: string, thrown: unknown): FairwayError {
  const remedies: Readonly<Record<string, string>> = {
    EROFS: 'mount its folder writable',
    EACCES: 'let us write to its folder',
    EPERM: 'let us write to its folder',
    EBUSY: 'mount its folder, not the file alone: it is replaced by renaming',
  };
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
  const remedy = remedies[code];
  const message = `the CNI configuration ${path} cannot be kept: ${messageOf(thrown)}${remedy === undefined ? '' : `; ${remedy}`}`;
  return new FairwayError('FW_COMMAND_REFUSED', message, { cause: thrown });
}
