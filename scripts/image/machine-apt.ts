/** Where this machine has its Debian packages from: what is built on it has them from the same place. */
import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { output } from './command.ts';

export interface MachineApt {
  /** Such as `bookworm`. */
  readonly suite: string;
  /** Entries for sources.list(5) or its deb822 form, a text each; none: Debian's own archive. */
  readonly sources: readonly string[];
  /** Lines for apt.conf(5): proxies and the like. */
  readonly options: readonly string[];
  /** What is known of the archive's state: changes when apt-get update found something new. */
  readonly releases: readonly string[];
}

/** Images are of this release: its gobgpd is the version that the daemon speaks to. */
const SUITE = 'bookworm';

export async function machineApt(): Promise<MachineApt> {
  const files = globSync(['/etc/apt/sources.list', '/etc/apt/sources.list.d/*.{list,sources}']).sort();
  const texts = await Promise.all(files.map(path => readFile(path, 'utf8')));
  const releases = globSync('/var/lib/apt/lists/*_InRelease').sort();
  return {
    suite: SUITE,
    sources: texts.map(text => sourcesOf(text, SUITE)).filter(text => text !== ''),
    options: transferOptions(await output(['apt-config', 'dump'])),
    releases: await Promise.all(releases.map(path => readFile(path, 'utf8'))),
  };
}

/** Those entries of a file that are the suite's, its updates and its security updates; other software's archives are left out. */
export function sourcesOf(text: string, suite: string): string {
  const names = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  const isOneLineForm = /^\s*deb(-src)?\s/m.test(text);
  const entries = isOneLineForm ? text.split('\n') : text.split(/\n\s*\n/);
  const kept = entries
    .map(entry => entry.replace(/^\s*#.*\n?/gm, '').trim())
    .filter(entry => {
      const found = isOneLineForm
        ? /^deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)\s+(.*)$/.exec(entry)?.slice(1)
        : [/^Suites:\s*(.*)$/im.exec(entry)?.[1], /^Components:\s*(.*)$/im.exec(entry)?.[1]];
      const [suites = '', components = ''] = found ?? [];
      const isOff = /^Enabled:\s*no\b/im.test(entry);
      return !isOff && components.split(/\s+/).includes('main') && suites.split(/\s+/).every(name => names.has(name));
    });
  return kept.length === 0 ? '' : `${kept.join(isOneLineForm ? '\n' : '\n\n')}\n`;
}

/** Of `apt-config dump`: how archives are reached and how old they may be. */
export function transferOptions(dump: string): readonly string[] {
  return dump
    .split('\n')
    .filter(line => /^Acquire::(?:https?::|Check-Valid-Until |Check-Date |Retries )/.test(line) && !line.endsWith('"";'));
}
