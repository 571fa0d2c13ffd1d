import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { describeServices, POD_PORT, type ServicesSuite } from './describe-services.ts';
import { type ApiObject, endpoint, service, slice } from './objects.ts';
import { cuts, failedOpenings, Load, type Stream, serverOf, shown } from './traffic/load.ts';
import { until } from './until.ts';

const VIP = '10.96.23.1';
const CHURN_MS = 100;
const KILLS = 5;
const PORTS = [{ name: 'http', port: POD_PORT }];
const seed = Number(process.env['FAIRWAY_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

/** Numbers in [0, 1) that a seed repeats (mulberry32). */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const web = (name: string, clusterIP: string): ApiObject => service(name, { clusterIP, ports: [{ name: 'http', port: 80 }] });

/** One more change: an endpoint of the Service under load comes or goes, a Service of its own comes or goes. */
async function churn({ lab, cluster }: ServicesSuite, random: () => number): Promise<void> {
  const healthy = [lab.pod(1, 1), lab.pod(2, 1)];
  const [flapping, at] = [[lab.pod(2, 2), lab.pod(3, 1)].filter(() => random() < 0.5), 10 + Math.floor(random() * 20)];
  const other = [web(`other-${at}`, `10.96.23.${at}`), slice(`other-${at}`, PORTS, [endpoint(lab.pod(3, 1))])];
  const isThere = [...cluster.objects.values()].some(({ metadata }) => metadata.name === `other-${at}`);
  const all = slice(
    'web',
    PORTS,
    [...healthy, ...flapping].map(pod => endpoint(pod)),
  );
  await cluster.publish(isThere ? { put: [all], remove: other } : { put: [all, ...other] });
}

/** Writes of a daemon, line by line, as its log tells them. */
const writesOf = (lines: readonly { readonly text: string }[]): readonly string[] =>
  lines.map(({ text }) => text).filter(text => / changed .*(created|updated|deleted)=[1-9]/.test(text));

describeServices(
  'the daemon is killed at any moment',
  { daemons: [{ node: 1, flags: ['--ipvs-graceful-termination'] }] },
  suite => {
    it('and no connection to a healthy endpoint fails, established or new', async () => {
      const { lab, cluster, fleets } = suite();
      console.log(`FAIRWAY_SEED=${seed}`);
      const random = randomOf(seed);
      const node = lab.node(1);
      await cluster.put(web('web', VIP), slice('web', PORTS, [endpoint(lab.pod(1, 1)), endpoint(lab.pod(2, 1))]));
      const target = { transport: 'tcp', address: VIP, port: 80 } as const;
      const streams: readonly Stream[] = [
        { ...target, kind: 'keep', everyMs: 100, count: 2 },
        { ...target, kind: 'short', everyMs: 40 },
      ];
      const loads = await Promise.all([lab.ext, lab.pod(1, 2), node].map(host => Load.begin(lab, host, streams)));
      const churning = { isOn: true };
      const churned = (async () => {
        let count = 0;
        for (; churning.isOn; count++) {
          await churn(suite(), random);
          await pause(CHURN_MS);
        }
        return count;
      })();
      for (let kills = 0; kills < KILLS; kills++) {
        // From early in its start to well after its first round.
        await pause(300 + random() * 3000);
        assert.equal(await fleets[0]!.daemon(node).kill(), 137);
        fleets[0]!.startOn(node);
      }
      churning.isOn = false;
      const changes = await churned;
      await fleets[0]!.daemon(node).waitForLine(/ready: the first round is in/, 30_000);
      await cluster.change({});
      const all = (await Promise.all(loads.map(async load => await load.end()))).flat();
      console.log(
        `${changes} changes, ${KILLS} kills, ${all.length} exchanges, ${all.filter(({ isOpening }) => isOpening).length} of them new connections`,
      );
      assert.deepEqual(failedOpenings(all), []);
      assert.deepEqual(cuts(all).map(shown), []);
      const kept = all.filter(({ stream, isOpening }) => stream.kind === 'keep' && isOpening);
      assert.ok(kept.length === 6 && kept.every(({ reply }) => /^pod-[12]-1$/.test(serverOf(reply))));
    });

    it('and the next one writes what changed meanwhile and nothing else', async () => {
      const { lab, cluster, fleets } = suite();
      const node = lab.node(1);
      const still = [web('still', '10.96.23.40'), slice('still', PORTS, [endpoint(lab.pod(1, 1))])];
      await cluster.put(...still);
      const statsOf = async (): Promise<string> =>
        await lab.expectRun(node, ['ipvsadm', '-Ln', '--stats', '--exact', '-t', '10.96.23.40:80']);
      await lab.probe(lab.pod(1, 2)).burst({ transport: 'tcp', address: '10.96.23.40', port: 80 }, 7);
      // The kernel adds up its counters every two seconds.
      const before = await until('the seven connections are counted', statsOf, seen => /10\.96\.23\.40:80 +7 /.test(seen));
      assert.equal(await fleets[0]!.daemon(node).kill(), 137);
      const same = fleets[0]!.startOn(node);
      await same.waitForLine(/ready: the first round is in/, 30_000);
      assert.deepEqual(writesOf(same.lines), [], 'nothing had changed');
      assert.equal(await statsOf(), before);

      assert.equal(await same.kill(), 137);
      await cluster.publish({ put: [web('new', '10.96.23.41'), slice('new', PORTS, [endpoint(lab.pod(1, 1))])] });
      const next = fleets[0]!.startOn(node);
      await next.waitForLine(/ready: the first round is in/, 30_000);
      const writes = writesOf(next.lines);
      console.log(writes.join('\n'));
      assert.ok(
        writes.some(line => /virtualServer changed .*created=1\b/.test(line)),
        next.output,
      );
      for (const line of writes) assert.doesNotMatch(line, /(updated|deleted)=[1-9]/);
      assert.equal(await statsOf(), before);
    });
  },
);
