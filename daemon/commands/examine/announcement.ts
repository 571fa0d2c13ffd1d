/** Whether load-balancer addresses can be answered for on the links that are named for it. */
import { messageOf } from '../../errors.ts';
import type { CommandRunner } from '../../kernel/command.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

export interface AnnouncementOptions {
  readonly runner: CommandRunner;
  /** Those of --announce-interfaces. */
  readonly links: readonly string[];
}

export function announcementExaminer({ runner, links }: AnnouncementOptions): Examiner {
  return {
    title: 'Local network',
    examine: async signal => {
      if (links.length === 0) return [ok('links', 'those that have the addresses of this node (--announce-interfaces)')];
      try {
        const { stdout } = await runner.run({ argv: ['ip', '-j', 'link', 'show'] }, signal);
        return judgeAnnouncingLinks(flagsIn(JSON.parse(stdout)), links);
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        return [warning('links', `they cannot be read: ${messageOf(thrown)}`)];
      }
    },
  };
}

/** @param flags of each link there is, by name, as ip-link(8) shows them */
export function judgeAnnouncingLinks(
  flags: ReadonlyMap<string, readonly string[]>,
  links: readonly string[],
): readonly Finding[] {
  return links.map(link => {
    const its = flags.get(link);
    const others = [...flags.keys()].filter(name => name !== 'lo');
    const there = others.length === 0 ? 'it has none' : `there are ${others.join(', ')}`;
    if (its === undefined)
      return missing(link, `is no link of this host: nothing is announced on it; correct --announce-interfaces (${there})`);
    if (its.includes('NOARP'))
      return missing(link, 'knows no ARP (NOARP): nobody asks there for an address; name another link by --announce-interfaces');
    if (!its.includes('UP')) return warning(link, 'is down: nothing is announced on it until it is up');
    return ok(link, 'announces (--announce-interfaces)');
  });
}

function flagsIn(links: unknown): ReadonlyMap<string, readonly string[]> {
  if (!Array.isArray(links)) return new Map();
  return new Map(
    links.flatMap((link: unknown) => {
      if (typeof link !== 'object' || link === null) return [];
      const { ifname, flags } = link as Readonly<Record<string, unknown>>;
      return typeof ifname === 'string' && Array.isArray(flags) ? [[ifname, flags.map(String)] as const] : [];
    }),
  );
}
