/** Two Services on one address: MetalLB's rule. */
import type { Service, TrafficPolicy } from '../../daemon/cluster/kinds.ts';
import { policiesOf } from '../../daemon/cluster/virtual-addresses.ts';

/** What it depends on. */
export interface Sharing {
  /** '' shares with nobody. */
  readonly key: string;
  /** `TCP 80`. */
  readonly listeners: readonly string[];
  readonly policy: TrafficPolicy;
  /** '' where the Service selects no pods. */
  readonly selector: string;
}

export function sharingOf(service: Service, key: string): Sharing {
  return {
    key,
    listeners: service.ports.map(({ protocol, port }) => `${protocol} ${port}`),
    policy: policiesOf(service).policies.external,
    selector: service.loadBalancer?.selector ?? '',
  };
}

/**
 * Both asked for it by the same key, and nothing listens twice. Under Local, an address leads only to nodes with endpoints: to be right for both
 * Services these must be the same endpoints. Without a selector nobody knows that.
 */
export function mayShare(one: Sharing, other: Sharing): boolean {
  if (one.key === '' || one.key !== other.key || one.policy !== other.policy) return false;
  if (one.policy === 'Local' && (one.selector === '' || one.selector !== other.selector)) return false;
  return one.listeners.every(listener => !other.listeners.includes(listener));
}
