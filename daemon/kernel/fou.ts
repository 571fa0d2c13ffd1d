/** The driver of UDP ports that take GUE packets in: ip-fou(8). */
import { FairwayError } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type FouPort, fouPortKey } from '../reconcile/routing-tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, textOf } from './ip-batch.ts';
import { loadModules } from './kernel-modules.ts';

/** kube-router's port and our default: whoever made it, it is ours. */
const WELL_KNOWN_PORT = 5555;

export interface FouDriverOptions {
  readonly runner: CommandRunner;
  /** What the flag says: ours too, in whichever run it was made. Others are ours where they are expected. */
  readonly configuredPort: number;
}

/** What ip says where the kernel has no FoU at all. */
const ABSENT = /Error talking to the kernel|No such file or directory|not supported/;

/** A kernel without FoU has no such ports; making one is refused with the remedy, after its modules were asked for. */
export function fouDriver({ runner, configuredPort }: FouDriverOptions): TableDriver<FouPort> {
  const read = async (expected: ReadonlyMap<string, FouPort>, signal: AbortSignal): Promise<ReadonlyMap<string, FouPort>> => {
    const argv = ['ip', '-j', 'fou', 'show'] as const;
    const result = await runner.run({ argv }, signal);
    if (result.status !== 0 && ABSENT.test(result.stderr)) return new Map();
    if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    const found = new Map<string, FouPort>();
    for (const port of guePortsOf(result.stdout)) {
      const key = fouPortKey(port.family, port.port);
      const known = expected.get(key);
      const isOurs = port.port === WELL_KNOWN_PORT || port.port === configuredPort;
      if (known !== undefined || isOurs) found.set(key, known ?? port);
    }
    return found;
  };

  const attempt = (changes: readonly Change<FouPort>[], signal: AbortSignal): ReturnType<typeof applyBatch> => {
    const asked = new Map(changes.map(change => [change.key, change.op === 'delete' ? change.from : change.to]));
    const readAnew = (): Promise<ReadonlyMap<string, FouPort>> => read(asked, signal);
    return applyBatch({ runner, linesOf, nameOf, remedyOf, isDone, read: readAnew }, changes, signal);
  };

  return {
    read,
    async apply(changes, signal) {
      const { failed } = await attempt(changes, signal);
      const lacking = changes.filter(({ key }) => ABSENT.test(failed.get(key)?.message ?? ''));
      if (lacking.length === 0) return { failed };
      await loadModules(runner, ['fou', 'fou6'], signal);
      const second = await attempt(lacking, signal);
      const settled = new Map([...failed].filter(([key]) => !lacking.some(change => change.key === key)));
      for (const [key, error] of second.failed) settled.set(key, ABSENT.test(error.message) ? withoutFou(error) : error);
      return { failed: settled };
    },
    render: changes => textOf(changes.flatMap(linesOf)),
  };
}

function linesOf(change: Change<FouPort>): readonly string[] {
  const { family, port } = change.op === 'delete' ? change.from : change.to;
  const ofFamily = family === 'ipv6' ? ' -6' : '';
  return [change.op === 'delete' ? `fou del port ${port}${ofFamily}` : `fou add port ${port} gue${ofFamily}`];
}

function nameOf({ family, port }: FouPort): string {
  return `GUE port ${port} (${family})`;
}

function remedyOf({ port }: FouPort, reason: string): string | undefined {
  return reason.includes('Address already in use')
    ? `another program or kind of tunnel has UDP port ${port}: see 'ss -lun' and 'ip fou show', or choose another with --overlay-encap-port`
    : undefined;
}

function isDone(change: Change<FouPort>, found: ReadonlyMap<string, FouPort>): boolean {
  return found.has(change.key) === (change.op !== 'delete');
}

function withoutFou({ message }: FairwayError): FairwayError {
  return new FairwayError(
    'FW_CAPABILITY_KERNEL',
    `${message}: the kernel has no FoU: load it with 'modprobe -a fou fou6', or use a kernel with CONFIG_NET_FOU and CONFIG_IPV6_FOU`,
  );
}

/** Those bound to no address and no link, from `[{"port":5555,"gue":null,"family":"inet6"},...]`. */
function guePortsOf(stdout: string): readonly FouPort[] {
  if (stdout.trim() === '') return [];
  let list: unknown;
  try {
    list = JSON.parse(stdout);
  } catch (cause) {
    throw unreadable({ cause });
  }
  if (!Array.isArray(list)) throw unreadable();
  return list.flatMap((shown: unknown): readonly FouPort[] => {
    if (typeof shown !== 'object' || shown === null) throw unreadable();
    const { port, family, gue, local, peer, dev } = shown as Readonly<Record<string, unknown>>;
    if (typeof port !== 'number' || gue === undefined || [local, peer, dev].some(bound => bound !== undefined)) return [];
    return [{ family: family === 'inet6' ? 'ipv6' : 'ipv4', port }];
  });
}

function unreadable(options?: ErrorOptions): FairwayError {
  return new FairwayError(
    'FW_READ_UNPARSABLE',
    "'ip -j fou show' printed no list of ports: iproute2 4.17 or newer is needed",
    options,
  );
}
