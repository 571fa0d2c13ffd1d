import assert from 'node:assert/strict';
import type { Predecessor } from '../../../daemon/config/options-commands.ts';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { LeftoverWatch } from '../../../daemon/leftovers/watch.ts';
import type { Log } from '../../../daemon/observe/log.ts';
import { ManualClock } from '../../fakes/clock.ts';

/** A host on which nothing is left but, until they are deleted, these tables of nftables. */
class Host implements CommandRunner {
  readonly asked: string[] = [];
  tables: readonly string[] = [];

  run({ argv, stdin = '' }: Command): Promise<CommandResult> {
    this.asked.push(argv.join(' '));
    if (argv.join(' ') === 'nft -f -') this.tables = this.tables.filter(table => !stdin.includes(`delete table ${table}\n`));
    if (argv.includes('kube-ipvs0')) return Promise.resolve({ status: 1, stdout: '', stderr: 'Cannot find device "kube-ipvs0"' });
    const stdout = argv.join(' ') === 'nft list tables' ? this.tables.map(table => `table ${table}\n`).join('') : '';
    return Promise.resolve({ status: 0, stdout, stderr: '' });
  }

  lines(command: Command): Promise<CommandResult> {
    return this.run(command);
  }
}

class World {
  readonly host = new Host();
  readonly clock = new ManualClock();
  readonly said: string[] = [];
  progress: 'none' | 'first round' | 'whole' = 'none';
  /** How it shows that kube-proxy runs. */
  runs: string | undefined;
  readonly watch: LeftoverWatch;

  constructor(takeOver: readonly Predecessor[] = []) {
    const say = (text: string): void => void this.said.push(text);
    const log: Log = { error: say, warn: say, info: say, debug: say };
    this.watch = new LeftoverWatch({
      ground: { excludedCidrs: [], overlayEncapPort: 5555 },
      clock: this.clock,
      log,
      running: () => Promise.resolve(this.runs),
      hasLink: () => Promise.resolve(false),
      takeOver,
      concerns: ['kube-proxy'],
      progress: () => this.progress,
    });
    this.watch.start(this.host);
  }

  /** Passes the longest pause, and waits until what that began is done. */
  async pass(): Promise<void> {
    await this.clock.advance(30_000);
    await this.watch.settled();
  }
}

describe('what predecessors left', () => {
  it('is not looked at before the first round is in, and then by one process', async () => {
    const world = new World();
    world.watch.chainSeen('KUBE-SERVICES');
    world.watch.chainSeen('CNI-OTHER');
    await world.pass();
    assert.deepEqual([world.said, world.host.asked], [[], []]);
    world.progress = 'first round';
    await world.pass();
    assert.deepEqual(world.host.asked, ['nft list tables']);
    assert.deepEqual(world.said, world.watch.remarks());
    assert.match(
      world.said.join('\n'),
      /^kube-proxy left its rules here \(1 chains such as KUBE-SERVICES\): .*'fairway cleanup --of=kube-proxy'/,
    );
    await world.pass();
    assert.deepEqual(world.host.asked, ['nft list tables']);
  });

  it('is nothing to speak of where there is nothing', async () => {
    const world = new World();
    world.progress = 'whole';
    await world.pass();
    assert.deepEqual([world.said, world.watch.remarks()], [[], []]);
  });

  it('is taken over when all of ours is in force, and not before', async () => {
    const world = new World(['kube-proxy']);
    world.host.tables = ['ip kube-proxy', 'ip kube-other'];
    world.progress = 'first round';
    await world.pass();
    assert.deepEqual(world.host.tables, ['ip kube-proxy', 'ip kube-other']);
    world.progress = 'whole';
    world.runs = 'process 7';
    await world.pass();
    assert.deepEqual(world.watch.remarks(), [
      'kube-proxy still runs here (process 7): what it left is removed when it does not any more',
    ]);
    world.runs = undefined;
    await world.pass();
    assert.deepEqual(world.host.tables, ['ip kube-other']);
    assert.deepEqual(world.watch.remarks(), []);
    assert.deepEqual(world.said.slice(1), ['taken over from kube-proxy: removed 1 nftables tables']);
    const asked = world.host.asked.length;
    await world.pass();
    assert.equal(world.host.asked.length, asked, 'nothing runs any more');
  });
});
