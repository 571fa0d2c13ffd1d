/** The list of built-in modules, and nothing else. */

import type { ModuleName } from '../daemon/config/modules.ts';
import type { FlagName, OptionValues } from '../daemon/config/options.ts';
import type { Module } from '../daemon/reconcile/module.ts';
import { policyModule } from './policy/module.ts';
import { policyOptionsOf } from './policy/options.ts';
import { servicesModule } from './services/module.ts';
import { servicesOptionsOf } from './services/options.ts';

/** Makes each built module from the configuration; `explicit` are the flags that were given. */
export const MODULE_FACTORIES: Partial<Record<ModuleName, (config: OptionValues, explicit: ReadonlySet<FlagName>) => Module>> = {
  policy: (config, explicit) => policyModule(policyOptionsOf(config, explicit)),
  services: (config, explicit) => servicesModule(servicesOptionsOf(config, explicit)),
};
