/** The {@link Beacon} of suites about Services: a Service that moves to another address and endpoint. Addresses go last. */
import type { Beacon } from './beacon.ts';
import type { Lab } from './lab.ts';
import { localAddresses } from './node-state.ts';
import { type ApiObject, service, slice } from './objects.ts';

const BEACON = 'beacon';

export function serviceBeacon(lab: Lab): Beacon {
  return {
    objects,
    async look(node, revision, said) {
      const [now, before] = [addressOf(revision), addressOf(revision - 1)];
      const isBalanced = (text: string): boolean =>
        new RegExp(`^TCP +${hexadecimal(now)}:0001 .*\n +-> ${hexadecimal(endpointOf(revision))}:`, 'm').test(text) ||
        text.includes(`-a -t ${now}:1 -r ${endpointOf(revision)}:1 `);
      // The file has gaps where other namespaces of one kernel have services as well; the tool has none, and costs a process.
      let servers = await lab.readFile(node, '/proc/net/ip_vs');
      if (!isBalanced(servers) && said !== undefined && said.includes('virtualServer changed'))
        servers = await lab.expectRun(node, ['ipvsadm', '-Sn']);
      const addresses = [...(await localAddresses(lab, node))];
      // One batch removes the beacon's address and others, in any order; the daemon says when it is through.
      const hasRemoved = said === undefined || /address changed .*deleted=[1-9]/.test(said);
      return {
        hasArrived: isBalanced(servers) && !addresses.includes(before) && hasRemoved,
        shown: { now, before, servers, addresses },
      };
    },
  };
}

/** Services and slices may come by ways of their own, so that the beacon shows in both. */
function objects(revision: number): readonly ApiObject[] {
  return [
    service(BEACON, { clusterIP: addressOf(revision), ports: [{ name: 'beacon', port: 1 }] }),
    slice(BEACON, [{ name: 'beacon', port: 1 }], [{ addresses: [endpointOf(revision)], conditions: { ready: true } }]),
  ];
}

function addressOf(revision: number): string {
  return `10.96.254.${(revision + 256) % 256}`;
}

function endpointOf(revision: number): string {
  return `10.96.253.${(revision + 256) % 256}`;
}

/** An IPv4 address as /proc/net/ip_vs writes it. */
function hexadecimal(address: string): string {
  return Buffer.from(address.split('.').map(Number)).toString('hex').toUpperCase();
}
