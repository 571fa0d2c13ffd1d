/** Whether packets of pods fit through the links they are to take. */
import { FairwayError, messageOf } from '../../errors.ts';
import type { CommandRunner } from '../../kernel/command.ts';
import { isOverlayLink } from '../../reconcile/routing-tables.ts';
import { type Examiner, type Finding, ok, warning } from './finding.ts';

export interface LinksOptions {
  readonly runner: CommandRunner;
  /** The MTU that the CNI file gives pods; undefined where there is no such file or it gives none. */
  readonly cniMtu: () => Promise<number | undefined>;
}

const BRIDGE = 'kube-bridge';

export function linksExaminer({ runner, cniMtu }: LinksOptions): Examiner {
  return {
    title: 'MTU',
    examine: async signal => {
      try {
        const mtus = mtusOf(await asked(runner, ['ip', '-j', 'link', 'show'], signal));
        const nics = defaultLinksOf(await asked(runner, ['ip', '-j', 'route', 'show', 'default'], signal));
        return judgeMtus(mtus, nics, await cniMtu());
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        return [warning('links', `they cannot be read: ${messageOf(thrown)}`)];
      }
    },
  };
}

/** Of each link by name, those of default routes, and the MTU in the CNI file. */
export function judgeMtus(
  mtus: ReadonlyMap<string, number>,
  nics: readonly string[],
  cniMtu: number | undefined,
): readonly Finding[] {
  const wires = nics.flatMap(name => mtus.get(name) ?? []);
  if (wires.length === 0) return [ok('links', 'there is no default route, and so nothing to compare with')];
  const wire = Math.min(...wires);
  const tunnels = [...mtus].filter(([name]) => isOverlayLink(name));
  const narrowest = Math.min(wire, ...tunnels.map(([, mtu]) => mtu));
  const findings: Finding[] = tunnels
    .filter(([, mtu]) => mtu >= wire)
    .map(([name, mtu]) =>
      warning(
        name,
        `its MTU ${mtu} leaves no room for its header in the ${wire} of ${nics.join(', ')}: large packets are lost; delete the link, it is made again`,
      ),
    );
  const bridge = mtus.get(BRIDGE);
  if (bridge !== undefined && bridge > narrowest) {
    findings.push(
      warning(
        BRIDGE,
        `its MTU ${bridge} is more than the ${narrowest} of the way to other nodes: large packets of pods are lost or fragmented; use --auto-mtu`,
      ),
    );
  }
  if (cniMtu !== undefined && cniMtu > narrowest) {
    findings.push(
      warning(
        'CNI file',
        `it gives pods an MTU of ${cniMtu}, and the way to other nodes has ${narrowest}: take "mtu" out of it, or use --auto-mtu`,
      ),
    );
  }
  return findings.length > 0 ? findings : [ok('links', `pods' packets fit (${narrowest} on the way to other nodes)`)];
}

async function asked(runner: CommandRunner, argv: readonly [string, ...string[]], signal: AbortSignal): Promise<unknown> {
  const { status, stdout, stderr } = await runner.run({ argv }, signal);
  if (status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${stderr.trim()}`);
  return JSON.parse(stdout.trim() || '[]');
}

function mtusOf(links: unknown): ReadonlyMap<string, number> {
  return new Map(
    recordsOf(links).flatMap(({ ifname, mtu }) =>
      typeof ifname === 'string' && typeof mtu === 'number' ? [[ifname, mtu] as const] : [],
    ),
  );
}

function defaultLinksOf(routes: unknown): readonly string[] {
  return [...new Set(recordsOf(routes).flatMap(({ dev }) => (typeof dev === 'string' ? [dev] : [])))];
}

function recordsOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (!Array.isArray(value)) return [];
  return value.filter((each): each is Readonly<Record<string, unknown>> => typeof each === 'object' && each !== null);
}
