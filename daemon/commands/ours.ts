/** Of pod routing, what is ours for certain: a daemon takes over what kube-router left, a cleanup must not take it away. */

import { tunnelName } from '../net/names.ts';
import type { TableDriver } from '../reconcile/driver.ts';
import type { Link } from '../reconcile/link.ts';
import type { Drivers } from '../reconcile/reconciler.ts';

/** The same drivers, which see nothing of kube-router's tunnels, routes, rules and ports. Asks once which tunnels there are. */
export async function withoutKubeRouters(drivers: Drivers, signal: AbortSignal): Promise<Drivers> {
  const links = await drivers.link.read(new Map(), signal).catch(() => new Map<string, Link>());
  // It names a tunnel after its other end as we do, but by another digest.
  const isOthers = (link: Link): boolean => 'remote' in link && link.name !== tunnelName(link.remote);
  const hasOthers = [...links.values()].some(isOthers);
  return {
    ...drivers,
    link: seeing(drivers.link, link => !isOthers(link)),
    // One without next hops as read back is not ours.
    unicastRoute: seeing(drivers.unicastRoute, ({ nextHops }) => nextHops.length > 0),
    // These look alike, whoever made them: who still has tunnels still needs them.
    rule: seeing(drivers.rule, () => !hasOthers),
    fouPort: seeing(drivers.fouPort, () => !hasOthers),
  };
}

function seeing<T>(driver: TableDriver<T>, isOurs: (entry: T) => boolean): TableDriver<T> {
  return {
    read: async (expected, signal) => new Map([...(await driver.read(expected, signal))].filter(([, entry]) => isOurs(entry))),
    apply: (changes, signal) => driver.apply(changes, signal),
    render: changes => driver.render(changes),
  };
}
