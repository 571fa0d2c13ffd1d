/** The driver of bridge ports: bridge(8), hairpin mode, by which a pod that is balanced to itself gets its own frames back. */
import { FairwayError } from '../errors.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import type { BridgePort } from '../reconcile/service-tables.ts';
import type { CommandRunner } from './command.ts';
import { applyBatch, type BatchLines, textOf, withUsableLinks } from './ip-batch.ts';
import { type PortState, portsOf } from './link-read.ts';

/**
 * Hairpin mode is only ever switched on. A port that is in it and not wanted may have been put so by us or by the CNI plugin (`hairpinMode` in its
 * configuration), and nothing tells which: so only ports that are expected are read, and deleting does nothing. A port goes with its pod.
 *
 * Pods come and go while we look: a port that has vanished, or is one of another bridge by now, counts as done. Whoever wants it will hear of it.
 */
export function bridgePortDriver({ runner }: { readonly runner: CommandRunner }): TableDriver<BridgePort> {
  /** All ports of all bridges: one process, however many are asked about. */
  const ports = async (signal: AbortSignal): Promise<ReadonlyMap<string, PortState>> => {
    const argv = ['ip', '-j', '-d', 'link', 'show', 'type', 'bridge_slave'] as const;
    const result = await runner.run({ argv }, signal);
    if (result.status !== 0) throw new FairwayError('FW_COMMAND_FAILED', `'${argv.join(' ')}' failed: ${result.stderr.trim()}`);
    return portsOf(result.stdout);
  };

  return {
    async read(expected, signal) {
      if (expected.size === 0) return new Map();
      const there = await ports(signal);
      return new Map(
        [...expected].filter(([, { link, bridge }]) => {
          const port = there.get(link);
          return port?.bridge === bridge && port.isHairpin;
        }),
      );
    },
    /** What is there is looked at first: a port of somebody else's bridge stays as it is. */
    async apply(changes, signal) {
      const wanted = changes.filter(({ op }) => op !== 'delete');
      const { usable, failed } = withUsableLinks(wanted, ({ link }) => link);
      if (usable.length === 0) return { failed };
      try {
        const there = await ports(signal);
        const due = usable.filter(change => !isDone(change, there));
        const { failed: refused } = await applyBatch({ runner, linesOf, nameOf, isDone, read: ports }, due, signal);
        for (const [key, error] of refused) failed.set(key, error);
      } catch (thrown) {
        if (signal.aborted || !(thrown instanceof FairwayError)) throw thrown;
        for (const { key } of usable) failed.set(key, thrown);
      }
      return { failed };
    },
    render: changes => textOf(changes.flatMap(linesOf)),
  };
}

function linesOf(change: Change<BridgePort>): BatchLines {
  return change.op === 'delete' ? [] : [`link set dev ${change.to.link} type bridge_slave hairpin on`];
}

function isDone(change: Change<BridgePort>, there: ReadonlyMap<string, PortState>): boolean {
  if (change.op === 'delete') return true;
  const port = there.get(change.to.link);
  return port?.bridge !== change.to.bridge || port.isHairpin;
}

function nameOf({ link, bridge }: BridgePort): string {
  return `hairpin mode of port '${link}' of '${bridge}'`;
}
