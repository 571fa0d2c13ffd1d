import assert from 'node:assert/strict';
import type { LabPod } from './addresses.ts';
import { describeServices, POD_PORT } from './describe-services.ts';
import { weights } from './node-state.ts';
import { type ApiObject, endpoint, podObject, service, slice } from './objects.ts';
import { type Exchange, fates, Load, type Stream, serverOf } from './traffic/load.ts';
import { until } from './until.ts';

/** A request each 100 ms, and as long as one waits for its answer. */
const CUT_MS = 2500;
const GRACE_MS = 3000;
/** From the change that a test makes to the kernel, or from a deadline to the deletion and a client's next request. */
const LATENESS_MS = 1200;
/** At 50 connections a second each is used again after one and a half. */
const PORTS_IN_TURN = 75;
const HTTP = [{ name: 'http', port: POD_PORT }];

const web = (name: string, clusterIP: string, spec: object = {}): ApiObject =>
  service(name, { clusterIP, ports: [{ name: 'http', port: 80 }], ...spec });
const endpoints = (name: string, ...pods: readonly LabPod[]): ApiObject =>
  slice(
    name,
    HTTP,
    pods.map(pod => endpoint(pod)),
  );
const podWithGrace = (pod: LabPod, seconds: number): ApiObject =>
  podObject(pod, { spec: { terminationGracePeriodSeconds: seconds } });
const keep = (address: string, count: number): Stream => ({
  kind: 'keep',
  transport: 'tcp',
  address,
  port: 80,
  everyMs: 50,
  count,
});
const short = (address: string): Stream => ({ kind: 'short', transport: 'tcp', address, port: 80, everyMs: 20 });
const weightOf = (pod: LabPod, weight: number): string => `${pod.addresses.ipv4}:${POD_PORT} ${weight}`;

