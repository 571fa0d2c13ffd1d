import assert from 'node:assert/strict';
import { SITUATIONS, type Situation } from './cases/policy-situations.ts';
import { describePolicy } from './describe-policy.ts';
import { cast, expected, type Flow, flowsOf, flowText, hostOf, isAsExpected, policiesOf } from './policy-cast.ts';
import { type Attempt, between, history, type Moment } from './watch.ts';

/** No policy at all. */
const OPEN: Situation = { title: 'open', says: '', policies: [] };
/** Flows of each kind that are watched while a situation comes, changes and goes. */
const WATCHED = 3;

describePolicy('network policy, situation by situation', { podsPerNode: 3, objects: cast }, suite => {
  let flows: readonly Flow[] = [];
  before(() => {
    flows = flowsOf(suite().transports);
  });

  /** A datagram from a port that an earlier flow had would belong to that flow, which was allowed. */
  async function forgetFlows(): Promise<void> {
    await Promise.all(suite().lab.nodes.map(node => suite().lab.expectRun(node, ['conntrack', '-F'])));
  }

  /** Flows that do not end as expected, one line each. */
  async function surprises(situation: Situation, among: readonly Flow[] = flows): Promise<readonly string[]> {
    await forgetFlows();
    const { lab } = suite();
    const lines = await Promise.all(
      among.map(async flow => {
        const address = hostOf(lab, flow.to).addresses[flow.family];
        const { outcome } = await lab
          .probe(hostOf(lab, flow.from))
          .connect({ transport: flow.transport, address, port: flow.port, timeoutMs: 3000 });
        const wanted = expected(situation, flow);
        return isAsExpected(outcome, wanted, flow) ? [] : [`${flowText(flow)}: ${outcome}, not ${wanted}`];
      }),
    );
    return lines.flat();
  }

  /** Some flows that end so, others in every situation: of all pairs, transports and families in the course of the suite. */
  function someOf(situation: Situation, outcome: 'answer' | 'refused', turn: number): readonly Flow[] {
    const candidates = flows.filter(flow => flow.transport !== 'sctp' && expected(situation, flow) === outcome);
    const step = Math.max(1, Math.floor(candidates.length / WATCHED));
    return Array.from({ length: Math.min(WATCHED, candidates.length) }, (_, index) => {
      const flow = candidates[(turn * 7 + index * step) % candidates.length];
      assert.ok(flow !== undefined);
      return flow;
    });
  }

  interface Watched {
    readonly flow: Flow;
    readonly attempts: readonly Attempt[];
  }

  /** Fresh flows while the policies come, are replaced by others of the same words, and go; with the times between which they were in force. */
  async function watched(
    situation: Situation,
    some: readonly Flow[],
  ): Promise<{ readonly flows: readonly Watched[]; readonly inForce: { readonly after: Moment; readonly before: Moment } }> {
    const { lab, cluster } = suite();
    const watches = await Promise.all(
      some.map(async ({ from, to, transport, family, port }) => {
        const target = { transport, address: hostOf(lab, to).addresses[family], port };
        return await lab.watch(hostOf(lab, from), target);
      }),
    );
    const goOn = async (): Promise<void> => {
      await Promise.all(watches.map(async watch => await watch.more(6)));
    };
    const now = async (): Promise<Moment> => (await watches[0]?.now()) ?? 0;
    await goOn();
    const [first, second] = [policiesOf(situation), policiesOf(situation, 'replaced')];
    await cluster.change({ put: first });
    const after = await now();
    await goOn();
    await cluster.change({ put: second, remove: first });
    await goOn();
    const before = await now();
    await cluster.change({ remove: second });
    await goOn();
    const attempts = await Promise.all(watches.map(async watch => await watch.end()));
    return { flows: some.map((flow, index) => ({ flow, attempts: attempts[index] ?? [] })), inForce: { after, before } };
  }

  for (const [turn, situation] of SITUATIONS.entries()) {
    it(`${situation.title}: ${situation.says}`, async function () {
      this.timeout(60_000);
      const some = [...someOf(situation, 'answer', turn), ...someOf(situation, 'refused', turn)];
      const seen = await watched(situation, some);
      for (const { flow, attempts } of seen.flows) {
        const isOpen = expected(situation, flow) === 'answer';
        assert.equal(history(attempts), isOpen ? 'answer' : 'answer refused answer', `${flowText(flow)}, watched`);
        const whileInForce = history(between(attempts, seen.inForce));
        assert.equal(whileInForce, isOpen ? 'answer' : 'refused', `${flowText(flow)}, while the policies were in force`);
      }

      const policies = policiesOf(situation);
      await suite().cluster.change({ put: policies });
      assert.deepEqual(await surprises(situation), []);
      await suite().cluster.change({ remove: policies });
      const denied = flows.filter(flow => expected(situation, flow) === 'refused');
      assert.deepEqual(await surprises(OPEN, denied), [], 'open again without the policies');
    });
  }

  it('is open again when all policies are gone', async () => {
    assert.deepEqual(await surprises(OPEN), []);
  });
});
