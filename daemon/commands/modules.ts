/** The modules a configuration asks for and this build has. */
import { MODULE_FACTORIES } from '../../modules/index.ts';
import { isEnabled } from '../config/config.ts';
import { MODULE_NAMES } from '../config/modules.ts';
import type { Module } from '../reconcile/module.ts';
import type { Invocation } from './invocation.ts';

export function enabledModules({ config, explicit }: Invocation): readonly Module[] {
  return MODULE_NAMES.filter(name => isEnabled(name, config)).flatMap(name => MODULE_FACTORIES[name]?.(config, explicit) ?? []);
}
