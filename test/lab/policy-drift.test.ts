import assert from 'node:assert/strict';
import { allow, clusterOf } from './cases/policy-changes.ts';
import { describePolicy } from './describe-policy.ts';
import { footprint } from './fleet.ts';
import type { Lab } from './lab.ts';
import { until } from './until.ts';
import { history } from './watch.ts';

/** What other software has on the node before the daemon comes. */
const FOREIGN = [
  'ipset create blocklist hash:net',
  'ipset add blocklist 198.18.0.0/15',
  'ipset create KUBE-SRC-OF-OTHERS hash:ip',
  'iptables -N CUSTOM',
  'iptables -A CUSTOM -p tcp -m tcp --dport 1234 -j DROP',
  'iptables -A FORWARD -m set --match-set blocklist src -j DROP',
  'iptables -A FORWARD -j CUSTOM',
  'iptables -A INPUT -j CUSTOM',
  'iptables -A OUTPUT -d 198.51.100.7/32 -j DROP',
  'ip6tables -N CUSTOM',
  'ip6tables -A FORWARD -j CUSTOM',
].map(line => line.split(' '));

const READ_METRICS = "fetch('http://127.0.0.1:9187/metrics').then(async page => console.log(await page.text()))";

const PERIOD_MS = 2000;

let untouched = '';

/** The kernel gives a link its link-local address by itself, some time after the link is up: that is no trace of the daemon. */
async function linksSettled(lab: Lab): Promise<void> {
  const node = lab.node(1);
  const links = [...(await lab.expectRun(node, ['ip', '-o', 'link', 'show', 'up'])).matchAll(/^\d+: ([^@:]+)/gm)]
    .flatMap(([, name]) => name ?? [])
    .filter(name => name !== 'lo');
  await until(
    `link-local addresses of ${links.join(', ')}`,
    async () => await lab.expectRun(node, ['ip', '-o', '-6', 'addr', 'show', 'scope', 'link']),
    text => !text.includes('tentative') && links.every(name => text.includes(`: ${name} `)),
  );
}

