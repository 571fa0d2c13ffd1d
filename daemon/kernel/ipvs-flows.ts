/**
 * IPVS with its traces in conntrack: a UDP or SCTP flow has no end that anybody sees, so that a client that goes on using one source port would stay with
 * an endpoint that went. What a change leaves behind is forgotten when it is in, so that the next packet meets what is there now.
 */
import { asFairwayError, type FairwayError } from '../errors.ts';
import { withPort } from '../net/address.ts';
import type { Change, TableDriver } from '../reconcile/driver.ts';
import { type AddressListener, type Destination, destinationKey, type VirtualServer } from '../reconcile/tables.ts';
import type { CommandRunner } from './command.ts';
import { type AnsweredFlows, forgetFlows } from './conntrack.ts';

export interface IpvsFlowsOptions {
  readonly inner: TableDriver<VirtualServer>;
  readonly runner: CommandRunner;
  /** Flows could not be forgotten (undefined: they could again). What is owed is tried again with the next change. */
  readonly onTrouble: (error: FairwayError | undefined) => void;
}

export function forgettingFlows({ inner, runner, onTrouble }: IpvsFlowsOptions): TableDriver<VirtualServer> {
  /** By {@link nameOf}. */
  const owed = new Map<string, AnsweredFlows>();
  let isTroubled = false;
  return {
    read: inner.read.bind(inner),
    render: inner.render.bind(inner),
    async apply(changes, signal) {
      const result = await inner.apply(changes, signal);
      for (const change of changes) {
        if (result.failed.has(change.key)) continue;
        for (const flows of staleFlows(change)) owed.set(nameOf(flows), flows);
        // An endpoint that came back while its flows were owed answers again.
        if (change.op !== 'delete') for (const flows of answeredBy(change.to.destinations, change.to)) owed.delete(nameOf(flows));
      }
      if (owed.size === 0) return result;
      try {
        await forgetFlows(runner, [...owed.values()], signal);
        owed.clear();
        if (isTroubled) onTrouble(undefined);
        isTroubled = false;
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        const error = asFairwayError(thrown, 'FW_COMMAND_FAILED');
        // Without the tool nothing can ever be forgotten.
        if (error.code === 'FW_CAPABILITY_TOOL_MISSING') owed.clear();
        if (!isTroubled) onTrouble(error);
        isTroubled = true;
      }
      return result;
    },
  };
}

/**
 * What conntrack may know that is not so after the change: flows answered by destinations that went; and, where the first destination comes, flows that
 * went past IPVS and were answered, if at all, by the address itself.
 */
export function staleFlows(change: Change<VirtualServer>): readonly AnsweredFlows[] {
  const from = change.op === 'create' ? undefined : change.from;
  const to = change.op === 'delete' ? undefined : change.to;
  const server = to ?? from;
  if (server === undefined) return [];
  const there = new Set(to?.destinations.map(destinationKey));
  const gone = from?.destinations.filter(destination => !there.has(destinationKey(destination))) ?? [];
  const isFirst = (from?.destinations.length ?? 0) === 0 && there.size > 0;
  return [
    ...answeredBy(gone, server),
    ...(isFirst
      ? endlessAddressesOf(server).map(each => ({ ...flowsTo(each), answeredBy: each.address, answeringPort: each.port }))
      : []),
  ];
}

/** Flows without an end to one of the server's addresses that these of its destinations answer. */
function answeredBy(destinations: readonly Destination[], server: VirtualServer): readonly AnsweredFlows[] {
  return endlessAddressesOf(server).flatMap(listener =>
    destinations.map(({ address, port }) => ({ ...flowsTo(listener), answeredBy: address, answeringPort: port })),
  );
}

function endlessAddressesOf(server: VirtualServer): readonly AddressListener[] {
  return addressesOf(server).filter(({ protocol }) => protocol !== 'TCP');
}

function flowsTo({ protocol, address, port }: AddressListener): Pick<AnsweredFlows, 'protocol' | 'address' | 'port'> {
  return { protocol, address, port };
}

function nameOf({ protocol, address, port, answeredBy, answeringPort }: AnsweredFlows): string {
  return `${protocol} ${withPort(address, port)} ${withPort(answeredBy, answeringPort)}`;
}

/** What the packets that a virtual service takes are addressed to. */
export function addressesOf(server: VirtualServer | undefined): readonly AddressListener[] {
  if (server === undefined) return [];
  return server.listener.by === 'address' ? [server.listener] : (server.addressedTo ?? []);
}
