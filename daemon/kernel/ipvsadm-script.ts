/** Virtual services as lines for `ipvsadm -R` (ipvsadm(8), COMMANDS): pure text. */
import { familyOf, withPort } from '../net/address.ts';
import type { Protocol } from '../net/port.ts';
import type { Change } from '../reconcile/driver.ts';
import type { Destination, Forwarding, Listener, VirtualServer } from '../reconcile/tables.ts';
import { destinationKey, listenerFamily, sameDestination, sameVirtualService } from '../reconcile/tables.ts';

const PROTOCOL_OPTION: Readonly<Record<Protocol, string>> = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' };
const FORWARDING_OPTION: Readonly<Record<Forwarding, string>> = { masquerade: '-m', tunnel: '-i', route: '-g' };

/** Seconds: the longest persistence ipvsadm accepts (31 days). */
const MAX_PERSISTENCE_SECONDS = 31 * 86_400;
const MAX_WEIGHT = 2 ** 31 - 1;

/**
 * The lines for one change. An update states only what differs: `-E` (which sets scheduler, persistence and flags all anew: what it does
 * not name is cleared), then destinations that come, then those that change, then those that go, so that a service is never empty on
 * the way. Nothing is deleted to be added again: the kernel keeps deleted destinations for a while and every add searches them.
 */
export function virtualServerLines(change: Change<VirtualServer>): readonly string[] {
  switch (change.op) {
    case 'create':
      return [
        serviceLine('-A', change.to),
        ...change.to.destinations.map(destination => destinationLine('-a', change.to.listener, destination)),
      ];
    case 'update':
      return updateLines(change.from, change.to);
    case 'delete':
      return [`-D ${listenerOption(change.from.listener)}`];
  }
}

function updateLines(from: VirtualServer, to: VirtualServer): readonly string[] {
  const before = new Map(from.destinations.map(destination => [destinationKey(destination), destination]));
  const added: string[] = [];
  const edited: string[] = [];
  for (const destination of to.destinations) {
    const key = destinationKey(destination);
    const former = before.get(key);
    before.delete(key);
    if (former === undefined) added.push(destinationLine('-a', to.listener, destination));
    else if (!sameDestination(former, destination)) edited.push(destinationLine('-e', to.listener, destination));
  }
  const removed = Array.from(before.keys(), key => `-d ${listenerOption(to.listener)} -r ${key}`);
  return [...(sameVirtualService(from, to) ? [] : [serviceLine('-E', to)]), ...added, ...edited, ...removed];
}

function serviceLine(command: '-A' | '-E', server: VirtualServer): string {
  const persistence = server.persistenceSeconds > 0 ? ` -p ${server.persistenceSeconds}` : '';
  const flags = server.schedulerFlags.length > 0 ? ` -b ${server.schedulerFlags.join(',')}` : '';
  return `${command} ${listenerOption(server.listener)} -s ${server.scheduler}${persistence}${flags}`;
}

function destinationLine(command: '-a' | '-e', listener: Listener, destination: Destination): string {
  const forwarding = FORWARDING_OPTION[destination.forwarding];
  return `${command} ${listenerOption(listener)} -r ${destinationKey(destination)} ${forwarding} -w ${destination.weight}`;
}

/** `-t 10.96.0.1:80`, `-f 4660 -6`. */
function listenerOption(listener: Listener): string {
  return listener.by === 'address'
    ? `${PROTOCOL_OPTION[listener.protocol]} ${withPort(listener.address, listener.port)}`
    : `-f ${listener.mark}${listener.family === 'ipv6' ? ' -6' : ''}`;
}

/**
 * Why ipvsadm itself would not take this service, or undefined where it would. What the tool (and not the kernel) refuses ends its whole
 * run and leaves the lines after it undone, so such a line is never written.
 */
export function refusalOf(server: VirtualServer): string | undefined {
  const { listener } = server;
  if (!/^[a-z0-9_-]{1,15}$/.test(server.scheduler)) return `'${server.scheduler}' is no name of an IPVS scheduler`;
  const flag = server.schedulerFlags.find(name => !/^flag-[123]$/.test(name));
  if (flag !== undefined) return `'${flag}' is no scheduler flag: there are flag-1, flag-2 and flag-3`;
  if (!isWhole(server.persistenceSeconds, 0, MAX_PERSISTENCE_SECONDS)) {
    return `a persistence of ${server.persistenceSeconds} s is not within 0 to ${MAX_PERSISTENCE_SECONDS}`;
  }
  if (listener.by === 'mark' && !isWhole(listener.mark, 1, 0xffff_ffff)) return `${listener.mark} is no firewall mark`;
  if (listener.by === 'address' && !isWhole(listener.port, server.persistenceSeconds > 0 ? 0 : 1, 0xffff)) {
    return `it cannot listen on port ${listener.port}`;
  }
  for (const destination of server.destinations) {
    const refusal = destinationRefusal(listener, destination);
    if (refusal !== undefined) return `destination ${destinationKey(destination)}: ${refusal}`;
  }
  return undefined;
}

function destinationRefusal(listener: Listener, destination: Destination): string | undefined {
  if (!isWhole(destination.weight, 0, MAX_WEIGHT)) return `${destination.weight} is no weight`;
  if (!isWhole(destination.port, 0, 0xffff)) return `${destination.port} is no port`;
  if (familyOf(destination.address) !== listenerFamily(listener)) return 'it is of another address family';
  // ipvsadm silently writes the service's port in its place, and then the destination is never found again.
  if (destination.forwarding !== 'masquerade' && listener.by === 'address' && destination.port !== listener.port) {
    return `only masquerading can change the port (to reach it by ${destination.forwarding}, use port ${listener.port})`;
  }
  return undefined;
}

function isWhole(value: number, least: number, most: number): boolean {
  return Number.isInteger(value) && value >= least && value <= most;
}