describePolicy(
  'when someone else changes the kernel',
  {
    flags: [`--audit-period=${PERIOD_MS / 1000}s`, '--metrics-port=9187', '--metrics-addr=127.0.0.1'],
    objects: lab => [...clusterOf(lab), allow('clients', 'client')],
    prepare: async lab => {
      for (const argv of FOREIGN) await lab.expectRun(lab.node(1), argv);
      await linksSettled(lab);
      untouched = await footprint(lab, lab.node(1));
    },
  },
  suite => {
    const run = async (...argv: readonly string[]): Promise<string> => await suite().lab.expectRun(suite().lab.node(1), argv);
    const daemon = () => suite().fleet.daemon(suite().lab.node(1));

    /** Breaks something, and waits until the log names it as found and repaired. */
    async function repaired(pattern: RegExp, ...commands: readonly string[]): Promise<void> {
      const mark = daemon().lines.length;
      for (const command of commands) await run(...command.split(' '));
      const said = async (): Promise<string> =>
        daemon()
          .lines.slice(mark)
          .map(({ text }) => text)
          .join('\n');
      await until(`a line ${pattern}`, said, text => pattern.test(text), 2 * PERIOD_MS);
      // Tables are read back one after another, each once a period: what was done to another one is found at its turn.
      await until('everything is as before', ours, text => text === right, PERIOD_MS);
    }

    /** Chains and sets of ours as the tools print them; elements and rules in the order of their text. */
    async function ours(): Promise<string> {
      const printed = await Promise.all([run('iptables-save'), run('ip6tables-save'), run('ipset', 'save')]);
      return printed
        .flatMap(text => text.split('\n'))
        .filter(line => /FAIRWAY|fairway|kube-router/.test(line) && !line.startsWith('create '))
        .map(line => line.replace(/\[[0-9:]+\]/, ''))
        .sort()
        .join('\n');
    }
    let right = '';

    before('what is right', async () => {
      right = await ours();
    });

    /** The one set of addresses that the server's policy allows. */
    async function setOfClients(save: 'iptables-save' | 'ip6tables-save' = 'iptables-save'): Promise<string> {
      const [, name] = /--match-set ((?:inet6:)?fairway-p-\S+) src .*lab\/clients/.exec(await run(save)) ?? [];
      assert.ok(name !== undefined);
      return name;
    }

    const BREAKS: readonly {
      readonly title: string;
      readonly names: RegExp;
      readonly commands: () => Promise<readonly string[]>;
    }[] = [
      {
        title: 'rules of a chain are flushed',
        names: /iptables was changed behind our back.*FAIRWAY-INGRESS \(changed\)/,
        commands: async () => ['iptables -F FAIRWAY-INGRESS'],
      },
      {
        title: 'all of FORWARD is flushed',
        names: /iptables was changed behind our back.*FORWARD -> FAIRWAY-POLICY-FORWARD \(missing\)/,
        commands: async () => [
          'iptables -F FORWARD',
          'iptables -A FORWARD -m set --match-set blocklist src -j DROP',
          'iptables -A FORWARD -j CUSTOM',
        ],
      },
      {
        title: 'a rule is put into a chain of ours',
        names: /iptables was changed behind our back.*FAIRWAY-POLICY-FORWARD \(changed\)/,
        commands: async () => ['iptables -I FAIRWAY-POLICY-FORWARD 1 -s 10.244.0.0/16 -j ACCEPT'],
      },
      {
        title: 'an element is taken out of a set',
        names: /ipset was changed behind our back.*10\.244\.2\.11 \(missing\)/,
        commands: async () => [`ipset del ${await setOfClients()} 10.244.2.11`],
      },
      {
        title: 'an element is put into a set',
        names: /ipset was changed behind our back.*10\.244\.2\.12 \(unexpected\)/,
        commands: async () => [`ipset add ${await setOfClients()} 10.244.2.12`],
      },
      {
        title: 'rules of an IPv6 chain are flushed',
        names: /iptables was changed behind our back.*ipv6 filter FAIRWAY-INGRESS \(changed\)/,
        commands: async () => ['ip6tables -F FAIRWAY-INGRESS'],
      },
      {
        title: 'an element is taken out of an IPv6 set',
        names: /ipset was changed behind our back.*inet6:fairway-p-\S+ fd00:10:244:2::11 \(missing\)/,
        commands: async () => [`ipset del ${await setOfClients('ip6tables-save')} fd00:10:244:2::11`],
      },
      {
        title: 'a set is emptied',
        names: /ipset was changed behind our back.*fairway-ingress 10\.244\.1\.11 \(missing\)/,
        commands: async () => ['ipset flush fairway-ingress'],
      },
      {
        title: 'the rules that use a set are flushed, and the set is destroyed',
        names: /ipset was changed behind our back.*fairway-p-\S+ \(missing\)/,
        commands: async () => {
          const set = await setOfClients();
          const [, chain] = /^-A (FAIRWAY-PI-\S+) .*lab\/clients/m.exec(await run('iptables-save')) ?? [];
          return [`iptables -F ${chain}`, `ipset destroy ${set}`];
        },
      },
    ];

    for (const { title, names, commands } of BREAKS) {
      it(`${title}: it is named, counted and repaired within two periods of the audit`, async function () {
        this.timeout(60_000);
        const { lab } = suite();
        const counted = await driftCount();
        await repaired(names, ...(await commands()));
        assert.ok((await driftCount()) > counted);
        assert.equal(await suite().outcome(lab.pod(2, 1), lab.pod(1, 1)), 'answer');
        assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'refused');
      });
    }

    async function driftCount(): Promise<number> {
      const page = await run(process.execPath, '-e', READ_METRICS);
      return [...page.matchAll(/^fairway_drift_total\{.*\} ([0-9]+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
    }

    it('packets that are denied are counted, each in its family', async () => {
      const { lab } = suite();
      const counts = async (): Promise<readonly number[]> => {
        const page = await run(process.execPath, '-e', READ_METRICS);
        return ['ipv4', 'ipv6'].map(family => {
          const [, count] =
            new RegExp(`^fairway_policy_denied_packets_total\\{family="${family}"\\} ([0-9]+)$`, 'm').exec(page) ?? [];
          return Number(count);
        });
      };
      const before = await counts();
      await suite().outcome(lab.pod(2, 1), lab.pod(1, 1), { families: ['ipv6'] });
      assert.deepEqual(await counts(), before, 'what is let in is not denied');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1), { transports: ['tcp'], families: ['ipv6'] }), 'refused');
      const [ipv4 = 0, ipv6 = 0] = await counts();
      assert.equal(ipv4, before[0]);
      assert.ok(ipv6 > (before[1] ?? 0), `${before[1]} packets before, ${ipv6} after`);
    });

    it('rules of others above, between and below ours stay where they are, and go on deciding', async () => {
      const { lab, cluster } = suite();
      await run(
        'iptables',
        '-I',
        'FORWARD',
        '1',
        '-s',
        '10.244.2.11/32',
        '-p',
        'tcp',
        '-m',
        'tcp',
        '--dport',
        '9090',
        '-j',
        'DROP',
      );
      const watch = await suite().watchPair(lab.pod(2, 1), lab.pod(1, 1), 'tcp');
      await cluster.put(allow('others', 'x'));
      await cluster.remove(allow('others', 'x'));
      assert.match(
        await run('iptables-save'),
        /-A FORWARD -s 10\.244\.2\.11\/32 -p tcp -m tcp --dport 9090 -j DROP\n-A FORWARD .*FAIRWAY/,
      );
      assert.equal(
        await suite().outcome(lab.pod(2, 1), lab.pod(1, 1), {
          transports: ['tcp'],
          families: ['ipv4'],
          ports: [9090],
          timeoutMs: 500,
        }),
        'timeout',
      );
      await watch.more();
      assert.equal(history(await watch.end()), 'answer');
      await run('iptables', '-D', 'FORWARD', '1');
    });

    it('cleanup leaves the node as it was before the daemon came', async () => {
      const { lab, fleet } = suite();
      await fleet.stop();
      await fleet.cleanup();
      assert.equal(await footprint(lab, lab.node(1)), untouched);
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'answer');
    });
  },
);
