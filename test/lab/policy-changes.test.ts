import assert from 'node:assert/strict';
import { CHANGES, clusterOf } from './cases/policy-changes.ts';
import { describePolicy } from './describe-policy.ts';
import { history, type Watch } from './watch.ts';

describePolicy('while policies, pods and namespaces change', { objects: clusterOf }, suite => {
  /** Puts everything back as it was before the case. */
  async function reset(): Promise<void> {
    const wanted = clusterOf(suite().lab);
    const names = new Set(wanted.map(({ kind, metadata }) => `${kind} ${metadata.name}`));
    const others = [...suite().cluster.objects.values()].filter(
      ({ kind, metadata }) =>
        metadata.namespace === 'lab' && ['Pod', 'NetworkPolicy'].includes(kind) && !names.has(`${kind} ${metadata.name}`),
    );
    await suite().cluster.change({ put: wanted, remove: others });
  }

  async function watch(from: 'near' | 'far' | 'host' | 'other', transport: 'tcp' | 'udp'): Promise<Watch> {
    const { lab } = suite();
    const host = { near: lab.pod(1, 2), far: lab.pod(2, 1), host: lab.node(2), other: lab.pod(2, 2) }[from];
    return await suite().watchPair(host, lab.pod(1, 1), transport);
  }

  afterEach(reset);

  for (const { title, before: given, change, client = 'far', seen, other } of CHANGES) {
    it(`${title}: the one sees ${seen}, the other ${other}`, async function () {
      this.timeout(60_000);
      const { lab, cluster } = suite();
      await cluster.change({ put: given?.(lab) ?? [] });
      const pairs = [
        { from: client, transport: 'tcp', sees: seen },
        { from: client, transport: 'udp', sees: seen },
        { from: 'other', transport: 'tcp', sees: other },
        { from: 'other', transport: 'udp', sees: other },
      ] as const;
      const watches = await Promise.all(pairs.map(async ({ from, transport }) => await watch(from, transport)));
      await Promise.all(watches.map(async one => await one.more()));
      await cluster.change(change(lab));
      await Promise.all(watches.map(async one => await one.more()));
      const histories = await Promise.all(watches.map(async one => history(await one.end())));
      assert.deepEqual(
        histories.map((sees, index) => `${pairs[index]?.from} ${pairs[index]?.transport}: ${sees}`),
        pairs.map(({ from, transport, sees }) => `${from} ${transport}: ${sees}`),
      );
    });
  }
});
