import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { numbersFrom } from '../fixtures/numbers.ts';
import { allow, clusterOf, crowd, farObject, otherObject } from './cases/policy-changes.ts';
import { describePolicy, PORTS } from './describe-policy.ts';
import { FAMILIES, namespaceObject } from './objects.ts';
import { history, type Watch } from './watch.ts';

const POLICIES = [allow('clients', 'client', 'friend'), allow('more', 'z')];
const WRITES = /(ipset|iptables) changed/;
const READY = /ready: the first round is in/;

describePolicy(
  'a daemon that is killed and comes again',
  { objects: lab => [...clusterOf(lab), ...POLICIES, ...crowd(1, 20, 'crowd')] },
  suite => {
    const node = () => suite().lab.node(1);
    /** One allowed client and one that is not, by TCP and UDP, over IPv4 and IPv6. */
    const watchAll = async (): Promise<readonly { readonly flow: string; readonly wanted: string; readonly watch: Watch }[]> =>
      await Promise.all(
        (['tcp', 'udp'] as const).flatMap(transport =>
          FAMILIES.flatMap(family =>
            [
              { pod: suite().lab.pod(2, 1), wanted: 'answer' },
              { pod: suite().lab.pod(2, 2), wanted: 'refused' },
            ].map(async ({ pod, wanted }) => ({
              flow: `${pod.name} ${transport} ${family}`,
              wanted,
              watch: await suite().watchPair(pod, suite().lab.pod(1, 1), transport, PORTS[0], { family }),
            })),
          ),
        ),
      );
    const more = async (watches: Awaited<ReturnType<typeof watchAll>>): Promise<void> => {
      await Promise.all(watches.map(async ({ watch }) => await watch.more()));
    };
    const neverElse = async (watches: Awaited<ReturnType<typeof watchAll>>): Promise<void> => {
      const seen = await Promise.all(watches.map(async ({ flow, watch }) => `${flow}: ${history(await watch.end())}`));
      assert.deepEqual(
        seen,
        watches.map(({ flow, wanted }) => `${flow}: ${wanted}`),
      );
    };

    it('kept killing it while everything changes lets no denied flow pass and costs no allowed one', async function () {
      this.timeout(120_000);
      const { lab, fleet, cluster } = suite();
      const seed = Number(process.env['FAIRWAY_RESTART_SEED'] ?? Date.now() % 1_000_000);
      const below = numbersFrom(seed);
      console.error(`      killed at random moments, FAIRWAY_RESTART_SEED=${seed}`);
      const watches = await watchAll();
      await more(watches);
      for (let round = 0; round < 8; round++) {
        // Churn: roles within what is allowed and what is not, a namespace label, policies that come and go, pods in new groups.
        const changes = [0, 1, 2, 3].map(step => {
          const turn = round * 4 + step;
          return cluster.publish({
            put: [
              farObject(lab, turn % 2 === 0 ? 'friend' : 'client'),
              otherObject(lab, `other-${turn}`),
              namespaceObject('lab', { team: String(turn) }),
              allow(`churn-${turn % 3}`, `churn-${turn}`),
              ...crowd(1, 20, `crowd-${turn % 5}`),
            ],
            remove: [allow(`churn-${(turn + 1) % 3}`, '')],
          });
        });
        // Its reading, planning and writing are within the first 120 ms.
        await pause(below(120));
        await fleet.daemon(node()).kill();
        await Promise.all(changes);
        const daemon = fleet.startOn(node());
        await daemon.waitForLine(READY, 30_000);
      }
      await more(watches);
      await neverElse(watches);
      await cluster.change({ put: clusterOf(lab) });
      assert.equal(await suite().outcome(lab.pod(2, 1), lab.pod(1, 1)), 'answer');
      assert.equal(await suite().outcome(lab.pod(2, 2), lab.pod(1, 1)), 'refused');
    });

    it('writes nothing where everything is right', async () => {
      const { fleet } = suite();
      await fleet.daemon(node()).kill();
      const daemon = fleet.startOn(node());
      await daemon.waitForLine(READY, 30_000);
      assert.deepEqual(
        daemon.lines.filter(({ text }) => WRITES.test(text)),
        [],
      );
    });

    it('leaves everything in force when it is stopped', async () => {
      const { lab, fleet } = suite();
      const watches = await watchAll();
      await more(watches);
      await fleet.daemon(node()).stop();
      await more(watches);
      const daemon = fleet.startOn(node());
      await daemon.waitForLine(READY, 30_000);
      await more(watches);
      await neverElse(watches);
      assert.equal(await suite().outcome(lab.node(1), lab.pod(1, 1)), 'answer');
    });
  },
);
