import assert from 'node:assert/strict';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { lanAddressDriver } from '../../../daemon/kernel/lan-address.ts';
import { neighbourOf, standingAddressOf } from '../../../daemon/kernel/lan-address-lines.ts';
import { LanAddressRecord, parseRecord, renderRecord } from '../../../daemon/kernel/lan-address-record.ts';
import { LanSecondLook } from '../../../daemon/kernel/lan-second-look.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import { type LanAddress, lanAddressKey } from '../../../daemon/reconcile/service-tables.ts';
import { ManualClock } from '../../fakes/clock.ts';

const at = (text: string, link = 'eth0'): LanAddress => ({ link, address: mustParseAddress(text) });
const keyed = (...entries: readonly LanAddress[]): ReadonlyMap<string, LanAddress> =>
  new Map(entries.map(entry => [lanAddressKey(entry), entry]));
const emptyFile = { read: () => Promise.resolve(undefined), write: () => Promise.resolve() };

describe('what ip shows of announced addresses', () => {
  const shown = (line: string): string => {
    const { address, state } = standingAddressOf(line) ?? {};
    return `${address} ${state}`;
  };

  it('is told by prefix length and flags', () => {
    const lines: readonly (readonly [string, string])[] = [
      ['2: eth0    inet 192.0.2.7/32 scope global eth0\\       valid_lft forever preferred_lft forever', '192.0.2.7 held'],
      ['2: eth0    inet 192.0.2.7/31 scope link noprefixroute eth0\\  valid_lft forever', '192.0.2.7 twin'],
      ['2: eth0    inet 192.0.2.7/31 brd 192.0.2.7 scope global eth0\\  valid_lft forever', '192.0.2.7 other'],
      ['2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\  valid_lft forever', '192.0.2.1 other'],
      ['2: eth0    inet6 2001:db8::7/128 scope global deprecated noprefixroute \\  valid_lft forever', '2001:db8::7 held'],
      ['2: eth0    inet6 2001:db8::7/128 scope global deprecated tentative noprefixroute \\  x', '2001:db8::7 tentative'],
      ['2: eth0    inet6 2001:db8::7/128 scope global dadfailed deprecated tentative \\  x', '2001:db8::7 duplicate'],
      ['2: eth0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever', 'fe80::1 other'],
      ['2: eth0    inet 192.0.2.7 peer 192.0.2.8/32 scope global eth0\\  valid_lft forever', 'undefined undefined'],
    ];
    for (const [line, expected] of lines) assert.equal(shown(line), expected, line);
  });

  it('is who answered, where somebody did', () => {
    assert.deepEqual(neighbourOf('192.0.2.7 lladdr 02:00:00:00:00:01 REACHABLE '), {
      address: '192.0.2.7',
      mac: '02:00:00:00:00:01',
    });
    for (const line of ['192.0.2.7  FAILED', '192.0.2.7  INCOMPLETE', '']) assert.equal(neighbourOf(line), undefined, line);
  });
});

describe('the record of announced addresses', () => {
  it('is read as it is written; lines that are none are left out', () => {
    const entries = keyed(at('192.0.2.7'), at('2001:db8::7', 'bond0.7'));
    assert.equal(renderRecord(entries), '192.0.2.7 eth0\n2001:db8::7 bond0.7\n');
    assert.deepEqual(parseRecord(`${renderRecord(entries)}half a li\nnonsense eth0\n`), entries);
  });

  it('tells what an address on a link is to us', async () => {
    const record = new LanAddressRecord(emptyFile);
    const standing = (prefixLength: number, link = 'eth0'): string =>
      record.standingOf({ ...at('192.0.2.7', link), prefixLength });
    assert.equal(standing(32), "the host's");
    await record.add([at('192.0.2.7')]);
    assert.deepEqual(
      [standing(32), standing(31), standing(24), standing(32, 'eth1')],
      ['ours', 'ours', "the host's", "the host's"],
    );
    record.startLeaving(['192.0.2.7 eth0']);
    assert.equal(standing(32), 'leaving');
    await record.remove(['192.0.2.7 eth0']);
    assert.equal(standing(32), 'left');
    await record.add([at('192.0.2.7')]);
    assert.equal(standing(32), 'ours');
  });

  it('that cannot be written keeps addresses from their links', async () => {
    const runner = new Neighbours();
    const record = new LanAddressRecord({ ...emptyFile, write: () => Promise.reject(new Error('ENOSPC')) });
    const driver = lanAddressDriver({ runner, record, left: new Map(), duplicates: new Set(), onAdded: () => assert.fail() });
    const key = '192.0.2.7 eth0';
    const { failed } = await driver.apply([{ op: 'create', key, to: at('192.0.2.7') }], new AbortController().signal);
    assert.match(failed.get(key)?.message ?? '', /cannot be written: ENOSPC/);
    assert.deepEqual(runner.batches, []);
  });
});

