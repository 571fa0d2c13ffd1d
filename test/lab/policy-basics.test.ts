import assert from 'node:assert/strict';
import { clusterObjects, describePolicy, PORTS } from './describe-policy.ts';
import { FAMILIES, networkPolicyObject, podObject } from './objects.ts';
import { between, history } from './watch.ts';

const DENY_ALL = networkPolicyObject('deny-all', { policyTypes: ['Ingress'] });
const DENY_ALL_OUT = networkPolicyObject('deny-all-out', { policyTypes: ['Egress'] });
const FROM_CLIENTS = networkPolicyObject('from-clients', {
  podSelector: { matchLabels: { pod: 'pod-2-1' } },
  ingress: [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }] }],
});

describePolicy('network policy between two nodes', {}, suite => {
  /** On the server's own node and on the other one. */
  const clients = () => [suite().lab.pod(2, 2), suite().lab.pod(1, 1)];
  const server = () => suite().lab.pod(2, 1);

  afterEach(async () => {
    await suite().cluster.change({ put: clusterObjects(suite().lab) });
    await suite().enforce();
  });

  it('leaves everything open where no policy is', async () => {
    const { lab } = suite();
    for (const from of [...lab.pods, ...lab.nodes, lab.ext]) {
      assert.equal(await suite().outcome(from, server(), { ports: PORTS }), 'answer', from.name);
    }
    assert.equal(await suite().outcome(server(), lab.ext), 'answer');
  });

  it('closes all pods to all but their own node under a policy that allows nothing', async () => {
    const { lab } = suite();
    await suite().enforce(DENY_ALL);
    for (const from of [...clients(), lab.node(1), lab.ext]) {
      assert.equal(await suite().outcome(from, server(), { ports: PORTS }), 'refused', from.name);
    }
    assert.equal(await suite().outcome(lab.node(2), server()), 'answer');
    assert.equal(await suite().outcome(server(), server()), 'answer');
    assert.equal(await suite().outcome(server(), lab.ext), 'answer');
  });

  it('shuts all pods in under a policy that allows nothing out', async () => {
    const { lab } = suite();
    await suite().enforce(DENY_ALL_OUT);
    for (const to of [...clients(), lab.node(1), lab.ext]) assert.equal(await suite().outcome(server(), to), 'refused', to.name);
    assert.equal(await suite().outcome(lab.ext, server()), 'answer');
  });

  it('opens to pods with a label, as soon as they have it and no longer', async () => {
    await suite().enforce(FROM_CLIENTS);
    for (const client of clients()) {
      const others = clients().filter(other => other !== client);
      const labelled = podObject(client, { labels: { pod: client.name, role: 'client' } });
      assert.equal(await suite().outcome(client, server()), 'refused', client.name);
      await suite().cluster.put(labelled);
      assert.equal(await suite().outcome(client, server(), { ports: PORTS }), 'answer', client.name);
      for (const other of others) assert.equal(await suite().outcome(other, server()), 'refused', other.name);
      await suite().cluster.put(podObject(client, { labels: { pod: client.name } }));
      assert.equal(await suite().outcome(client, server(), { ports: PORTS }), 'refused', client.name);
    }
  });

  it('lets connections go on that are open when a policy denies them, and no new one, on whichever end the policy is', async () => {
    const { lab, transports } = suite();
    const [client] = clients();
    assert.ok(client !== undefined);
    const flows = transports.flatMap(transport => FAMILIES.map(family => ({ transport, family })));
    const held = await Promise.all(
      flows.map(async ({ transport, family }) =>
        lab.probe(lab.pod(1, 1)).hold({ transport, address: server().addresses[family], port: PORTS[0] }),
      ),
    );
    for (const policy of [DENY_ALL, DENY_ALL_OUT]) {
      await suite().enforce(policy);
      assert.equal(await suite().outcome(lab.pod(1, 1), server()), 'refused', policy.metadata.name);
      for (const [index, connection] of held.entries()) {
        assert.equal(connection.opened.outcome, 'answer');
        assert.deepEqual(await connection.say('go on'), connection.opened, JSON.stringify(flows[index]));
      }
    }
    for (const connection of held) connection.close();
  });

  it('tells NFLOG whom it denied, under the name of the policy, ten packets a minute', async () => {
    const { lab } = suite();
    const closed = networkPolicyObject('closed', { podSelector: { matchLabels: { pod: 'pod-2-1' } } });
    await suite().enforce(closed);
    /** Packets that came to the rule of a prefix. */
    const told = async (prefix: string): Promise<number> => {
      const saved = await lab.expectRun(lab.node(2), ['iptables-save', '-c', '-t', 'filter']);
      const [, packets] = new RegExp(`^\\[(\\d+):\\d+\\] .*--nflog-prefix "${prefix}" --nflog-group 100$`, 'm').exec(saved) ?? [];
      assert.ok(packets !== undefined, `no rule tells "${prefix}"`);
      return Number(packets);
    };
    const ask = async (): Promise<string> =>
      await suite().outcome(lab.pod(2, 2), server(), { families: ['ipv4'], transports: ['udp'] });
    assert.equal(await told('deny ingress: lab/closed'), 0);
    assert.equal(await ask(), 'refused');
    assert.equal(await told('deny ingress: lab/closed'), 1);
    for (let count = 0; count < 30; count++) assert.equal(await ask(), 'refused');
    const many = await told('deny ingress: lab/closed');
    assert.ok(many >= 10 && many <= 12, String(many));
    await suite().enforce(closed, FROM_CLIENTS);
    assert.equal(await ask(), 'refused');
    assert.equal(await told('deny ingress: lab: no policy allowed it'), 1);
  });

  for (const transport of ['tcp', 'udp'] as const) {
    for (const family of FAMILIES) {
      it(`never opens to one pod while another gets the label, and closes once, by ${transport} over ${family}`, async () => {
        const { cluster } = suite();
        const [near, far] = [suite().lab.pod(2, 2), suite().lab.pod(1, 1)];
        const labels = { pod: far.name, role: 'client' };
        const watches = await Promise.all(
          [near, far].map(async from => await suite().watchPair(from, server(), transport, PORTS[0], { family })),
        );
        const [ofNear, ofFar] = watches;
        assert.ok(ofNear !== undefined && ofFar !== undefined);
        await ofNear.more();
        await suite().enforce(FROM_CLIENTS);
        const enforced = await ofNear.now();
        await ofNear.more();
        await cluster.put(podObject(far, { labels }));
        const labelled = await ofFar.now();
        await ofFar.more();
        const [flowsOfNear, flowsOfFar] = [await ofNear.end(), await ofFar.end()];
        assert.equal(history(flowsOfNear), 'answer refused');
        assert.equal(history(flowsOfFar), 'answer refused answer');
        assert.equal(history(between(flowsOfNear, { after: enforced })), 'refused');
        assert.equal(history(between(flowsOfFar, { after: labelled })), 'answer');
      });
    }
  }
});
