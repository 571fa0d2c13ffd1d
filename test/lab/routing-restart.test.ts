import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { deadNode, flagsOf, sessionsOf } from './cases/routing-overlays.ts';
import { describeRouting, type RoutingSuite } from './describe-routing.ts';
import { FAMILIES } from './objects.ts';
import { pidOf, signalOnly } from './peers/node-processes.ts';
import { bgpNeighbours } from './routing-state.ts';
import { Flows, lossesOf } from './traffic/traffic.ts';
import { until } from './until.ts';

/** Sessions that were cut are back. gobgpd tries a neighbour again some 5 to 10 seconds after it was not there. */
const SESSION_LIMIT_MS = 30_000;
const GRACEFUL: readonly string[] = ['--bgp-graceful-restart'];

/** What becomes of flows between established pods of three nodes meanwhile: a line for each that lost a packet, either way. */
async function lossesDuring(suite: RoutingSuite, action: () => Promise<void>): Promise<readonly string[]> {
  const { lab } = suite;
  const targets = [lab.pod(2, 1), lab.pod(3, 1)].flatMap(({ addresses }) =>
    FAMILIES.flatMap(family => (['udp', 'tcp'] as const).map(transport => ({ transport, address: addresses[family] }))),
  );
  const flows = await Flows.begin(lab, lab.pod(1, 1), targets);
  await action();
  const reports = await flows.end();
  for (const { flow, sent, longestWaitMs } of reports) {
    assert.ok(sent > 200, `${flow}: only ${sent} packets`);
    // A retransmission by timeout would take longer.
    assert.ok(longestWaitMs < 1000, `${flow}: an answer took ${longestWaitMs} ms`);
  }
  return lossesOf(reports);
}

/** Until node1 has its sessions, and time for what comes of them. */
async function sessionsAreUp({ lab }: RoutingSuite, source: 'mesh' | 'api'): Promise<void> {
  const expected = sessionsOf(source, 1).map(number => lab.node(number).addresses.ipv4);
  await until(
    `node1 has sessions with ${expected.join(', ')}`,
    async () => await bgpNeighbours(lab, lab.node(1)),
    seen => expected.every(address => seen.includes(address)),
    SESSION_LIMIT_MS,
  );
  await pause(1500);
}

for (const source of ['mesh', 'api'] as const) {
  const flags = [...flagsOf(source), ...GRACEFUL];
  describeRouting(`pods' packets while a node's programs restart, ${source}`, { flags, objects: () => [deadNode()] }, suite => {
    const node = () => suite().lab.node(1);
    const restarted = async (): Promise<void> => {
      await suite().startAgain(node());
      await sessionsAreUp(suite(), source);
    };

    before('daemons', async function () {
      this.timeout(60_000);
      await suite().start();
      const took = await suite().reached(suite().pairs(), 15_000);
      console.log(`      reached ${took} ms after all were ready`);
      await sessionsAreUp(suite(), source);
    });

    if (source === 'mesh') {
      it('none is lost when gobgpd is killed', async () => {
        const killed = await pidOf(suite().lab, node(), 'gobgpd');
        const losses = await lossesDuring(suite(), async () => {
          await signalOnly(suite().lab, node(), 'gobgpd', 'KILL');
          await until(
            'another gobgpd',
            async () => await pidOf(suite().lab, node(), 'gobgpd'),
            pid => pid !== undefined && pid !== killed,
          );
          await sessionsAreUp(suite(), source);
        });
        assert.deepEqual(losses, []);
      });

      it('none is lost when both are killed and started again', async () => {
        const losses = await lossesDuring(suite(), async () => {
          await signalOnly(suite().lab, node(), 'fairway', 'KILL');
          await signalOnly(suite().lab, node(), 'gobgpd', 'KILL');
          await pause(500);
          await restarted();
        });
        assert.deepEqual(losses, []);
      });
    }

    it('none is lost when the daemon is killed and started again', async () => {
      const losses = await lossesDuring(suite(), async () => {
        await signalOnly(suite().lab, node(), 'fairway', 'KILL');
        await pause(500);
        await restarted();
      });
      assert.deepEqual(losses, []);
    });

    it('none is lost when the daemon is stopped and started again', async () => {
      const losses = await lossesDuring(suite(), async () => {
        assert.equal(await suite().fleet.daemon(node()).stop(), 0);
        assert.equal(await pidOf(suite().lab, node(), 'gobgpd'), undefined);
        await restarted();
      });
      assert.deepEqual(losses, []);
    });
  });
}
