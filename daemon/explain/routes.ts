/** By which route or tunnel a packet leaves, and what there is to say where there is none. */
import type { Snapshot } from '../cluster/snapshot.ts';
import { familyOf, HOST_BITS, type IpAddress } from '../net/address.ts';
import { hostPrefix, type IpPrefix, prefixContains, prefixOf } from '../net/prefix.ts';
import { isOverlayLink, MAIN_TABLE, POD_SOURCE_TABLE, type UnicastRoute, unicastRouteKey } from '../reconcile/routing-tables.ts';
import type { TablesView } from '../reconcile/view.ts';
import type { ClusterObjects } from './cluster-objects.ts';

export const POD_BRIDGE = 'kube-bridge';

export type Way =
  /** The host's own. */
  | { readonly kind: 'host' }
  /** A network that one of the host's links is on. */
  | { readonly kind: 'link'; readonly link: string; readonly prefix: IpPrefix }
  | { readonly kind: 'route'; readonly key: string; readonly route: UnicastRoute }
  /** Whatever other routes the host has. */
  | { readonly kind: 'default' };

/** As the kernel looks for it: tables that rules name first, then the longest prefix. */
export function wayTo(destination: IpAddress, source: IpAddress, { host, node }: Snapshot, tables: TablesView): Way {
  if (host.addresses.some(({ address }) => address === destination)) return { kind: 'host' };
  const isOfPod = node.podCIDRs.some(
    prefix => prefixContains(prefix, source) && tables.entry('rule', `${prefix} ${POD_SOURCE_TABLE}`)?.actual !== undefined,
  );
  const behindTunnel = unicastRouteKey(POD_SOURCE_TABLE, hostPrefix(destination));
  const fromPods = isOfPod ? tables.entry('unicastRoute', behindTunnel)?.actual : undefined;
  if (fromPods !== undefined) return { kind: 'route', key: behindTunnel, route: fromPods };
  for (let length = HOST_BITS[familyOf(destination)]; length >= 0; length--) {
    const prefix = prefixOf(destination, length);
    const own = host.addresses.find(
      each => each.prefixLength === length && length < HOST_BITS[familyOf(destination)] && prefixContains(prefix, each.address),
    );
    if (own !== undefined) return { kind: 'link', link: own.link, prefix };
    const key = unicastRouteKey(MAIN_TABLE, prefix);
    const route = tables.entry('unicastRoute', key)?.actual;
    if (route !== undefined && route.nextHops.length > 0) return { kind: 'route', key, route };
  }
  return { kind: 'default' };
}

/** The link by which rules see a packet leave; '' where it is not known. */
export function linkTo(address: IpAddress, snapshot: Snapshot, tables: TablesView, objects: ClusterObjects): string {
  const way = wayTo(address, address, snapshot, tables);
  switch (way.kind) {
    case 'host':
      return '';
    case 'link':
      return way.link;
    case 'route':
      return way.route.nextHops[0]?.link ?? '';
    case 'default':
      return objects.isOfOwnPods(address) ? POD_BRIDGE : nodeLink(snapshot);
  }
}

/** The link with the node's primary address. */
export function nodeLink({ node, host }: Snapshot): string {
  return host.addresses.find(({ address }) => address === (node.primary.ipv4 ?? node.primary.ipv6))?.link ?? '';
}

/** The tunnel that a route leads into, if it does. */
export function tunnelOf({ nextHops }: UnicastRoute): string | undefined {
  return nextHops.find(({ link }) => isOverlayLink(link))?.link;
}
