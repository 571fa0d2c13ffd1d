import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { answers, describeServices, POD_PORT } from './describe-services.ts';
import { footprint } from './fleet.ts';
import type { Lab } from './lab.ts';
import { virtualServers } from './node-state.ts';
import { type ApiObject, endpoint, FAMILIES, service, slice } from './objects.ts';
import { until } from './until.ts';

const VIP = { ipv4: '10.96.8.1', ipv6: 'fd00:10:96::801' };
const TARGET = { transport: 'tcp', address: VIP.ipv4, port: 80 } as const;
const ALL = 'pod-1-1 pod-2-1 pod-3-1';

/** What other software has on the node before the daemon comes: one line a command. */
const FOREIGN = [
  // Virtual servers inside --excluded-cidrs, balanced to pods, and one made by firewall mark.
  'ipvsadm -A -t 172.20.0.1:80 -s wlc',
  'ipvsadm -a -t 172.20.0.1:80 -r 10.244.1.11:8080 -m -w 5',
  'ipvsadm -A -u [fd00:20::1]:53 -s sh',
  'ip link add keepalived0 type dummy',
  'ip link set keepalived0 up',
  'ip addr add 172.20.0.1/32 dev keepalived0',
  'ip addr add 172.20.0.2/24 dev keepalived0',
  'ip addr add fd00:20::1/128 dev keepalived0 nodad',
  'ip route add 198.51.100.0/24 dev keepalived0',
  'ipset create blocklist hash:net',
  'ipset add blocklist 198.18.0.0/15',
  'ipset create kube-router-of-others hash:ip',
  'ipset add kube-router-of-others 1.2.3.4',
  'iptables -N CUSTOM-INPUT',
  'iptables -A CUSTOM-INPUT -p tcp --dport 1234 -j DROP',
  'iptables -A INPUT -m set --match-set blocklist src -j DROP',
  'iptables -A INPUT -j CUSTOM-INPUT',
  'iptables -A FORWARD -s 198.51.100.7/32 -j DROP',
  'iptables -t nat -A POSTROUTING -s 198.51.100.0/24 -j MASQUERADE',
  'iptables -t mangle -A PREROUTING -p tcp --dport 4321 -j MARK --set-mark 7',
  'ip6tables -N CUSTOM-INPUT',
  'ip6tables -A INPUT -j CUSTOM-INPUT',
].map(line => line.split(' '));

function web(lab: Lab, nodes: readonly number[]): readonly ApiObject[] {
  return [
    service('web', {
      ipFamilies: ['IPv4', 'IPv6'],
      clusterIPs: [VIP.ipv4, VIP.ipv6],
      ports: [{ name: 'http', port: 80, targetPort: POD_PORT }],
    }),
    ...FAMILIES.map(family =>
      slice(
        'web',
        [{ name: 'http', port: POD_PORT }],
        nodes.map(node => endpoint(lab.pod(node, 1), family)),
        { family },
      ),
    ),
  ];
}

/** What `FOREIGN` and later tests made, as it shows up in the listings, without the lines of ours. */
async function foreignOnly(lab: Lab): Promise<string> {
  const text = await footprint(lab, lab.node(1));
  const lines = text.split('\n');
  const isOurs = (line: string): boolean =>
    /FAIRWAY|kube-dummy-if|10\.96\.|fd00:10:96/.test(line) || /^-[Aa] .*(30\d\d\d)/.test(line);
  const kept: string[] = [];
  let isSetOfOurs = false;
  for (const line of lines) {
    if (line.startsWith('$ ')) isSetOfOurs = false;
    if (line.startsWith('Name: ')) isSetOfOurs = /^Name: (inet6:)?(kube-router-(svip|svip-prt|local-ips)|fairway-.*)$/.test(line);
    // Memory and reference counts move by themselves.
    if (!isSetOfOurs && !isOurs(line) && !/^(Size in memory|References)/.test(line)) kept.push(line);
  }
  return kept.join('\n');
}