/** Hosts that answer when told: what no real network does on demand, at times of a clock moved by hand. */
class Neighbours implements CommandRunner {
  readonly batches: (readonly string[])[] = [];
  answers: string[] = [];

  run({ stdin }: Command): Promise<CommandResult> {
    this.batches.push((stdin ?? '').trim().split('\n'));
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }

  lines({ argv }: Command, onLine: (line: string) => void): Promise<CommandResult> {
    if (argv.includes('neigh')) for (const line of this.answers) onLine(line);
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }

  /** Since the last time. */
  taken(pattern: RegExp): number {
    const count = this.batches.flat().filter(line => pattern.test(line)).length;
    this.batches.length = 0;
    return count;
  }
}

const ANNOUNCED = /\/31 dev eth0 scope link/;
const ASKED = / use$/;

async function secondLookAt(...entries: readonly LanAddress[]) {
  const runner = new Neighbours();
  const clock = new ManualClock();
  const record = new LanAddressRecord(emptyFile);
  await record.add(entries);
  const told: string[] = [];
  const left = new Map<string, string>();
  const duplicates = new Set<string>();
  const secondLook = new LanSecondLook({
    runner,
    record,
    left,
    duplicates,
    onMoved: () => told.push(`left: ${[...left.keys()].join(', ')}`),
    clock,
    onDuplicate: ({ address, mac }) => told.push(`${address} ${mac}`),
    onAlone: ({ address }) => told.push(`${address} alone`),
    onTrouble: error => told.push(error.message),
  });
  secondLook.add(entries);
  return { runner, clock, record, left, duplicates, told, secondLook };
}

describe('after an announcement', () => {
  const many = Array.from({ length: 150 }, (_, index) => at(`192.0.2.${index}`));

  it('there is a second one two seconds later, of so many at once that the table of neighbours has room', async () => {
    const { runner, clock, told, secondLook } = await secondLookAt(...many);
    await clock.advance(1999);
    assert.deepEqual(runner.batches, []);
    await clock.advance(1);
    assert.equal(runner.taken(ANNOUNCED), 64);
    await clock.advance(2000);
    assert.equal(runner.taken(ANNOUNCED), 64);
    await clock.advance(2000);
    assert.equal(runner.taken(ANNOUNCED), 22);
    await clock.advance(600_000);
    assert.equal(runner.taken(ANNOUNCED), 0);
    assert.deepEqual(told, []);
    await secondLook.stop();
  });

  it('another host that answers is told once, asked for at growing distances, and told when it is gone', async () => {
    const { runner, clock, told, secondLook } = await secondLookAt(at('192.0.2.7'));
    runner.answers = ['192.0.2.7 lladdr 02:00:00:00:00:09 REACHABLE', '192.0.2.1 lladdr 02:00:00:00:00:01 STALE'];
    await clock.advance(3000);
    assert.deepEqual(told, ['192.0.2.7 02:00:00:00:00:09']);
    runner.taken(ASKED);
    await clock.advance(300_000);
    assert.equal(runner.taken(ANNOUNCED), 0, 'it is not fought');
    assert.deepEqual(told, ['192.0.2.7 02:00:00:00:00:09']);
    runner.answers = [];
    await clock.advance(61_000);
    assert.equal(runner.taken(ASKED), 1);
    assert.deepEqual(told, ['192.0.2.7 02:00:00:00:00:09', '192.0.2.7 alone']);
    await secondLook.stop();
  });

  it('nothing follows for one that was taken away meanwhile, nor when all is stopped', async () => {
    const { runner, clock, record, secondLook } = await secondLookAt(at('192.0.2.7'), at('192.0.2.8'));
    record.startLeaving(['192.0.2.7 eth0']);
    await clock.advance(2000);
    assert.equal(runner.taken(ANNOUNCED), 1);
    secondLook.add([at('192.0.2.8')]);
    await secondLook.stop();
    await clock.advance(60_000);
    assert.deepEqual(runner.batches, []);
  });
});

