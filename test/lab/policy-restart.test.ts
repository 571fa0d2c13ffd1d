import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { allow, clusterOf, crowd, farObject, otherObject } from './cases/policy-changes.ts';
import { describePolicy } from './describe-policy.ts';
import { namespaceObject } from './objects.ts';
import { history, type Watch } from './watch.ts';

const POLICIES = [allow('clients', 'client', 'friend'), allow('more', 'z')];
const WRITES = /(ipset|iptables) changed/;
const READY = /ready: the first round is in/;

describePolicy(
  'a daemon that is killed and comes again',
  { objects: lab => [...clusterOf(lab), ...POLICIES, ...crowd(1, 20, 'crowd')] },
  suite => {
    const node = () => suite().lab.node(1);
    const watchFrom = async (name: 'far' | 'other'): Promise<Watch> =>
      await suite().watchPair(suite().lab.pod(2, name === 'far' ? 1 : 2), suite().lab.pod(1, 1), 'tcp');

    it('kept killing it while everything changes lets no denied flow pass and costs no allowed one', async function () {
      this.timeout(120_000);
      const { lab, fleet, cluster } = suite();
      const [allowed, denied] = [await watchFrom('far'), await watchFrom('other')];
      await allowed.more();
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
        // At another moment of the daemon's work each time: 20 ms apart are its reading, planning and writing.
        await pause(5 + round * 13);
        await fleet.daemon(node()).kill();
        await Promise.all(changes);
        const daemon = fleet.startOn(node());
        await daemon.waitForLine(READY, 30_000);
      }
      await allowed.more();
      assert.equal(history(await denied.end()), 'refused');
      assert.equal(history(await allowed.end()), 'answer');
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
      const [allowed, denied] = [await watchFrom('far'), await watchFrom('other')];
      await allowed.more();
      await fleet.daemon(node()).stop();
      await allowed.more();
      await denied.more();
      const daemon = fleet.startOn(node());
      await daemon.waitForLine(READY, 30_000);
      await allowed.more();
      assert.equal(history(await denied.end()), 'refused');
      assert.equal(history(await allowed.end()), 'answer');
      assert.equal(await suite().outcome(lab.node(1), lab.pod(1, 1)), 'answer');
    });
  },
);
