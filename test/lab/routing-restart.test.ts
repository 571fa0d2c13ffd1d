import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { LabNode } from './addresses.ts';
import { deadNode, flagsOf, nodeFor, type Source, sessionsOf } from './cases/routing-overlays.ts';
import { describeRouting, type RoutingSuite } from './describe-routing.ts';
import type { Lab } from './lab.ts';
import { type ApiObject, FAMILIES } from './objects.ts';
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
  for (const { flow, sent } of reports) assert.ok(sent > 200, `${flow}: only ${sent} packets`);
  // A retransmission after a timeout, or two.
  const late = reports
    .filter(({ longestWaitMs }) => longestWaitMs > 1000)
    .map(({ flow, longestWaitMs }) => `${flow}: an answer after ${longestWaitMs} ms`);
  return [...lossesOf(reports), ...late];
}

/** Until a node has its sessions, and time for what comes of them. */
async function sessionsAreUp({ lab }: RoutingSuite, source: Source, node: LabNode): Promise<void> {
  const expected = sessionsOf(source, node.number).map(number => lab.node(number).addresses.ipv4);
  await until(
    `${node.name} has sessions with ${expected.join(', ')}`,
    async () => await bgpNeighbours(lab, node),
    seen => expected.every(address => seen.includes(address)),
    SESSION_LIMIT_MS,
  );
  await pause(1500);
}

interface Incident {
  readonly title: string;
  readonly sources: readonly Source[];
  /** Resolves when the programs run again. */
  readonly happen: (suite: RoutingSuite, node: LabNode) => Promise<void>;
}

const INCIDENTS: readonly Incident[] = [
  {
    title: 'gobgpd is killed',
    sources: ['mesh', 'reflector'],
    happen: async ({ lab }, node) => {
      const killed = await pidOf(lab, node, 'gobgpd');
      await signalOnly(lab, node, 'gobgpd', 'KILL');
      await until(
        'another gobgpd',
        async () => await pidOf(lab, node, 'gobgpd'),
        pid => pid !== undefined && pid !== killed,
      );
    },
  },
  {
    title: 'both are killed and started again',
    sources: ['mesh'],
    happen: async (suite, node) => {
      await signalOnly(suite.lab, node, 'fairway', 'KILL');
      await signalOnly(suite.lab, node, 'gobgpd', 'KILL');
      await pause(500);
      await suite.startAgain(node);
    },
  },
  {
    title: 'the daemon is killed and started again',
    sources: ['mesh', 'api'],
    happen: async (suite, node) => {
      await signalOnly(suite.lab, node, 'fairway', 'KILL');
      await pause(500);
      await suite.startAgain(node);
    },
  },
  {
    title: 'the daemon is stopped and started again',
    sources: ['mesh', 'reflector', 'api'],
    happen: async (suite, node) => {
      assert.equal(await suite.fleet.daemon(node).stop(), 0);
      assert.equal(await pidOf(suite.lab, node, 'gobgpd'), undefined);
      await suite.startAgain(node);
    },
  },
];

/** Whose programs restart: what the others know of each other they know from the reflector alone. */
const RESTARTED: Readonly<Record<Source, { readonly title: string; readonly node: number }>> = {
  mesh: { title: 'a node of a mesh', node: 1 },
  reflector: { title: 'a reflector', node: 2 },
  api: { title: 'a node that goes by Node objects', node: 1 },
};

for (const source of ['mesh', 'reflector', 'api'] as const) {
  const objects = (lab: Lab): readonly ApiObject[] => [...lab.nodes.map(node => nodeFor(source, node)), deadNode()];
  const options = { flags: [...flagsOf(source), ...GRACEFUL], objects };
  describeRouting(`no packet between pods is lost while the programs of ${RESTARTED[source].title} restart`, options, suite => {
    const node = (): LabNode => suite().lab.node(RESTARTED[source].node);

    before('daemons', async function () {
      this.timeout(60_000);
      await suite().start();
      await suite().reached(suite().pairs(), SESSION_LIMIT_MS);
      await sessionsAreUp(suite(), source, node());
    });

    for (const { title, sources, happen } of INCIDENTS) {
      if (!sources.includes(source)) continue;
      it(title, async () => {
        const losses = await lossesDuring(suite(), async () => {
          await happen(suite(), node());
          await sessionsAreUp(suite(), source, node());
        });
        assert.deepEqual(losses, []);
      });
    }
  });
}
