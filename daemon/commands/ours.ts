/** What is ours for certain: a daemon takes over what kube-router left, a cleanup must not take it away, and least of all from one that runs. */
import type { Predecessor } from '../config/options-commands.ts';
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

/**
 * The same drivers, which leave alone what these have taken over from us: they are running. kube-router has our virtual addresses and their link, virtual
 * services, bridge and rules by the same names; kube-proxy in its IPVS mode has the virtual services.
 */
export function withoutSuccessors(drivers: Drivers, running: ReadonlySet<Predecessor>): Drivers {
  // By a mark nobody but us: kube-router's own are never seen.
  const byMark = seeing(drivers.virtualServer, ({ listener }) => listener.by === 'mark');
  if (!running.has('kube-router')) return running.has('kube-proxy') ? { ...drivers, virtualServer: byMark } : drivers;
  return {
    ...drivers,
    virtualServer: byMark,
    link: seeing(drivers.link, ({ type }) => type !== 'dummy' && type !== 'bridge'),
    address: seeing(drivers.address, () => false),
    route: seeing(drivers.route, () => false),
    ipset: seeing(drivers.ipset, entry => /^(inet6:)?fairway-/.test(entry.kind === 'set' ? entry.name : entry.set)),
    rule: seeing(drivers.rule, () => false),
    fouPort: seeing(drivers.fouPort, () => false),
  };
}

function seeing<T>(driver: TableDriver<T>, isOurs: (entry: T) => boolean): TableDriver<T> {
  return {
    read: async (expected, signal) => new Map([...(await driver.read(expected, signal))].filter(([, entry]) => isOurs(entry))),
    apply: (changes, signal) => driver.apply(changes, signal),
    render: changes => driver.render(changes),
  };
}
