import assert from 'node:assert/strict';
import { answers, describeServices, POD_PORT, RANGES, sourcesSeen } from './describe-services.ts';
import { FAIRWAY } from './fleet.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';
import type { Connection, Reply } from './probe.ts';

/** `served` stays a Service's; `gone` has an address and a virtual server of kube-router's, `orphan` no more than its route. */
const VIPS = {
  served: { ipv4: '10.96.7.1', ipv6: 'fd00:10:96::701' },
  gone: { ipv4: '10.96.7.2', ipv6: 'fd00:10:96::702' },
  orphan: { ipv4: '10.96.7.3', ipv6: 'fd00:10:96::703' },
} as const;
const BOTH_PODS = 'pod-1-1 pod-2-1';
const LINK = 'kube-dummy-if';

function objects(lab: Lab): readonly ApiObject[] {
  const pods = [lab.pod(1, 1), lab.pod(2, 1)];
  return [
    service('web', {
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIPS.served.ipv4, VIPS.served.ipv6],
      ports: [{ name: 'http', port: 80, targetPort: POD_PORT }],
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        [{ name: 'http', port: POD_PORT }],
        pods.map(pod => endpoint(pod, family)),
        { family },
      ),
    ),
  ];
}

/** As kube-router leaves its routes, orphans among them; the kernel keeps those while the link has another address. */
function routesOfKubeRouter(lab: Lab): readonly string[] {
  return Object.values(VIPS).flatMap(vip =>
    FAMILIES.map(
      family =>
        `ip ${family === 'ipv6' ? '-6 ' : ''}route replace local ${vip[family]} dev ${LINK} table local proto kernel scope host src ${lab.node(1).addresses[family]} table local`,
    ),
  );
}

/** What a node looks like on which kube-router was stopped. */
function leftovers(lab: Lab): readonly string[] {
  const addresses = Object.values(VIPS).flatMap(({ ipv4, ipv6 }) => [
    `ip addr add ${ipv4}/32 dev ${LINK} scope link`,
    `ip addr add ${ipv6}/128 dev ${LINK} nodad`,
  ]);
  return [
    `ip link add ${LINK} type dummy`,
    `ip link set ${LINK} up`,
    ...addresses,
    ...routesOfKubeRouter(lab),
    `ip addr del ${VIPS.orphan.ipv4}/32 dev ${LINK}`,
    `ip addr del ${VIPS.orphan.ipv6}/128 dev ${LINK}`,
    'sysctl -w net.ipv4.vs.conntrack=1',
    'sysctl -w net.ipv4.ip_forward=1',
    // With its rule come connection tracking and, later, the certainty that no connection is translated anew in its midst.
    `iptables -t nat -A POSTROUTING ! -s 10.244.1.0/24 ! -d 10.244.1.0/24 -m ipvs --vdir ORIGINAL --vmethod MASQ -j SNAT --to-source ${lab.node(1).addresses.ipv4} --random-fully`,
    'ipset create kube-router-svip hash:ip timeout 0',
    `ipset add kube-router-svip ${VIPS.served.ipv4}`,
    `ipset add kube-router-svip ${VIPS.gone.ipv4}`,
    'ipset create kube-router-svip-prt hash:ip,port timeout 0',
    `ipset add kube-router-svip-prt ${VIPS.served.ipv4},tcp:80`,
    'ipset create kube-router-local-ips hash:ip timeout 0',
    ...[VIPS.served.ipv4, VIPS.gone.ipv4].flatMap(vip => [
      `ipvsadm -A -t ${vip}:80 -s rr`,
      `ipvsadm -a -t ${vip}:80 -r ${lab.pod(2, 1).addresses.ipv4}:${POD_PORT} -m`,
    ]),
  ];
}

async function runAll(lab: Lab, commands: readonly string[]): Promise<void> {
  for (const command of commands) await lab.expectRun(lab.node(1), command.split(' '));
}

/** Every local route of ours or kube-router's: those of the kernel name the address itself, or have metric 0. */
async function routesInPlace(lab: Lab): Promise<string> {
  const shown = await lab.expectRun(lab.node(1), ['ip', '-o', 'route', 'show', 'table', 'all', 'dev', LINK, 'type', 'local']);
  const isKernels = (line: string): boolean => line.includes(' metric 0 ') || /^local (\S+) .* src \1 $/.test(line);
  return shown
    .split('\n')
    .filter(line => line !== '' && !isKernels(line))
    .sort()
    .join('\n');
}

/** All that the node's routing and addresses say of virtual addresses. */
async function traces(lab: Lab, pattern: RegExp): Promise<readonly string[]> {
  const listed = await Promise.all([
    lab.expectRun(lab.node(1), ['ip', 'route', 'show', 'table', 'all']),
    lab.expectRun(lab.node(1), ['ip', '-o', 'addr']),
    lab.expectRun(lab.node(1), ['ipvsadm', '-Sn']),
  ]);
  return listed
    .join('')
    .split('\n')
    .filter(line => pattern.test(line));
}