describe('a node that does not learn any more who is to answer', () => {
  const mac = '02:00:00:00:00:09';
  const answer = `192.0.2.7 lladdr ${mac} REACHABLE`;

  it('asks in IPv4, again and again, who else answers for what it has, and keeps what nobody answers for', async () => {
    const { runner, clock, record, told, secondLook } = await secondLookAt(at('192.0.2.7'), at('2001:db8::7'));
    await clock.advance(10_000);
    runner.taken(ASKED);
    secondLook.blind(true);
    await clock.advance(16_999);
    assert.equal(runner.taken(ASKED), 0);
    await clock.advance(1);
    assert.equal(runner.taken(ASKED), 1);
    await clock.advance(300_000);
    assert.equal(runner.taken(ASKED), 10);
    assert.deepEqual([told, record.entries.size], [[], 2]);
    secondLook.blind(false);
    await clock.advance(300_000);
    assert.equal(runner.taken(ASKED), 0);
    await secondLook.stop();
  });

  it('leaves an address to who answers for it since then, until he does no more', async () => {
    const { runner, clock, record, told, left, duplicates, secondLook } = await secondLookAt(at('192.0.2.7'), at('192.0.2.8'));
    await clock.advance(10_000);
    secondLook.blind(true);
    runner.answers = [answer];
    runner.taken(ASKED);
    await clock.advance(18_000);
    assert.equal(runner.taken(/^addr del 192\.0\.2\.7\/32 dev eth0$/), 1);
    assert.deepEqual([...record.entries.keys()], ['192.0.2.8 eth0']);
    assert.deepEqual(told, [`192.0.2.7 ${mac}`, 'left: 192.0.2.7 eth0']);
    const driver = lanAddressDriver({ runner, record, left, duplicates, onAdded: () => undefined });
    const [key, never] = ['192.0.2.7 eth0', new AbortController().signal] as const;
    const { failed } = await driver.apply([{ op: 'create', key, to: at('192.0.2.7') }], never);
    assert.match(failed.get(key)?.message ?? '', /is left to another host \(02:00:00:00:00:09\)/);
    await clock.advance(300_000);
    runner.answers = [];
    await clock.advance(3000);
    assert.deepEqual(told.slice(2), ['192.0.2.7 alone', 'left: ']);
    assert.deepEqual((await driver.apply([{ op: 'create', key, to: at('192.0.2.7') }], never)).failed.size, 0);
    runner.answers = [answer];
    await clock.advance(300_000);
    assert.ok(record.entries.has(key), 'two who are blind do not step back and forth together');
    await secondLook.stop();
  });

  it('takes back all that it left when it learns again', async () => {
    const { runner, clock, told, left, secondLook } = await secondLookAt(at('192.0.2.7'));
    await clock.advance(10_000);
    secondLook.blind(true);
    runner.answers = [answer];
    await clock.advance(18_000);
    secondLook.blind(false);
    assert.deepEqual([told.slice(1), left.size], [['left: 192.0.2.7 eth0', 'left: '], 0]);
    await secondLook.stop();
  });

  it('leaves nothing to who answered before, as a router does that answers for others', async () => {
    const { runner, clock, record, told, secondLook } = await secondLookAt(at('192.0.2.7'));
    runner.answers = [answer];
    await clock.advance(10_000);
    secondLook.blind(true);
    await clock.advance(300_000);
    assert.deepEqual([told, record.entries.size], [[`192.0.2.7 ${mac}`], 1]);
    await secondLook.stop();
  });
});
