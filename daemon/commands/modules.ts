/** The modules a configuration asks for and this build has. */
import { readFile } from 'node:fs/promises';
import { MODULE_FACTORIES } from '../../modules/index.ts';
import { isEnabled } from '../config/config.ts';
import { MODULE_NAMES } from '../config/modules.ts';
import { readPeerPasswords } from '../config/peer-passwords.ts';
import type { Module } from '../reconcile/module.ts';
import type { Invocation } from './invocation.ts';

/** Rejects with FW_CONFIG_INVALID where a file that the configuration names cannot be used. */
export async function enabledModules({ config, explicit }: Invocation): Promise<readonly Module[]> {
  const enabled = MODULE_NAMES.filter(name => isEnabled(name, config));
  const peerPasswords = enabled.includes('routing') ? await readPeerPasswords(config, path => readFile(path, 'utf8')) : [];
  return enabled.flatMap(name => MODULE_FACTORIES[name]?.({ config, explicit, peerPasswords }) ?? []);
}
