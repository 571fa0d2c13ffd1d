/** kube-router's tunnels, routes to pods, rules of pods' own sources, and its bridge while no pod is on it. Where our pod routing is at work they are ours. */
import { fouDriver } from '../kernel/fou.ts';
import { isPodRoutingLink, linkDriver } from '../kernel/link.ts';
import { ruleDriver } from '../kernel/rule.ts';
import { unicastRouteDriver } from '../kernel/unicast-route.ts';
import type { TableDriver } from '../reconcile/driver.ts';
import type { Link } from '../reconcile/link.ts';
import { kubeRoutersTunnel } from './kube-router.ts';
import type { Ground, Swept } from './sweeping.ts';

export async function sweepRouting({ runner, overlayEncapPort }: Ground, swept: Swept, signal: AbortSignal): Promise<void> {
  // What leads somewhere goes before what it leads by.
  await clear(ruleDriver({ runner }), 'rules', () => true, swept, signal);
  await clear(unicastRouteDriver({ runner }), 'routes', ({ nextHops }) => nextHops.length === 0, swept, signal);
  const links = linkDriver({ runner, owns: isPodRoutingLink });
  await clear(links, 'links', isKubeRouters, swept, signal);
  await clear(fouDriver({ runner, configuredPort: overlayEncapPort }), 'GUE ports', () => true, swept, signal);
}

/** Tunnels of ours are named after the same node by another digest; a bridge is told only while it has no ports. */
function isKubeRouters(link: Link): boolean {
  return link.type === 'bridge' || ('remote' in link && link.name === kubeRoutersTunnel(link.remote));
}

async function clear<T>(
  driver: TableDriver<T>,
  kind: string,
  isTheirs: (entry: T) => boolean,
  swept: Swept,
  signal: AbortSignal,
): Promise<void> {
  const found = [...(await driver.read(new Map(), signal))].filter(([, entry]) => isTheirs(entry));
  if (found.length === 0) return;
  const { failed } = await driver.apply(
    found.map(([key, from]) => ({ op: 'delete', key, from })),
    signal,
  );
  swept.removed(kind, found.length - failed.size);
  for (const error of failed.values()) swept.remains(error.message);
}
