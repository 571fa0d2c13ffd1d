/** Where a node's daemon keeps what outlives it: sockets, process ids, records. For root alone. */
import { hashedName } from '../net/names.ts';

/** The folders of all nodes. Gone after a reboot. */
export const RUN_FOLDER = '/run/fairway';

/** Likewise, for what a reboot must not take (file-hierarchy(7)): where nothing but this daemon knows it. */
export const STATE_FOLDER = '/var/lib/fairway';

/** By the name of the node: namespaces of one host may be nodes of their own, with one /run. */
export function runFolderOf(nodeName: string): string {
  return `${RUN_FOLDER}/${folderNameOf(nodeName)}`;
}

export function stateFolderOf(nodeName: string): string {
  return `${STATE_FOLDER}/${folderNameOf(nodeName)}`;
}

function folderNameOf(nodeName: string): string {
  // The path of a socket has at most 107 bytes (unix(7)).
  const isPlain = /^[a-z0-9][a-z0-9.-]{0,62}$/.test(nodeName);
  return isPlain ? nodeName : hashedName('node-', [nodeName], 16);
}
