/** The list of built-in modules, and nothing else. */

import type { ModuleName } from '../daemon/config/modules.ts';
import type { FlagName, OptionValues } from '../daemon/config/options.ts';
import type { Module } from '../daemon/reconcile/module.ts';
import { servicesModule } from './services/module.ts';
import { servicesOptionsOf } from './services/options.ts';

/** Makes each built module from the configuration; `explicit` are the flags that were given. */
export const MODULE_FACTORIES: Partial<Record<ModuleName, (config: OptionValues, explicit: ReadonlySet<FlagName>) => Module>> = {
  services: (config, explicit) => servicesModule(servicesOptionsOf(config, explicit)),
};
