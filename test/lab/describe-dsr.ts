/** Suites about direct server return: a container runtime on every node, and pods that answer at virtual addresses. */
import type { Addresses, LabHost, LabPod } from './addresses.ts';
import { describeServices, POD_PORT, type ServicesOptions, type ServicesSuite } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, service, slice } from './objects.ts';
import type { LabProcess } from './process.ts';

/** Direct server return needs Service and pod to have the same port: this is both. */
export const PORT = POD_PORT;
export const ANNOTATION = { 'kube-router.io/service.dsr': 'tunnel' };
const SOCKET = '/run/cri/runtime.sock';
const SANDBOXES = '/run/cri/sandboxes.json';

/** Daemons on nodes 1 to 3, and pods that answer at so many external addresses. */
export function describeDirect(
  title: string,
  options: Pick<ServicesOptions, 'objects'> & { readonly addresses: number; readonly withRuntime?: readonly number[] },
  body: (suite: () => ServicesSuite) => void,
): void {
  const { addresses, withRuntime = [1, 2, 3], ...rest } = options;
  const flags = [`--runtime-endpoint=unix://${SOCKET}`];
  describeServices(
    title,
    {
      ...rest,
      nodes: 4,
      daemons: [1, 2, 3].map(node => ({ node, flags })),
      prepare: async lab => {
        await answerAt(
          lab,
          Array.from({ length: addresses }, (_, index) => externalAddresses(index)),
        );
        await Promise.all(withRuntime.map(async node => await startRuntime(lab, node)));
      },
    },
    body,
  );
}

/** The external addresses of the Service with this number. */
export function externalAddresses(index: number): Addresses {
  return { ipv4: `203.0.113.${10 + index}`, ipv6: `2001:db8:203::${10 + index}` };
}

/** A fake container runtime that knows the node's pods by a process in each, as a real one does. */
export async function startRuntime(lab: Lab, number: number): Promise<LabProcess> {
  const node = lab.node(number);
  const sandboxes = await Promise.all(
    node.pods.map(async pod => {
      const pause = lab.startDaemon(pod, ['sh', '-c', 'echo $$; exec sleep 100000']);
      const { text } = await pause.waitForLine(/^\d+$/, 10_000);
      const { ipv4, ipv6 } = pod.addresses;
      return { id: pod.name, ips: [ipv4, ipv6], netns: `/proc/${text}/ns/net` };
    }),
  );
  await lab.writeFile(node, SANDBOXES, JSON.stringify(sandboxes));
  const runtime = lab.startDaemon(node, [FAIRWAY[0] ?? '', 'test/fakes/cri-main.ts', SOCKET, SANDBOXES]);
  await runtime.waitForLine(/^listening$/, 30_000);
  return runtime;
}

/** Servers that are bound to addresses which the tunnels bring only later; a UDP server on the wildcard would answer under the pod's own. */
async function answerAt(lab: Lab, vips: readonly Addresses[]): Promise<void> {
  await Promise.all(
    lab.pods.map(async pod => {
      await lab.writeFile(pod, '/proc/sys/net/ipv4/ip_nonlocal_bind', '1');
      await lab.writeFile(pod, '/proc/sys/net/ipv6/ip_nonlocal_bind', '1');
      for (const vip of vips) {
        for (const family of FAMILIES) {
          await lab.probe(pod).serve('tcp', vip[family], PORT, pod.name);
          await lab.probe(pod).serve('udp', vip[family], PORT, pod.name);
        }
      }
    }),
  );
}

export interface DirectSpec {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly loadBalancerIPs?: readonly string[];
}

/** TCP and UDP at {@link PORT} of these external addresses, without annotation unless told. */
export function directService(name: string, index: number, { spec = {}, ...extras }: DirectSpec = {}): ApiObject {
  const { ipv4, ipv6 } = externalAddresses(index);
  const ports = ['TCP', 'UDP'].map(protocol => ({ name: protocol.toLowerCase(), protocol, port: PORT, targetPort: PORT }));
  return service(
    name,
    {
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [`10.96.6.${index + 1}`, `fd00:10:96::${601 + index}`],
      externalIPs: [ipv4, ipv6],
      ports,
      ...spec,
    },
    { annotations: ANNOTATION, ...extras },
  );
}

/** A slice of each family. */
export function directSlices(name: string, pods: readonly LabPod[]): readonly ApiObject[] {
  const ports = (['TCP', 'UDP'] as const).map(protocol => ({ name: protocol.toLowerCase(), protocol, port: PORT }));
  return FAMILIES.map(family =>
    slice(
      name,
      ports,
      pods.map(pod => endpoint(pod, family)),
      { family },
    ),
  );
}

const TUNNELS: Readonly<Record<Family, string>> = { ipv4: 'kube-tunnel-if', ipv6: 'kube-tunnel-v6' };

/** Addresses on a pod's tunnels, those of links alone left out; `no tunnel` where it has neither. */
export async function tunnelsOf(lab: Lab, pod: LabHost): Promise<string> {
  const printed = await lab.expectRun(pod, ['ip', '-o', 'addr', 'show', 'scope', 'global']);
  const links = await lab.expectRun(pod, ['ip', '-o', 'link']);
  const names = Object.values(TUNNELS);
  const hasTunnel = names.some(name => links.includes(name));
  const found = printed.matchAll(/^\d+: (\S+) +inet6? (\S+?)(?:\/\d+)? /gm);
  const vips = [...found].flatMap(([, name = '', address = '']) => (names.includes(name) ? [address] : []));
  return hasTunnel ? vips.sort().join(' ') : 'no tunnel';
}

/** What direct server return has left on a node, beyond what ordinary Services have there: rules, routes, sets, virtual services by mark. */
export async function directTraces(lab: Lab, node: LabHost): Promise<string> {
  const [rules, routes, sets, servers, ...tables] = await Promise.all([
    Promise.all(['-4', '-6'].map(async family => await lab.expectRun(node, ['ip', family, 'rule']))),
    Promise.all(['-4', '-6'].map(async family => (await lab.run(node, ['ip', family, 'route', 'show', 'table', '78'])).stdout)),
    lab.expectRun(node, ['ipset', 'list', '-n']),
    lab.expectRun(node, ['ipvsadm', '-Sn']),
    lab.expectRun(node, ['iptables-save', '-t', 'mangle']),
    lab.expectRun(node, ['ip6tables-save', '-t', 'mangle']),
  ]);
  const lines = (text: string, pattern: RegExp): readonly string[] => text.split('\n').filter(line => pattern.test(line));
  return [
    ...lines(rules.join(''), /lookup 7[89]/),
    ...lines(routes.join(''), /./),
    ...lines(sets, /direct/),
    ...lines(servers, /^-A -f|-i( |$)/),
    ...lines(tables.join(''), /direct|TCPMSS/),
  ].join('\n');
}
