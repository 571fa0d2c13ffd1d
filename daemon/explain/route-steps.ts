/** How a packet gets to a pod or an address elsewhere, as a step, and what is missing where it does not. */
import type { IpAddress } from '../net/address.ts';
import type { IpPrefix } from '../net/prefix.ts';
import { routeLine } from '../reconcile/kernel-text.ts';
import { MAIN_TABLE, unicastRouteKey } from '../reconcile/routing-tables.ts';
import type { Step, Verdict } from './explanation.ts';
import { tunnelOf, wayTo } from './routes.ts';
import { deviationStep, refText, type Scene } from './scene.ts';

export interface Carriage {
  readonly step: Step;
  /** Undefined where it gets there, as far as is known. */
  readonly stopped: Verdict | undefined;
}

/** @param source As the packet bears it where its route is looked for. */
export function carriageTo(destination: IpAddress, source: IpAddress, scene: Scene): Carriage {
  const way = wayTo(destination, source, scene.snapshot, scene.tables);
  const title = scene.objects.title(destination);
  switch (way.kind) {
    case 'host':
      return carried({ what: `${title} is this host's own`, state: 'ok' });
    case 'link':
      return carried({ what: `${title} is on the network of ${way.link}: ${way.prefix}`, state: 'ok' });
    case 'route': {
      const tunnel = tunnelOf(way.route);
      const link = tunnel === undefined ? undefined : scene.tables.entry('link', tunnel);
      const isBroken = link !== undefined && link.actual === undefined;
      const what = `route to ${title}: ${way.route.destination}${tunnel === undefined ? '' : ` through the tunnel ${tunnel}`}`;
      const step: Step = {
        what,
        kernel: [routeLine(way.route)],
        objects: [...scene.ownersOf('unicastRoute', way.key), ...originOf(way.route.destination, scene)],
        state: isBroken ? 'missing' : 'ok',
      };
      const reason = `the tunnel ${tunnel ?? ''} to it is not in the kernel`;
      return isBroken ? { step, stopped: { outcome: 'unreachable', reason } } : carried(step);
    }
    case 'default':
      return withoutRoute(destination, title, scene);
  }
}

/** Where the route came from: neighbours of BGP, or a Node object, which is its owner then. */
function originOf(destination: IpPrefix, { snapshot }: Scene): readonly string[] {
  const learned = snapshot.rib.routes.get(destination);
  return learned === undefined ? [] : [`BGP path by ${learned.nextHops.map(({ address }) => address).join(', ')}`];
}

function withoutRoute(destination: IpAddress, title: string, scene: Scene): Carriage {
  const { objects, snapshot } = scene;
  const network = objects.podNetworkOf(destination);
  const pod = objects.podAt(destination);
  if (network?.node === snapshot.node.name)
    return carried({
      what: `${title} is in this node's pod network ${network.prefix}: the container runtime's own route`,
      state: 'unknown',
    });
  const node = objects.nodeAt(destination);
  if (network === undefined || pod?.hostNetwork === true || node !== undefined || !scene.looksAfter('unicastRoute'))
    return carried({ what: `${title}: by the host's own routes, which are not ours to know`, state: 'unknown' });
  return unreachable(network.node, network.prefix, scene);
}

function unreachable(node: string, prefix: IpPrefix, scene: Scene): Carriage {
  const entry = scene.tables.entry('unicastRoute', unicastRouteKey(MAIN_TABLE, prefix));
  const what = `no route to ${node}'s pod CIDR ${prefix}`;
  if (entry !== undefined) {
    const step = deviationStep({ table: 'unicastRoute', entry });
    const failed = entry.failure?.error.message;
    const reason = `${what}: ${failed ?? 'it is wanted, and not in the kernel yet'}`;
    return { step, stopped: { outcome: failed === undefined ? 'pending' : 'failing', reason } };
  }
  const said = scene.diagnostics
    .filter(({ object }) => object.kind === 'Node' && object.key === node)
    .map(({ message }) => message);
  const reasons = [bgpText(node, prefix, scene), ...said].filter(text => text !== '');
  const reason = `${what}: ${reasons.join('; ')}`;
  return {
    step: { what, objects: [refText({ kind: 'Node', key: node })], note: reasons.join('\n'), state: 'missing' },
    stopped: { outcome: 'unreachable', reason },
  };
}

function bgpText(node: string, prefix: IpPrefix, { snapshot, tables }: Scene): string {
  if (tables.entry('bgpServer', 'global') === undefined) return 'no BGP, and its Node object gives none that this node can use';
  const learned = snapshot.rib.routes.get(prefix);
  if (learned !== undefined)
    return `the BGP path by ${learned.nextHops.map(({ address }) => address).join(', ')} cannot be used: no link and no tunnel leads there`;
  const addresses = snapshot.nodes.get(node)?.internalIPs ?? [];
  const peer = addresses.find(address => tables.entry('bgpPeer', address)?.actual !== undefined);
  const session = peer === undefined ? `there is no session with ${node}` : `the session with ${node} (${peer}) told none`;
  const settled = snapshot.rib.isSettled ? '' : '; not every neighbour has told all it has yet';
  return `no BGP path, and no route from its Node object: ${session}${settled}`;
}

function carried(step: Step): Carriage {
  return { step, stopped: undefined };
}
