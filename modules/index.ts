/** The list of built-in modules, and nothing else. */

import type { Config } from '../daemon/config/config.ts';
import type { ModuleName } from '../daemon/config/modules.ts';
import type { FlagName } from '../daemon/config/options.ts';
import type { Secret } from '../daemon/net/secret.ts';
import type { Module } from '../daemon/reconcile/module.ts';
import { lanAnnouncerModule } from './lan-announcer/module.ts';
import { lanAnnouncerOptionsOf } from './lan-announcer/options.ts';
import { lbAllocatorModule } from './lb-allocator/module.ts';
import { lbAllocatorOptionsOf } from './lb-allocator/options.ts';
import { policyModule } from './policy/module.ts';
import { policyOptionsOf } from './policy/options.ts';
import { routingModule } from './routing/module.ts';
import { routingOptionsOf } from './routing/options.ts';
import { servicesModule } from './services/module.ts';
import { servicesOptionsOf } from './services/options.ts';

export interface ModuleInputs {
  readonly config: Config;
  /** The flags that were given. */
  readonly explicit: ReadonlySet<FlagName>;
  /** Of the external BGP peers, one a peer or none at all. */
  readonly peerPasswords: readonly Secret[];
}

/** Makes each built module from the configuration. */
export const MODULE_FACTORIES: Partial<Record<ModuleName, (inputs: ModuleInputs) => Module>> = {
  routing: ({ config, explicit, peerPasswords }) => routingModule(routingOptionsOf(config, explicit, peerPasswords)),
  policy: ({ config, explicit }) => policyModule(policyOptionsOf(config, explicit)),
  'lb-allocator': ({ config }) => lbAllocatorModule(lbAllocatorOptionsOf(config)),
  'lan-announcer': ({ config, explicit }) => lanAnnouncerModule(lanAnnouncerOptionsOf(config, explicit)),
  services: ({ config, explicit }) => servicesModule(servicesOptionsOf(config, explicit)),
};
