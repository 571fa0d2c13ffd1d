/** Routes of ours in a node's kernel, as `ip route` shows them. */
import type { LabHost } from '../addresses.ts';
import type { Lab } from '../lab.ts';
import { until } from '../until.ts';

/** The protocol number of routes that the daemon makes. */
const PROTOCOL = '70';

interface IpRoute {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly nexthops?: readonly { readonly gateway?: string; readonly dev: string }[];
}

/** Of both families to prefixes that begin with `about`: `10.51.0.0/24 via 192.168.1.101 192.168.1.102`, sorted. */
export async function ownRoutes(lab: Lab, node: LabHost, about = ''): Promise<readonly string[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map(family => lab.expectRun(node, ['ip', '-j', family, 'route', 'show', 'proto', PROTOCOL])),
  );
  return texts
    .flatMap(text => JSON.parse(text) as readonly IpRoute[])
    .filter(({ dst }) => dst.startsWith(about))
    .map(({ dst, gateway, dev, nexthops }) => {
      const ways = nexthops ?? [{ gateway, dev: dev ?? '' }];
      return `${dst} via ${ways
        .map(way => way.gateway ?? way.dev)
        .toSorted()
        .join(' ')}`;
    })
    .sort();
}

/** How many there are, without spelling each. */
export async function countOwnRoutes(lab: Lab, node: LabHost): Promise<number> {
  const text = await lab.expectRun(node, ['ip', '-4', '-o', 'route', 'show', 'proto', PROTOCOL]);
  return text.split('\n').filter(line => line !== '').length;
}

/** Waits until a node has these and no others of ours (to prefixes that begin with `about`). */
export async function untilRoutes(
  about: string,
  lab: Lab,
  node: LabHost,
  expected: readonly string[],
  limitMs = 15_000,
): Promise<void> {
  await until(
    `${node.name} has ${expected.length} routes${about === '' ? '' : ` to ${about}...`} and no others`,
    async () => difference(await ownRoutes(lab, node, about), expected),
    ({ missing, unexpected }) => missing.length === 0 && unexpected.length === 0,
    limitMs,
  );
}

/** The first of each: there may be thousands. */
function difference(
  seen: readonly string[],
  expected: readonly string[],
): { missing: string[]; unexpected: string[]; seen: number } {
  return {
    missing: expected.filter(route => !seen.includes(route)).slice(0, 10),
    unexpected: seen.filter(route => !expected.includes(route)).slice(0, 10),
    seen: seen.length,
  };
}
