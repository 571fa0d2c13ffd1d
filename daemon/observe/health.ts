/** The daemon's health as values, one state per module; only the core reports. */

export type ModuleHealth =
  /** `reason`: what is waited for, where that is known. */
  | { readonly state: 'starting'; readonly reason?: string }
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
  const lines = [...health.modules].map(([name, module]) => {
    const reason = module.state === 'ok' ? undefined : module.reason;
    return `${name}: ${module.state}${reason === undefined ? '' : `: ${reason}`}`;
  });
  return `${[health.isLive ? 'loop: ok' : 'loop: has not ticked in time', ...lines].join('\n')}\n`;
}
