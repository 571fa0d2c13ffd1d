/** What the module wants on its own account: how the kernel answers, and how it tells of what is new. */
import { type Diagnostic, type Entry, entry, type Fragment, type ObjectRef } from '../../daemon/reconcile/fragment.ts';
import type { Sysctl } from '../../daemon/reconcile/tables.ts';
import type { AnnouncingLinks } from './links.ts';
import type { LanAnnouncerOptions } from './options.ts';

const OWNER: ObjectRef = { kind: 'Module', key: 'lan-announcer', since: 0 };

export function planOwn(links: AnnouncingLinks, options: LanAnnouncerOptions): Fragment {
  return { owner: OWNER, entries: sysctlEntries(links), diagnostics: diagnosticsOf(links, options) };
}

function sysctlEntries({ names }: AnnouncingLinks): readonly Entry[] {
  const settings: readonly Sysctl[] = [
    ...(names.ipv4.length === 0 ? [] : STRICT),
    // The greater of a link's own value and that of all counts, and from 2 on addresses outside of the subnets of the link are not answered for.
    ...names.ipv4.map(link => setting(`net/ipv4/conf/${link}/arp_ignore`, '1', 'skip', ['0'])),
    // When a link comes up, gratuitous ARP for every address on it.
    ...names.ipv4.map(link => setting(`net/ipv4/conf/${link}/arp_notify`, '1', 'skip')),
    // When an address is there to stay and when its link comes up, an unsolicited neighbour advertisement that overrides (RFC 4861, 7.2.6).
    ...names.ipv6.map(link => setting(`net/ipv6/conf/${link}/ndisc_notify`, '1', 'skip')),
    // Without the test of an address a former owner who is still there goes unseen, and both answer.
    ...names.ipv6.flatMap(link => [
      setting(`net/ipv6/conf/${link}/accept_dad`, '1', 'skip', ['2']),
      setting(`net/ipv6/conf/${link}/dad_transmits`, '1', 'skip', ['2', '3', '4', '5']),
    ]),
  ];
  return settings.map(each => entry('sysctl', each));
}

/**
 * The same wishes as the module services has. The kernel otherwise answers ARP on every link for every address of the host, virtual ones on
 * `kube-dummy-if` (or kube-proxy's `kube-ipvs0`) among them, whoever's turn it is; and a node that asks for a neighbour in the name of an
 * address that is another's to answer for would draw its packets. IPv6 answers only for what is on the very link.
 */
const STRICT: readonly Sysctl[] = [
  setting('net/ipv4/conf/all/arp_ignore', '1', 'fail'),
  setting('net/ipv4/conf/all/arp_announce', '2', 'fail'),
];

function diagnosticsOf(
  { missing, doubles, names, nodeFamilies }: AnnouncingLinks,
  options: LanAnnouncerOptions,
): readonly Diagnostic[] {
  const told = (message: string): Diagnostic => ({ code: 'FW_LAN_UNANNOUNCED', object: OWNER, message });
  if (options.links.length > 0)
    return [
      ...missing.map(link =>
        told(
          `--announce-interfaces names ${link}, and this host has no such link: nothing is answered for there. Correct the flag, or bring the link up.`,
        ),
      ),
      ...Object.entries(doubles).map(([link, first]) =>
        told(
          `--announce-interfaces names ${link} and ${first}, which are in one subnet: addresses are answered for on ${first} alone, lest the network hear two answers. Name one of them.`,
        ),
      ),
    ];
  return nodeFamilies
    .filter(family => options.families.includes(family) && names[family].length === 0)
    .map(family =>
      told(
        `None of the ${family === 'ipv6' ? 'IPv6' : 'IPv4'} addresses of this node is on a link of this host: no such load-balancer address is answered for here. Name the links by --announce-interfaces.`,
      ),
    );
}

function setting(path: string, value: string, whenMissing: Sysctl['whenMissing'], alsoGood: readonly string[] = []): Sysctl {
  return { path, value, alsoGood, whenMissing };
}
