/** Further machines of a lab, for peers: each on a LAN of its own choice, with the router as its way elsewhere. */
import { type Addresses, IPV4_LENGTH, IPV6_LENGTH, type LabHost, routerOn } from '../addresses.ts';
import type { Lab } from '../lab.ts';

/** Where the namespaces are: in none of them. */
export const PLACE: LabHost = { name: '', addresses: { ipv4: '', ipv6: '' } };

/** A namespace on a LAN, with this host part in both families (`101`: 192.168.1.101 and fd00:192:168:1::101). */
export async function addLanHost(lab: Lab, name: string, lan: 1 | 3, hostPart: number): Promise<LabHost> {
  const addresses: Addresses = { ipv4: `192.168.${lan}.${hostPart}`, ipv6: `fd00:192:168:${lan}::${hostPart}` };
  const gateway = routerOn(lan);
  const batch = (namespace: string, lines: readonly string[]): Promise<string> =>
    lab.expectRun(PLACE, ['ip', '-n', namespace, '-batch', '-'], { input: `${lines.join('\n')}\n` });
  await lab.expectRun(PLACE, ['ip', 'netns', 'add', name]);
  await batch(lab.router.name, [
    `link add ${name} type veth peer name eth0 netns ${name}`,
    `link set ${name} master lan${lan} up`,
  ]);
  await batch(name, [
    'link set lo up',
    `addr add ${addresses.ipv4}/${IPV4_LENGTH} dev eth0`,
    `addr add ${addresses.ipv6}/${IPV6_LENGTH} dev eth0 nodad`,
    'link set eth0 up',
    `route add default via ${gateway.ipv4}`,
    `route add ::/0 via ${gateway.ipv6}`,
  ]);
  return { name, addresses };
}
