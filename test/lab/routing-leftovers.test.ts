import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { flagsOf } from './cases/routing-overlays.ts';
import { describeRouting, sourceSeen } from './describe-routing.ts';
import { footprint } from './fleet.ts';
import type { Lab } from './lab.ts';
import { FAMILIES, NAMESPACE, namespaceObject, networkPolicyObject, podObject } from './objects.ts';
import { linkTo, routingFootprint } from './routing-state.ts';
import { until } from './until.ts';

/** kube-router's name of its tunnel to node3. */
const KUBE_ROUTERS = `tun-${createHash('sha256').update('192168313').digest('hex').slice(0, 11)}`;
const [NODE1, NODE3] = ['192.168.1.11', '192.168.3.13'];
const [NODE1_V6, GONE_V6] = ['fd00:192:168:1::11', 'fd00:192:168:3::77'];

/** On node1, of an earlier run of ours or of kube-router's, when the cluster was another. */
const LEFTOVERS: readonly string[] = [
  `link add ${KUBE_ROUTERS} type ipip local ${NODE1} remote ${NODE3}`,
  `link set ${KUBE_ROUTERS} up`,
  `route add 10.244.3.0/24 dev ${KUBE_ROUTERS} src ${NODE1} proto 17`,
  `route add ${NODE3} dev ${KUBE_ROUTERS} table 77`,
  `link add tun-0123456789a type ipip local ${NODE1} remote 192.168.3.77`,
  'link set tun-0123456789a up',
  'route add 10.244.77.0/24 dev tun-0123456789a proto 70 metric 32070',
  'route add 10.244.78.0/24 dev tun-0123456789a proto 17',
  'route add 192.168.3.77 dev tun-0123456789a table 77',
  `link add tun-fedcba98765 type ip6tnl mode ip6ip6 local ${NODE1_V6} remote ${GONE_V6}`,
  'link set tun-fedcba98765 up',
  'route add fd00:10:244:77::/64 dev tun-fedcba98765 proto 70 metric 32070',
  'route add 10.244.79.0/24 via 192.168.1.12 proto 70 metric 32070',
];
const LEFT_RULES: readonly (readonly string[])[] = [
  ['-4', 'from', '10.244.77.0/24', 'lookup', '77'],
  ['-4', 'from', '10.244.1.0/24', 'lookup', '77'],
  ['-4', 'from', '10.244.1.0/24', 'lookup', '77', 'prio', '9000'],
  ['-6', 'from', 'fd00:10:244:77::/64', 'lookup', '77'],
];

/** Somebody else's, by name or protocol. */
const FOREIGN: readonly string[] = [
  `link add corp0 type ipip local ${NODE1} remote 192.168.3.88`,
  'link set corp0 up',
  `link add tun-vpn type ipip local ${NODE1} remote 192.168.3.89`,
  'link set tun-vpn up',
  'route add 10.98.0.0/16 dev corp0 proto bird',
  'route add 10.99.0.0/16 via 192.168.1.254 proto static',
  'route add 10.97.0.0/16 via 192.168.1.254 proto zebra',
  'route add 10.100.0.0/16 dev tun-vpn table 100',
  'rule add from 10.244.55.0/24 lookup 100',
];

