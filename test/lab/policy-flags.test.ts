import assert from 'node:assert/strict';
import { allow, clusterOf, farObject, serverObject } from './cases/policy-changes.ts';
import { describePolicy } from './describe-policy.ts';
import type { Lab } from './lab.ts';
import { networkPolicyObject, podObject } from './objects.ts';
import { history } from './watch.ts';

const CLIENTS = allow('clients', 'client');

describePolicy(
  '--netpol-deny-with=drop',
  { flags: ['--netpol-deny-with=drop'], objects: lab => [...clusterOf(lab), CLIENTS] },
  suite => {
    it('answers a denied flow with silence', async () => {
      const { lab } = suite();
      assert.equal(await suite().outcome(lab.pod(2, 1), lab.pod(1, 1)), 'answer');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1), { timeoutMs: 500 }), 'timeout');
    });
  },
);

describePolicy(
  '--netpol-default-deny',
  {
    flags: ['--netpol-default-deny'],
    // pod-1-2 is running, and nobody knows of it yet.
    objects: lab => [...clusterOf(lab).filter(({ metadata }) => metadata.name !== 'pod-1-2'), CLIENTS],
  },
  suite => {
    const newcomer = () => suite().lab.pod(1, 2);
    const far = () => suite().lab.pod(2, 1);

    it('closes a pod that is not known yet to all but its node, both ways', async () => {
      const { lab } = suite();
      for (const from of [far(), lab.pod(1, 1), lab.node(2), lab.ext]) {
        assert.equal(await suite().outcome(from, newcomer()), 'refused', from.name);
      }
      for (const to of [far(), lab.node(1), lab.ext]) assert.equal(await suite().outcome(newcomer(), to), 'refused', to.name);
      assert.equal(await suite().outcome(lab.node(1), newcomer()), 'answer');
    });

    it('leaves known pods to their policies', async () => {
      const { lab } = suite();
      assert.equal(await suite().outcome(far(), lab.pod(1, 1)), 'answer');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'refused');
      assert.equal(await suite().outcome(lab.ext, far()), 'answer');
      assert.equal(await suite().outcome(far(), lab.ext), 'answer');
    });

    it('opens it when it is known, without a moment in which a policy that selects it is not in force', async () => {
      const { lab, cluster } = suite();
      const closed = networkPolicyObject('newcomers', { podSelector: { matchLabels: { app: 'new' } }, ingress: [] });
      await cluster.put(closed);
      const denied = await suite().watchPair(far(), newcomer(), 'tcp');
      await denied.more();
      await cluster.put(podObject(newcomer(), { labels: { app: 'new' } }));
      await denied.more();
      assert.equal(await suite().outcome(newcomer(), far()), 'answer');
      assert.equal(history(await denied.end()), 'refused');
      const opened = await suite().watchPair(far(), newcomer(), 'tcp');
      await opened.more();
      await cluster.put(podObject(newcomer(), { labels: { app: 'open' } }));
      await opened.more();
      assert.equal(history(await opened.end()), 'refused answer');
      await cluster.remove(podObject(newcomer()));
      assert.equal(await suite().outcome(far(), newcomer()), 'refused');
      assert.equal(await suite().outcome(lab.node(1), newcomer()), 'answer');
      await cluster.remove(closed);
    });

    it('loses no flow of a pod that comes under policies and leaves them again', async () => {
      const { lab, cluster } = suite();
      const other = await suite().watchPair(far(), lab.pod(1, 1), 'tcp');
      await other.more();
      await cluster.put(serverObject(lab, { app: 'free' }));
      await cluster.put(serverObject(lab));
      await cluster.put(farObject(lab));
      await other.more();
      assert.equal(history(await other.end()), 'answer');
    });
  },
);

/** The rules of a flavour that are ours, in the other one than the node uses. */
async function oursIn(lab: Lab, node: number, flavour: 'legacy' | 'nft'): Promise<string> {
  const saved = await lab.expectRun(lab.node(node), [`iptables-${flavour}-save`]);
  return saved
    .split('\n')
    .filter(line => line.includes('FAIRWAY'))
    .join('\n');
}

describePolicy(
  'both flavours of iptables',
  {
    objects: lab => [...clusterOf(lab), CLIENTS],
    // What other software of the node uses is what Fairway uses.
    prepare: async lab => {
      for (const [node, flavour] of [
        [1, 'legacy'],
        [2, 'nft'],
      ] as const) {
        for (const port of ['1001', '1002', '1003']) {
          const rule = ['-A', 'INPUT', '-p', 'tcp', '-m', 'tcp', '--dport', port, '-j', 'ACCEPT'];
          for (const tool of ['iptables', 'ip6tables']) await lab.expectRun(lab.node(node), [`${tool}-${flavour}`, ...rule]);
        }
      }
    },
  },
  suite => {
    it('enforce alike, each on its node', async () => {
      const { lab, cluster } = suite();
      const toFar = networkPolicyObject('far', {
        podSelector: { matchLabels: { role: 'client' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: 'server' } } }] }],
      });
      await cluster.put(toFar);
      assert.equal(await suite().outcome(lab.pod(2, 1), lab.pod(1, 1)), 'answer');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'refused');
      assert.equal(await suite().outcome(lab.pod(1, 1), lab.pod(2, 1)), 'answer');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(2, 1)), 'refused');
      assert.match(await oursIn(lab, 1, 'legacy'), /FAIRWAY-POLICY-FORWARD/);
      assert.equal(await oursIn(lab, 1, 'nft'), '');
      assert.match(await oursIn(lab, 2, 'nft'), /FAIRWAY-POLICY-FORWARD/);
      assert.equal(await oursIn(lab, 2, 'legacy'), '');
      await cluster.remove(toFar);
    });

    it('are cleaned up alike', async () => {
      const { lab, fleet } = suite();
      await fleet.stop();
      await fleet.cleanup();
      for (const node of lab.nodes) {
        const left = await Promise.all(
          [
            'iptables-legacy-save',
            'ip6tables-legacy-save',
            'iptables-nft-save',
            'ip6tables-nft-save',
            'nft list ruleset',
            'ipset list',
          ].map(async command => await lab.expectRun(node, command.split(' '))),
        );
        assert.doesNotMatch(left.join('\n'), /fairway|kube-router/i, node.name);
      }
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'answer');
    });
  },
);