describeServices(
  'endpoints that drain',
  { podsPerNode: 3, daemons: [{ node: 1, flags: ['--ipvs-graceful-termination', `--ipvs-graceful-period=${GRACE_MS}ms`] }] },
  suite => {
    const weightsOf = async (address: string) => await weights(suite().lab, suite().lab.node(1), address);
    const waitForTime = async (time: number) =>
      await until(
        `the lab's clock is at ${time}`,
        async () => await suite().lab.now(),
        now => now >= time,
      );

    /** Of a load some of whose connections are cut by now: a client hears of its end at its next request. */
    const endAfterCuts = async (load: Load): Promise<readonly Exchange[]> => {
      await waitForTime((await suite().lab.now()) + CUT_MS);
      return await load.end();
    };

    afterEach('no pod has a time of its own', async () => {
      const { cluster } = suite();
      await cluster.remove(...[...cluster.objects.values()].filter(({ kind }) => kind === 'Pod'));
    });

    it('keep their connections for the time of the flag, or of their pod, and get no new ones', async () => {
      const { lab, cluster } = suite();
      const vip = '10.96.21.1';
      const [stays, byFlag, brief, long] = [lab.pod(1, 1), lab.pod(2, 1), lab.pod(2, 2), lab.pod(3, 1)];
      const objects = [web('graces', vip), podWithGrace(brief, 1), podWithGrace(long, 5)];
      await cluster.put(...objects, endpoints('graces', stays, byFlag, brief, long));
      const load = await Load.begin(lab, lab.ext, [keep(vip, 4)]);
      assert.equal(fates(load.exchanges).size, 4, 'each endpoint has one of the kept connections');
      const began = await lab.now();
      await cluster.put(endpoints('graces', stays));
      const changed = await lab.now();
      const others = await Load.begin(lab, lab.pod(1, 2), [short(vip)]);
      assert.deepEqual(
        await weightsOf(vip),
        [weightOf(stays, 1), weightOf(byFlag, 0), weightOf(brief, 0), weightOf(long, 0)].sort(),
      );
      await until(
        'all three are gone',
        async () => await weightsOf(vip),
        seen => seen.length === 1,
        10_000,
      );
      const [all, fresh] = [await endAfterCuts(load), await others.end()];
      const fate = fates(all);
      const times = [
        [brief, 1000],
        [byFlag, GRACE_MS],
        [long, 5000],
      ] as const;
      console.log(
        times.map(([{ name }, grace]) => `${name}: ${grace} ms, cut after ${Math.round((fate.get(name)?.cutAt ?? 0) - began)}`),
      );
      for (const [{ name }, grace] of times) {
        const { cutAt = Number.POSITIVE_INFINITY, lastAnswer = 0 } = fate.get(name) ?? {};
        assert.ok(lastAnswer >= began + grace - 100, `${name} was cut ${began + grace - lastAnswer} ms early`);
        assert.ok(cutAt <= changed + grace + LATENESS_MS, `${name} was cut after ${cutAt - changed} ms`);
      }
      assert.equal(fate.get(stays.name)?.cutAt, undefined);
      assert.deepEqual([...new Set(fresh.map(({ reply }) => serverOf(reply)))], [stays.name]);
    });

    it('are gone before their time when they have no connections left', async () => {
      const { lab, cluster } = suite();
      const vip = '10.96.21.2';
      const [stays, idle] = [lab.pod(1, 1), lab.pod(2, 1)];
      await cluster.put(web('idle', vip), podWithGrace(idle, 60), endpoints('idle', stays, idle));
      await cluster.put(endpoints('idle', stays));
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(idle, 0)]);
      await until(
        'the idle one is gone',
        async () => await weightsOf(vip),
        seen => seen.length === 1,
        8000,
      );
    });

    it('keep their deadline when the daemon is killed and started again', async () => {
      const { lab, cluster, fleets } = suite();
      const vip = '10.96.21.3';
      const [stays, leaves] = [lab.pod(1, 1), lab.pod(2, 1)];
      await cluster.put(web('restart', vip), podWithGrace(leaves, 6), endpoints('restart', stays, leaves));
      const load = await Load.begin(lab, lab.ext, [keep(vip, 2), short(vip)]);
      const began = await lab.now();
      await cluster.put(endpoints('restart', stays));
      const changed = await lab.now();
      assert.equal(await fleets[0]!.daemon(lab.node(1)).kill(), 137);
      await fleets[0]!.startOn(lab.node(1)).waitForLine(/ready: the first round is in/, 30_000);
      assert.ok((await lab.now()) < began + 6000, 'the daemon is back before the deadline');
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(leaves, 0)]);
      await until(
        'it is gone',
        async () => await weightsOf(vip),
        seen => seen.length === 1,
        10_000,
      );
      const all = await endAfterCuts(load);
      const { lastAnswer = 0, cutAt = Number.POSITIVE_INFINITY } = fates(all).get(leaves.name) ?? {};
      console.log(`deadline 6000 ms with a restart between: cut after ${Math.round(cutAt - began)} ms`);
      assert.ok(lastAnswer >= began + 5900 && cutAt <= changed + 6000 + LATENESS_MS, `${lastAnswer - began} ${cutAt - changed}`);
      const fresh = all.filter(({ stream, began: at }) => stream.kind === 'short' && at > changed);
      assert.deepEqual([...new Set(fresh.map(({ reply }) => serverOf(reply)))], [stays.name]);
    });

    it('that return are used again, and the time that ran for them is forgotten', async () => {
      const { lab, cluster } = suite();
      const vip = '10.96.21.4';
      const [stays, returns] = [lab.pod(1, 1), lab.pod(2, 1)];
      await cluster.put(web('return', vip), endpoints('return', stays, returns));
      const load = await Load.begin(lab, lab.ext, [keep(vip, 2), short(vip)]);
      await cluster.put(endpoints('return', stays));
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(returns, 0)]);
      const left = await lab.now();
      await cluster.put(endpoints('return', stays, returns));
      const back = await lab.now();
      assert.ok(back < left + GRACE_MS, 'it is back in time');
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(returns, 1)]);
      await waitForTime(left + 2 * GRACE_MS);
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(returns, 1)]);
      const all = await load.end();
      for (const { name } of [stays, returns]) assert.equal(fates(all).get(name)?.cutAt, undefined);
      const fresh = all.filter(({ stream, began }) => stream.kind === 'short' && began > back);
      assert.deepEqual([...new Set(fresh.map(({ reply }) => serverOf(reply)))].sort(), [stays.name, returns.name]);
    });

    it('go with the next daemon where their time passed while none ran, and where nothing tells of them any more', async () => {
      const { lab, cluster, fleets } = suite();
      const [recorded, forgotten] = ['10.96.21.5', '10.96.21.6'];
      const [stays, leaves] = [lab.pod(1, 1), lab.pod(2, 1)];
      const both = (...pods: readonly LabPod[]): readonly ApiObject[] => [
        endpoints('recorded', ...pods),
        endpoints('forgotten', ...pods),
      ];
      await cluster.put(web('recorded', recorded), web('forgotten', forgotten), ...both(stays, leaves));
      const load = await Load.begin(lab, lab.ext, [keep(recorded, 2), keep(forgotten, 2)]);
      await cluster.put(...both(stays));
      const left = await lab.now();
      assert.equal(await fleets[0]!.daemon(lab.node(1)).kill(), 137);
      const files = (await lab.expectRun(lab.node(1), ['find', '/run', '-name', 'draining'])).trim().split('\n');
      assert.equal(files.length, 1, files.join());
      const record = await lab.readFile(lab.node(1), files[0]!);
      assert.match(record, /10\.96\.21\.5:80/);
      const others = record.split('\n').filter(line => !line.includes(forgotten));
      await lab.writeFile(lab.node(1), files[0]!, others.join('\n'));
      await waitForTime(left + GRACE_MS);
      assert.deepEqual(await weightsOf(recorded), [weightOf(stays, 1), weightOf(leaves, 0)]);
      await fleets[0]!.startOn(lab.node(1)).waitForLine(/ready: the first round is in/, 30_000);
      await until(
        'the recorded one is gone',
        async () => await weightsOf(recorded),
        seen => seen.length === 1,
        2000,
      );
      await until(
        'the forgotten one has drained anew and is gone',
        async () => await weightsOf(forgotten),
        seen => seen.length === 1,
        GRACE_MS + LATENESS_MS,
      );
      await load.end();
      // It is written after the kernel.
      await until(
        'the record has forgotten both',
        async () => await lab.readFile(lab.node(1), files[0]!),
        text => !/10\.96\.21\.[56]/.test(text),
        2000,
      );
    });

    it('go with their Service, whose connections end at once, and another of that address begins afresh', async () => {
      const { lab, cluster } = suite();
      const vip = '10.96.21.7';
      const [stays, leaves] = [lab.pod(1, 1), lab.pod(2, 1)];
      await cluster.put(web('deleted', vip), endpoints('deleted', stays, leaves));
      const load = await Load.begin(lab, lab.pod(1, 2), [keep(vip, 2)]);
      await cluster.put(endpoints('deleted', stays));
      assert.deepEqual(await weightsOf(vip), [weightOf(stays, 1), weightOf(leaves, 0)]);
      const deleting = await lab.now();
      await cluster.remove(web('deleted', vip), endpoints('deleted', stays));
      assert.deepEqual(await weightsOf(vip), []);
      await cluster.put(web('heir', vip), endpoints('heir', leaves));
      assert.deepEqual(await weightsOf(vip), [weightOf(leaves, 1)]);
      await endAfterCuts(load);
      const fate = fates(load.exchanges);
      for (const { name } of [stays, leaves]) {
        const { cutAt = Number.POSITIVE_INFINITY, cutBy } = fate.get(name) ?? {};
        console.log(`Service deleted: ${name} ended ${Math.round(cutAt - deleting)} ms after: ${JSON.stringify(cutBy)}`);
        assert.ok(cutAt - deleting < GRACE_MS, `${name} goes on for ${cutAt - deleting} ms`);
      }
    });

    it('meet no client that uses a source port again, and none of session affinity', async () => {
      const { lab, cluster } = suite();
      const [ports, sticky] = ['10.96.21.8', '10.96.21.9'];
      const [stays, leaves] = [lab.pod(1, 1), lab.pod(2, 1)];
      const client = lab.ext;
      // A busy client opens connections from ports that wait for late packets (TIME-WAIT), a second after their last use.
      await lab.writeFile(client, '/proc/sys/net/ipv4/tcp_tw_reuse', '1');
      const affinity = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 3600 } } };
      const both = (...pods: readonly LabPod[]): readonly ApiObject[] => [
        endpoints('ports', ...pods),
        endpoints('sticky', ...pods),
      ];
      await cluster.put(web('ports', ports), web('sticky', sticky, affinity), podWithGrace(leaves, 60), ...both(leaves));
      const kept = await Load.begin(lab, client, [keep(ports, 1), keep(sticky, 1)]);
      const fresh = await Load.begin(lab, client, [
        { ...short(ports), sourcePort: 20_000, count: PORTS_IN_TURN },
        { ...short(sticky), sourcePort: 21_000, count: PORTS_IN_TURN },
      ]);
      await waitForTime((await lab.now()) + 1600);
      await cluster.put(...both(stays, leaves));
      await cluster.put(...both(stays));
      const changed = await lab.now();
      await waitForTime(changed + 3200);
      const all = await fresh.end();
      const after = all.filter(({ began }) => began > changed);
      const outcomes = Map.groupBy(
        after,
        ({ stream, reply, began, ended }) => `${stream.address} ${serverOf(reply)}${ended - began > 900 ? ' late' : ''}`,
      );
      const server = new Map(all.map(({ stream, number, reply }) => [`${stream.address} ${number}`, serverOf(reply)]));
      const before = after.map(({ stream, number }) => server.get(`${stream.address} ${number - PORTS_IN_TURN}`));
      const again = before.filter(name => name === leaves.name).length;
      console.log(
        [...outcomes].map(([name, each]) => `${name}: ${each.length}`),
        `${again} from ports that ${leaves.name} had before`,
      );
      assert.ok(again > 20);
      assert.deepEqual([...outcomes.keys()].sort(), [`${ports} ${stays.name}`, `${sticky} ${stays.name}`]);
      assert.deepEqual(
        [...fates(await kept.end()).values()].map(({ cutAt }) => cutAt),
        [undefined],
      );
    });
  },
);