describe('a node that kube-router left', () => {
  let held: Connection | undefined;

  describeServices(
    'with its local routes, addresses, virtual servers and sets',
    {
      objects,
      prepare: async lab => {
        await runAll(lab, leftovers(lab));
        held = await lab.probe(lab.node(1)).hold({ transport: 'tcp', address: VIPS.served.ipv4, port: 80 });
      },
    },
    suite => {
      const tcp = (address: string) => ({ transport: 'tcp', address, port: 80 }) as const;
      const daemon = () => {
        const [fleet] = suite().fleets;
        if (fleet === undefined) throw new Error('there is one fleet');
        return { fleet, process: fleet.daemon(suite().lab.node(1)) };
      };
      const isReady = /ready: the first round is in/;
      const restart = async (): Promise<void> => {
        await daemon().fleet.startOn(suite().lab.node(1)).waitForLine(isReady, 60_000);
      };

      const staysAlive = async (when: string): Promise<void> => {
        const reply = await held?.say(when);
        assert.ok(reply?.outcome === 'answer', `${when}: ${JSON.stringify(reply)}`);
        assert.equal(reply.server, 'pod-2-1');
        assert.equal(reply.peer, suite().lab.node(1).addresses.ipv4);
      };

      it('is taken over: a connection from the node goes on, and new ones are balanced and come from the node', async () => {
        const { lab } = suite();
        await staysAlive('after the start');
        for (const family of FAMILIES) {
          const vip = VIPS.served[family];
          assert.equal(await answers(lab, lab.node(1), tcp(vip)), BOTH_PODS);
          assert.deepEqual(sourcesSeen(await lab.probe(lab.node(1)).burst(tcp(vip), 4)), [lab.node(1).addresses[family]]);
          assert.equal(await answers(lab, lab.pod(1, 2), tcp(vip)), BOTH_PODS);
        }
      });

      it("has the kernel's own routes again, and nothing of the addresses that no Service has", async () => {
        const { lab } = suite();
        assert.equal(await routesInPlace(lab), '');
        assert.deepEqual(await traces(lab, /10\.96\.7\.[23]\b|fd00:10:96::70[23]/), []);
      });

      it('is taken over once more while the node connects: every connection is answered', async () => {
        const { lab } = suite();
        await daemon().process.stop();
        await runAll(lab, routesOfKubeRouter(lab));
        assert.notEqual(await routesInPlace(lab), '');
        const again = daemon().fleet.startOn(lab.node(1));
        const replies: Reply[] = [];
        const start = { isUnderWay: true };
        const started = again.waitForLine(isReady, 60_000).finally(() => {
          start.isUnderWay = false;
        });
        while (start.isUnderWay) {
          for (const family of FAMILIES) replies.push(await lab.probe(lab.node(1)).connect(tcp(VIPS.served[family])));
        }
        await started;
        assert.deepEqual([...new Set(replies.map(({ outcome }) => outcome))], ['answer']);
        assert.equal(await routesInPlace(lab), '');
        assert.deepEqual(await traces(lab, /10\.96\.7\.[23]\b|fd00:10:96::70[23]/), []);
        await staysAlive('after the second start');
      });

      it('without ipset: the routes name the node as the source, and are given back when ipset is there', async () => {
        const { lab } = suite();
        await daemon().process.stop();
        // Each command has its own view of the file systems.
        const hide = ['sh', '-c', 'mount --bind /bin/false /usr/sbin/ipset && exec "$@"', 'sh'];
        const flags = [
          '--manifests=/run/fairway-manifests',
          '--hostname-override=node1',
          '--run-router=false',
          '--run-firewall=false',
        ];
        const degraded = lab.startDaemon(lab.node(1), [...hide, ...FAIRWAY, ...flags, ...RANGES]);
        await degraded.waitForLine(isReady, 60_000);
        for (const family of FAMILIES) {
          const node = lab.node(1).addresses[family];
          const route = await lab.expectRun(lab.node(1), ['ip', 'route', 'get', VIPS.served[family]]);
          assert.ok(route.includes(` src ${node} `), route);
          assert.deepEqual(sourcesSeen(await lab.probe(lab.node(1)).burst(tcp(VIPS.served[family]), 6)), [node]);
          assert.equal(await answers(lab, lab.node(1), tcp(VIPS.served[family])), BOTH_PODS);
        }
        await staysAlive('without ipset');
        await degraded.stop();
        await restart();
        assert.equal(await routesInPlace(lab), '');
        for (const family of FAMILIES) assert.equal(await answers(lab, lab.node(1), tcp(VIPS.served[family])), BOTH_PODS);
        await staysAlive('with ipset again');
      });

      it('loses every trace of a Service that is deleted', async () => {
        const { lab, cluster } = suite();
        held?.close();
        await cluster.remove(...objects(lab));
        assert.deepEqual(await traces(lab, /10\.96\.7\.|fd00:10:96::70/), []);
      });

      it('loses the link, its routes and all else by cleanup, also what kube-router left since', async () => {
        const { lab, cluster } = suite();
        await cluster.put(...objects(lab));
        await runAll(lab, routesOfKubeRouter(lab));
        await daemon().fleet.stop();
        await daemon().fleet.cleanup();
        assert.deepEqual(await traces(lab, /10\.96\.|fd00:10:96|kube-dummy-if/), []);
      });
    },
  );
});
