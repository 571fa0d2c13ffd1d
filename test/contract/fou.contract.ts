// Runs as root in a kernel with FoU: in the lab's guest, or in a network namespace of a machine that has it.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fouDriver } from '../../daemon/kernel/fou.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { type FouPort, ROUTING_TABLES } from '../../daemon/reconcile/routing-tables.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: argv => spawned.push(argv) });
const ports = fouDriver({ runner, configuredPort: 5555 });
const keyOf = ROUTING_TABLES.fouPort.key;
const create = (to: FouPort): Change<FouPort> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: FouPort): Change<FouPort> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (entries: readonly FouPort[]): ReadonlyMap<string, FouPort> => new Map(entries.map(entry => [keyOf(entry), entry]));
const both = (port: number): readonly FouPort[] => [
  { family: 'ipv4', port },
  { family: 'ipv6', port },
];
const NONE_FAILED = { failed: new Map() };

function ip(args: string): void {
  const { stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
}

describe('ports of GUE', () => {
  beforeEach(() => {
    spawned.length = 0;
  });

  afterEach(async () => {
    await ports.apply([...both(5555), ...both(5556)].map(remove), never);
    spawnSync('ip', ['fou', 'del', 'port', '5557']);
  });

  it('of both families are made, read and deleted in one process each', async () => {
    assert.deepEqual(await ports.read(new Map(), never), new Map());
    const wanted = both(5555);
    assert.deepEqual(await ports.apply(wanted.map(create), never), NONE_FAILED);
    const found = await ports.read(keyed(wanted), never);
    assert.equal(found.size, 2);
    for (const entry of wanted) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    assert.deepEqual(await ports.apply(wanted.map(remove), never), NONE_FAILED);
    assert.equal(spawned.length, 4);
    assert.deepEqual(await ports.read(new Map(), never), new Map());
  });

  it("by kube-router are ours; others' are ours only where they are expected", async () => {
    ip('fou add port 5555 gue');
    ip('fou add port 5556 gue');
    assert.deepEqual(await ports.read(new Map(), never), keyed(both(5555).slice(0, 1)));
    assert.deepEqual(await ports.read(keyed(both(5556)), never), keyed([...both(5555).slice(0, 1), ...both(5556).slice(0, 1)]));
  });

  it('that are there or gone already have not failed', async () => {
    await ports.apply(both(5555).map(create), never);
    assert.deepEqual(await ports.apply(both(5555).map(create), never), NONE_FAILED);
    assert.deepEqual(await ports.apply(both(5556).map(remove), never), NONE_FAILED);
  });

  it('are refused where something else has the port, and stop no other', async () => {
    ip('fou add port 5557 ipproto 4');
    const { failed } = await ports.apply([create({ family: 'ipv4', port: 5557 }), ...both(5555).map(create)], never);
    assert.deepEqual([...failed.keys()], ['ipv4 5557']);
    const { code, message } = failed.get('ipv4 5557') ?? assert.fail();
    assert.equal(code, 'FW_COMMAND_REFUSED');
    assert.match(
      message,
      /^create of GUE port 5557 \(ipv4\) was refused: Address already in use \(another program or kind of tunnel/,
    );
    assert.equal((await ports.read(new Map(), never)).size, 2);
  });
});
