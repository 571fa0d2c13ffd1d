/** The groups that options belong to, and which of them this build has. */

export type ModuleName = 'routing' | 'services' | 'policy' | 'lb-allocator' | 'lan-announcer';
/** `commands`: flags of single commands, of no use to the daemon. */
export type OptionGroup = 'common' | 'commands' | ModuleName;

/** In the order of `--help`. `provides` is what nobody looks after where the module is missing. */
export const MODULES: Readonly<Record<ModuleName, { readonly title: string; readonly provides: string }>> = {
  routing: { title: 'Pod routing', provides: 'pod routes, BGP, tunnels and the CNI file' },
  services: { title: 'Service load balancing', provides: 'Service addresses and virtual servers' },
  policy: { title: 'Network policy', provides: 'the filtering of pod traffic' },
  'lb-allocator': { title: 'Load-balancer addresses', provides: 'the allocation of load-balancer addresses' },
  'lan-announcer': {
    title: 'Announcement on the local network',
    provides: 'the answers to ARP and NDP for load-balancer addresses',
  },
};

export const MODULE_NAMES = Object.keys(MODULES) as readonly ModuleName[];

export function isModule(group: OptionGroup): group is ModuleName {
  return group !== 'common' && group !== 'commands';
}

/** Modules that work in this build. The flags of the others are accepted, and the daemon says at start that they do nothing yet. */
export const BUILT_MODULES: ReadonlySet<ModuleName> = new Set<ModuleName>([
  'routing',
  'services',
  'policy',
  'lb-allocator',
  'lan-announcer',
]);
