/** Who listens on the ports that the daemon wants. */
import { messageOf } from '../../errors.ts';
import type { CommandRunner } from '../../kernel/command.ts';
import { type Examiner, type Finding, ok, warning } from './finding.ts';

export interface WantedPort {
  readonly port: number;
  readonly flag: string;
  /** What does not work while another has it. */
  readonly use: string;
}

export interface PortsOptions {
  readonly runner: CommandRunner;
  readonly wanted: readonly WantedPort[];
  /** Ports that Services may have on the node: first and last. */
  readonly nodePorts: readonly [number, number];
}

/** A TCP socket that listens. */
export interface Listener {
  readonly port: number;
  /** Programs with their process ids: `node 123`; '' where that is not told. */
  readonly programs: string;
}

/** Ours, where the daemon runs. */
const OURS = /\b(?:node|fairway|gobgpd)\b/;

export function portsExaminer({ runner, wanted, nodePorts }: PortsOptions): Examiner {
  return {
    title: 'Ports',
    examine: async signal => {
      try {
        const { stdout } = await runner.run({ argv: ['ss', '-H', '-l', '-t', '-n', '-p'] }, signal);
        return judgePorts(parseListeners(stdout), wanted, nodePorts);
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        return [warning('ports', `who listens cannot be told: ${messageOf(thrown)}`)];
      }
    },
  };
}

export function judgePorts(
  listeners: readonly Listener[],
  wanted: readonly WantedPort[],
  [first, last]: readonly [number, number],
): readonly Finding[] {
  const ofWanted = wanted.map(({ port, flag, use }) => {
    const users = [...new Set(listeners.filter(each => each.port === port).map(({ programs }) => programs))];
    const subject = `port ${port}`;
    if (users.length === 0) return ok(subject, `free (${flag})`);
    const shown = users.join(', ') || 'another program';
    if (users.every(each => OURS.test(each)))
      return ok(subject, `${shown} listens, which looks like the daemon itself (${flag})`);
    return warning(subject, `${shown} listens there, and ${use}; stop it, or choose another port by ${flag}`);
  });
  const others = listeners.filter(({ port, programs }) => port >= first && port <= last && !OURS.test(programs));
  if (others.length === 0) return ofWanted;
  const named = [...new Set(others.map(({ port, programs }) => `${port}${programs === '' ? '' : ` (${programs})`}`))].join(', ');
  return [
    ...ofWanted,
    warning(
      'node ports',
      `${named} within ${first}-${last} belong to programs of the host: a Service of one of these ports takes it from them`,
    ),
  ];
}

/** Lines of `ss -Hltnp`: `LISTEN 0 4096 [::]:179 [::]:* users:(("gobgpd",pid=12,fd=3))`. */
export function parseListeners(text: string): readonly Listener[] {
  return text.split('\n').flatMap(line => {
    const [, , , local = ''] = line.trim().split(/\s+/);
    const port = Number(/:(\d+)$/.exec(local)?.[1]);
    if (!Number.isInteger(port)) return [];
    const programs = [...line.matchAll(/\("([^"]+)",pid=(\d+)/g)].map(([, name, pid]) => `${name} ${pid}`);
    return [{ port, programs: [...new Set(programs)].join(', ') }];
  });
}
