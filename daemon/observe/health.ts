/** The daemon's health as values, one state per module; only the core reports. */

export type ModuleHealth =
  | { readonly state: 'starting' }
  | { readonly state: 'ok' }
  | { readonly state: 'degraded'; readonly reason: string; readonly since: number };

export interface Health {
  /** The reconcile loop ticked within the time allowed. */
  readonly isLive: boolean;
  /** This node is about to be taken out of the cluster. */
  readonly isNodeLeaving: boolean;
  readonly modules: ReadonlyMap<string, ModuleHealth>;
}

/** Every enabled module has converged once: it may be degraded since, its data path stands. */
export function isReady(health: Health): boolean {
  return [...health.modules.values()].every(({ state }) => state !== 'starting');
}

/** One line a module, for people. */
export function describeHealth(health: Health): string {
  const lines = [...health.modules].map(
    ([name, module]) => `${name}: ${module.state === 'degraded' ? `degraded: ${module.reason}` : module.state}`,
  );
  return `${[health.isLive ? 'loop: ok' : 'loop: has not ticked in time', ...lines].join('\n')}\n`;
}