async function batch(lab: Lab, lines: readonly string[]): Promise<void> {
  await lab.expectRun(lab.node(1), ['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

/** All that the kernel of node1 has of what we could change. */
async function wholeFootprint(lab: Lab): Promise<string> {
  const both = await Promise.all([routingFootprint(lab, lab.node(1)), footprint(lab, lab.node(1))]);
  return both.join('\n');
}

const OVERLAY: readonly string[] = ['--overlay-type=full', '--overlay-encap=fou', '--overlay-encap-port=5556'];

describeRouting(
  'what others and earlier runs left',
  {
    runs: ['router', 'firewall'],
    flags: [...flagsOf('api'), ...OVERLAY],
    objects: lab => [namespaceObject(NAMESPACE), ...lab.pods.map(pod => podObject(pod, { labels: { pod: pod.name } }))],
  },
  suite => {
    const lab = (): Lab => suite().lab;
    let found = '';

    before('foreign and left-over objects', async () => {
      for (const node of lab().nodes) {
        for (const tool of ['iptables', 'ip6tables']) await lab().expectRun(node, [tool, '-w', '-P', 'FORWARD', 'DROP']);
      }
      await batch(lab(), FOREIGN);
      found = await wholeFootprint(lab());
      await batch(lab(), LEFTOVERS);
      for (const [family = '', ...rule] of LEFT_RULES)
        await lab().expectRun(lab().node(1), ['ip', family, 'rule', 'add', ...rule]);
    });

    it('pods reach each other although the nodes forward nothing of themselves', async () => {
      await suite().start();
      await suite().reached();
    });

    it('tunnels, routes and rules of an earlier run are gone, and what is foreign is as it was', async () => {
      const shown = await until(
        'node1 has nothing of an earlier run',
        async () => await routingFootprint(lab(), lab().node(1)),
        text => !new RegExp(`${KUBE_ROUTERS}|tun-0123456789a|tun-fedcba98765|proto 17|:77|\\.7[789]\\.`).test(text),
        20_000,
      );
      const lines = shown.split('\n');
      const foreign = found.split('\n').filter(line => /^(corp0|tun-vpn|10\.(97|98|99|100)\.)|lookup 100/.test(line));
      assert.equal(foreign.length, 7, foreign.join('\n'));
      for (const line of foreign) assert.ok(lines.includes(line), `no more: ${line}`);
    });

    it('what somebody changes of tunnels, routes and rules is repaired', async () => {
      // What is changed of a tunnel shows at the next audit only.
      await suite().fleet.daemon(lab().node(1)).stop();
      await suite().start(['--audit-period=5s'], [lab().node(1)]);
      const asMade = await routingFootprint(lab(), lab().node(1));
      const [two, three] = [lab().pod(2, 1), lab().pod(3, 1)];
      const [remote, mtu, encap, gone] = await Promise.all(
        [two.addresses.ipv4, two.addresses.ipv6, three.addresses.ipv4, three.addresses.ipv6].map(address =>
          linkTo(lab(), lab().node(1), address),
        ),
      );
      await batch(lab(), [
        `link set ${remote} type ipip local ${NODE1} remote 192.168.3.66`,
        `link set ${mtu} mtu 1300`,
        `link set ${encap} type ipip local ${NODE1} remote ${NODE3} encap none`,
        `link del ${gone}`,
        `route del ${lab().node(2).podCidrs.ipv6} proto 70`,
        'rule del from 10.244.1.0/24 lookup 77',
      ]);
      const began = performance.now();
      await until(
        `node1 is as the daemon made it:\n${asMade}`,
        async () => await routingFootprint(lab(), lab().node(1)),
        text => text === asMade,
        15_000,
      );
      console.log(`      repaired after ${Math.round(performance.now() - began)} ms`);
      await suite().reached();
    });

    it('a denied pair stays denied, whatever routing accepts', async () => {
      const [allowed, denied, server] = [lab().pod(1, 1), lab().pod(2, 1), lab().pod(3, 1)];
      const ingress = [{ from: [{ podSelector: { matchLabels: { pod: allowed.name } } }] }];
      const podSelector = { matchLabels: { pod: server.name } };
      await suite().cluster.publish({ put: [networkPolicyObject('only-from-pod-1-1', { podSelector, ingress })] });
      for (const family of FAMILIES) {
        await until(
          `${denied.name} is refused over ${family}`,
          async () => await sourceSeen(lab(), denied, server, family),
          seen => seen === 'refused',
          10_000,
        );
        assert.equal(await sourceSeen(lab(), allowed, server, family), allowed.addresses[family]);
      }
    });

    it('cleanup leaves nothing of ours, and what is foreign', async () => {
      await suite().fleet.stop();
      const printed = await suite().fleet.cleanup();
      for (const said of printed.values()) assert.match(said, /^removed \d+ of link$/m);
      assert.equal(await wholeFootprint(lab()), found);
    });
  },
);