describe('a node that others use too', () => {
  let before = '';
  let wholeBefore = '';
  describeServices(
    'with foreign virtual servers, rules, sets and addresses',
    {
      daemons: [{ node: 1, flags: ['--excluded-cidrs=172.20.0.0/16,fd00:20::/64', '--audit-period=2s'] }],
      objects: lab => web(lab, [1, 2, 3]),
      prepare: async lab => {
        for (const argv of FOREIGN) await lab.expectRun(lab.node(1), argv);
        before = await foreignOnly(lab);
        wholeBefore = await footprint(lab, lab.node(1));
      },
    },
    suite => {
      const daemon = () => suite().fleets[0]!.daemon(suite().lab.node(1));
      const run = async (...argv: readonly string[]): Promise<string> => await suite().lab.expectRun(suite().lab.node(1), argv);
      const asks = (target: { transport: 'tcp'; address: string; port: number } = TARGET) =>
        answers(suite().lab, suite().lab.pod(1, 2), target, 6);

      /** Breaks something, and waits until the log names it as repaired. */
      async function repaired(pattern: RegExp, ...commands: readonly (readonly string[])[]): Promise<void> {
        const mark = daemon().lines.length;
        for (const argv of commands) await run(...argv);
        await until(
          `a line ${pattern}`,
          async () =>
            daemon()
              .lines.slice(mark)
              .map(({ text }) => text)
              .join('\n'),
          text => pattern.test(text),
          15_000,
        );
      }

      it('what others have is untouched by the start, by changes and by audits', async () => {
        const { lab, cluster } = suite();
        assert.equal(await foreignOnly(lab), before);
        for (const nodes of [[1], [2, 3], [], [1, 2, 3]]) await cluster.put(...web(lab, nodes));
        // Two periods of the audit, told by a drift in the table it reads last.
        await repaired(/virtualServer was changed behind our back.*10\.96\.8\.1/, ['ipvsadm', '-D', '-t', `${VIP.ipv4}:80`]);
        assert.equal(await foreignOnly(lab), before);
        assert.equal(
          await asks({ transport: 'tcp', address: '172.20.0.1', port: 80 }),
          'pod-1-1',
          'a foreign virtual server goes on working',
        );
      });

      it('rules others put above and between ours stay where they are', async () => {
        const { lab, cluster } = suite();
        await run('iptables', '-I', 'INPUT', '1', '-s', '198.51.100.9/32', '-j', 'DROP');
        await run('iptables', '-t', 'nat', '-I', 'POSTROUTING', '1', '-s', '198.51.100.9/32', '-j', 'RETURN');
        const added = await foreignOnly(lab);
        assert.match(added, /-A INPUT -s 198\.51\.100\.9\/32 -j DROP/);
        await cluster.put(...web(lab, [1]));
        await cluster.put(...web(lab, [1, 2, 3]));
        await repaired(/address was changed behind our back/, ['ip', 'addr', 'del', `${VIP.ipv4}/32`, 'dev', 'kube-dummy-if']);
        assert.equal(await foreignOnly(lab), added);
        await run('iptables', '-D', 'INPUT', '-s', '198.51.100.9/32', '-j', 'DROP');
        await run('iptables', '-t', 'nat', '-D', 'POSTROUTING', '-s', '198.51.100.9/32', '-j', 'RETURN');
      });

      it('a flushed IPVS table is filled again', async () => {
        await repaired(/virtualServer was changed behind our back.*missing/, ['ipvsadm', '-C']);
        await until(
          'balanced again',
          async () => await asks(),
          seen => seen === ALL,
        );
        // Not ours to bring back.
        await run('ipvsadm', '-A', '-t', '172.20.0.1:80', '-s', 'wlc');
        await run('ipvsadm', '-a', '-t', '172.20.0.1:80', '-r', '10.244.1.11:8080', '-m', '-w', '5');
        await run('ipvsadm', '-A', '-u', '[fd00:20::1]:53', '-s', 'sh');
      });

      it('a destination, a scheduler and a service that someone changed are put right', async () => {
        const service = ['-t', `${VIP.ipv4}:80`];
        await repaired(
          /virtualServer was changed behind our back.*changed/,
          ['ipvsadm', '-d', ...service, '-r', '10.244.1.11:8080'],
          ['ipvsadm', '-E', ...service, '-s', 'sh', '-p', '60'],
          ['ipvsadm', '-a', ...service, '-r', '10.244.1.12:9090', '-m', '-w', '7'],
        );
        await until(
          'balanced as wanted',
          async () => await asks(),
          seen => seen === ALL,
        );
      });

      it('a virtual server of nobody’s outside --excluded-cidrs is taken for a left-over and removed', async () => {
        await repaired(/virtualServer (was changed|changed .*deleted=1)/, ['ipvsadm', '-A', '-t', '10.77.0.1:80', '-s', 'rr']);
        await until(
          'removed',
          async () => [...(await virtualServers(suite().lab, suite().lab.node(1)))].join(' '),
          seen => !seen.includes('10.77.0.1'),
        );
      });

      it('a deleted virtual address comes back', async () => {
        await repaired(
          /address was changed behind our back.*10\.96\.8\.1/,
          ['ip', 'addr', 'del', `${VIP.ipv4}/32`, 'dev', 'kube-dummy-if'],
          ['ip', 'addr', 'del', `${VIP.ipv6}/128`, 'dev', 'kube-dummy-if'],
        );
        await until(
          'answers again',
          async () => await asks(),
          seen => seen === ALL,
        );
      });

      it('a deleted link comes back with its addresses', async () => {
        await repaired(/(link|address) was changed behind our back/, ['ip', 'link', 'del', 'kube-dummy-if']);
        await until(
          'answers again',
          async () => await asks(),
          seen => seen === ALL,
        );
      });

      it('a flushed set is filled again', async () => {
        await repaired(/ipset was changed behind our back.*kube-router-svip-prt/, ['ipset', 'flush', 'kube-router-svip-prt']);
        await until(
          'answers again',
          async () => await asks(),
          seen => seen === ALL,
        );
      });

      /** The number of the jump to our chain among the rules of INPUT. */
      async function placeOfHook(): Promise<string> {
        const rules = (await run('iptables', '-S', 'INPUT')).split('\n').filter(line => line.startsWith('-A '));
        return String(rules.findIndex(line => line.endsWith('-j FAIRWAY-INPUT')) + 1);
      }

      it('flushed chains, deleted hooks and destroyed sets are made again', async () => {
        await repaired(/iptables was changed behind our back.*FAIRWAY-MASQUERADE/, [
          'iptables',
          '-t',
          'nat',
          '-F',
          'FAIRWAY-MASQUERADE',
        ]);
        await repaired(/iptables was changed behind our back/, ['iptables', '-D', 'INPUT', await placeOfHook()]);
        await repaired(
          /ipset was changed behind our back/,
          ['iptables', '-F', 'FAIRWAY-INPUT'],
          ['iptables', '-F', 'FAIRWAY-SERVICES'],
          ['ipset', 'destroy', 'kube-router-svip-prt'],
        );
        const rules = async (): Promise<string> => await run('iptables-save');
        await until(
          'rules',
          rules,
          text => /-A INPUT .*-j FAIRWAY-INPUT/.test(text) && /-A FAIRWAY-SERVICES .*kube-router-svip-prt/.test(text),
        );
        await until(
          'answers again',
          async () => await asks(),
          seen => seen === ALL,
        );
        // The hairpin needs all of it: rules, hook and set.
        assert.equal(await answers(suite().lab, suite().lab.pod(1, 1), TARGET), ALL);
      });

      it('killed in the middle of changes and started again: converges, connections survive, nothing right is written', async () => {
        const { lab, cluster, fleets } = suite();
        const held = await lab.probe(lab.pod(1, 2)).hold(TARGET);
        assert.equal(held.opened.outcome, 'answer');
        for (const delayMs of [0, 150, 400]) {
          // The moment within the changes is what varies.
          const killed = daemon();
          await cluster.publish({ put: web(lab, delayMs === 150 ? [1, 2, 3] : [1, 2, 3].reverse()) });
          const many = Array.from({ length: 30 }, (_, index) =>
            service(`churn-${index}`, { clusterIP: `10.96.9.${index + 1 + delayMs / 10}`, ports: [{ port: 80 }] }),
          );
          await cluster.publish({ put: many });
          await pause(delayMs);
          await killed.kill();
          const again = fleets[0]!.startOn(lab.node(1));
          await again.waitForLine(/ready: the first round is in/, 60_000);
          assert.equal(await asks(), ALL);
          assert.deepEqual(await held.say(`after ${delayMs}`), held.opened);
          await until(
            'the last set of Services',
            async () => (await virtualServers(lab, lab.node(1))).has(`TCP 10.96.9.${30 + delayMs / 10}:80`),
            seen => seen,
          );
        }
        await daemon().kill();
        const last = fleets[0]!.startOn(lab.node(1));
        await last.waitForLine(/ready: the first round is in/, 60_000);
        const written = last.lines
          .map(({ text }) => text)
          .filter(text => text.includes(' changed created=') && !text.includes(' sysctl changed'));
        assert.deepEqual(written, []);
        assert.deepEqual(await held.say('at the end'), held.opened);
        held.close();
      });

      it('cleanup leaves the node as it was', async () => {
        const { lab, fleets } = suite();
        await fleets[0]!.stop();
        const printed = await fleets[0]!.cleanup();
        assert.match(printed.get('node1') ?? '', /removed \d+ of virtualServer/);
        const strip = (text: string): string => text.replace(/^(Size in memory|References).*\n/gm, '');
        assert.equal(strip(await footprint(lab, lab.node(1))), strip(wholeBefore));
      });
    },
  );
});
