/** How often the lab's kernels say that they refuse something. */
import type { Lab } from './lab.ts';

/**
 * By default the kernel sends one host no more than six ICMP errors at once and one a second then, and all hosts together no more than fifty
 * at once and a thousand a second: tests ask faster whether they are refused. Only what the masks leave out is under neither limit.
 */
export async function liftIcmpLimits(lab: Lab): Promise<void> {
  await Promise.all(
    [...lab.nodes, lab.router].flatMap(host => [
      lab.writeFile(host, '/proc/sys/net/ipv4/icmp_ratemask', '0'),
      lab.writeFile(host, '/proc/sys/net/ipv6/icmp/ratemask', '\n'),
    ]),
  );
}
