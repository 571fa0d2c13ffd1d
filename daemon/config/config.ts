/** The configuration: what the flags and the environment come to. */
import type { Environment } from './environment.ts';
import type { ModuleName } from './modules.ts';
import type { FlagName, OptionValues } from './options.ts';

export interface Config extends OptionValues {
  readonly environment: Environment;
}

/** Which flag switches a module. */
export const RUN_FLAGS = {
  routing: 'run-router',
  services: 'run-service-proxy',
  policy: 'run-firewall',
  'lb-allocator': 'run-loadbalancer',
  'lan-announcer': 'announce-l2',
} as const satisfies Record<ModuleName, FlagName>;

/** Whether the configuration asks for the module; it may still not be in this build. */
export function isEnabled(module: ModuleName, config: OptionValues): boolean {
  switch (module) {
    case 'routing':
      return config.runRouter;
    case 'services':
      return config.runServiceProxy;
    case 'policy':
      return config.runFirewall;
    case 'lb-allocator':
      return config.runLoadbalancer;
    case 'lan-announcer':
      return config.announceL2;
  }
}

/** The name of this Node object; `hostname` is the host's own, which the kubelet too takes in lower case. */
export function nodeNameOf(config: Config, hostname: string): string {
  return config.hostnameOverride || config.environment.nodeName || hostname.trim().toLowerCase();
}
