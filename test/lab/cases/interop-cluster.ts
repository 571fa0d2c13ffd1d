/** Services and Nodes of the suites about announcements, and what a peer is to have of them. */
import type { LabNode } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { type ApiObject, type Conditions, endpoint, type ServiceExtras, service, slice } from '../objects.ts';
import { annotated } from '../peers/describe-interop.ts';

const PORTS = [{ name: 'http', port: 8080 }];

export interface AnnouncedPeer {
  readonly address: string;
  readonly asn: number;
  readonly port?: number;
  readonly localAddress?: string;
  readonly password?: string;
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

/** `kube-router.io/peers` of these. */
export function peersYaml(peers: readonly AnnouncedPeer[]): string {
  return peers
    .map(({ address, asn, port, localAddress, password }) =>
      [
        `- remoteip: ${address}`,
        `  remoteasn: ${asn}`,
        ...(port === undefined ? [] : [`  port: ${port}`]),
        ...(localAddress === undefined ? [] : [`  localip: ${localAddress}`]),
        ...(password === undefined ? [] : [`  password: ${base64(password)}`]),
        '',
      ].join('\n'),
    )
    .join('');
}

/** The five older annotations of these. */
export function peersLists(peers: readonly AnnouncedPeer[]): Readonly<Record<string, string>> {
  return {
    'peer.ips': peers.map(({ address }) => address).join(','),
    'peer.asns': peers.map(({ asn }) => asn).join(','),
    'peer.ports': peers.map(({ port }) => port ?? 179).join(','),
    'peer.passwords': peers.map(({ password = '' }) => base64(password)).join(','),
    'peer.localips': peers.map(({ localAddress }) => localAddress ?? '').join(','),
  };
}

/** A Node with these peers by the annotation of YAML, and further annotations. */
export function nodeWithPeers(
  node: LabNode,
  peers: readonly AnnouncedPeer[],
  further: Readonly<Record<string, string>> = {},
): ApiObject {
  return annotated(node, { peers: peersYaml(peers), ...further });
}

/** A Service with its slices of both families: its endpoints are the first pods of these nodes, ready unless told. */
export function serviceOn(
  lab: Lab,
  name: string,
  spec: Readonly<Record<string, unknown>>,
  nodes: readonly (number | readonly [number, Conditions])[],
  extras: ServiceExtras = {},
): readonly ApiObject[] {
  const whole = { type: 'LoadBalancer', ipFamilyPolicy: 'PreferDualStack', ports: [{ name: 'http', port: 80 }], ...spec };
  return [service(name, whole, extras), ...slicesOn(lab, name, nodes)];
}

export function slicesOn(
  lab: Lab,
  name: string,
  nodes: readonly (number | readonly [number, Conditions])[],
): readonly ApiObject[] {
  return (['ipv4', 'ipv6'] as const).map(family =>
    slice(
      name,
      PORTS,
      nodes.map(one => {
        const [number, conditions] = typeof one === 'number' ? [one, { ready: true }] : one;
        return endpoint(lab.pod(number, 1), family, conditions);
      }),
      { family },
    ),
  );
}
