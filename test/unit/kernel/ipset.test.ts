// Address plan: elements 10.244.0.0/16 and fd00:244::/64.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { ipsetDriver } from '../../../daemon/kernel/ipset.ts';
import { parseSaveLine, refusalOf } from '../../../daemon/kernel/ipset-script.ts';
import { addressOfBytes, type Family } from '../../../daemon/net/address.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import { elementName, type IpSetEntry, type IpSetType, TABLES } from '../../../daemon/reconcile/tables.ts';

const never = new AbortController().signal;
const create = (to: IpSetEntry): Change<IpSetEntry> => ({ op: 'create', key: TABLES.ipset.key(to), to });
const remove = (from: IpSetEntry): Change<IpSetEntry> => ({ op: 'delete', key: TABLES.ipset.key(from), from });
const setOf = (name: string, type: IpSetType = 'hash:ip', maxElements = 65536, family: Family = 'ipv4'): IpSetEntry => ({
  kind: 'set',
  name,
  type,
  family,
  maxElements,
});
const element = (set: string, value: string): IpSetEntry => ({ kind: 'element', set, value });

/** A runner that answers as `ipset` would on a machine that is not this one. */
function answering(result: CommandResult): CommandRunner {
  return {
    run: async () => result,
    async lines(_command, onLine) {
      for (const line of result.stdout.split('\n')) if (line !== '') onLine(line);
      return result;
    },
  };
}

const silent = ipsetDriver({ runner: answering({ status: 0, stdout: '', stderr: '' }), owns: () => true });

const addressOf = (family: Family): fc.Arbitrary<string> => {
  const length = family === 'ipv4' ? 4 : 16;
  return fc
    .array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })), { minLength: length, maxLength: length })
    .map(bytes => addressOfBytes(Uint8Array.from(bytes)));
};
const port = fc
  .tuple(fc.constantFrom('tcp', 'udp', 'sctp'), fc.integer({ min: 0, max: 65535 }))
  .map(([protocol, number]) => `${protocol}:${number}`);

function elementValue(type: IpSetType, family: Family): fc.Arbitrary<string> {
  const address = addressOf(family);
  switch (type) {
    case 'hash:ip':
      return address;
    case 'hash:net':
      return fc
        .tuple(address, fc.integer({ min: 1, max: 31 }), fc.constantFrom('', ' nomatch'))
        .map(([prefix, bits, flag]) => `${prefix}/${bits}${flag}`);
    case 'hash:ip,port':
      return fc
        .tuple(address, port, fc.constantFrom('', ' skbmark 0x5/0x1fff', ' skbmark 0x1000/0x1fff'))
        .map(([first, second, mark]) => `${first},${second}${mark}`);
    case 'hash:ip,port,net':
      return fc
        .tuple(address, port, address, fc.integer({ min: 1, max: 31 }))
        .map(([first, second, prefix, bits]) => `${first},${second},${prefix}/${bits}`);
    case 'hash:ip,port,ip':
      return fc.tuple(address, port, address).map(parts => parts.join(','));
  }
}

const entries: fc.Arbitrary<readonly IpSetEntry[]> = fc
  .tuple(
    fc.constantFrom<IpSetType>('hash:ip', 'hash:ip,port', 'hash:ip,port,ip', 'hash:ip,port,net', 'hash:net'),
    fc.constantFrom<Family>('ipv4', 'ipv6'),
    fc.stringMatching(/^[a-z][A-Za-z0-9:-]{0,30}$/),
    fc.integer({ min: 1, max: 1_000_000 }),
  )
  .chain(([type, family, name, maxElements]) =>
    fc
      .uniqueArray(elementValue(type, family), { maxLength: 20, selector: elementName })
      .map(values => [setOf(name, type, maxElements, family), ...values.map(value => element(name, value))]),
  );

describe('the script for ipset', () => {
  it('says the same as is read back', () => {
    fc.assert(
      fc.property(entries, all => {
        for (const entry of all) assert.equal(refusalOf(entry), undefined);
        const lines = silent.render(all.map(create)).trimEnd().split('\n');
        assert.deepEqual(lines.map(parseSaveLine), all);
      }),
    );
  });

  it('makes sets before elements and removes elements before sets', () => {
    const script = silent.render([
      remove(setOf('old')),
      remove(element('kube-router-svip', '10.244.0.9')),
      create(element('kube-router-svip', '10.244.0.1')),
      create(setOf('kube-router-svip')),
      remove(element('old', '10.244.0.1')),
    ]);
    assert.equal(
      script,
      [
        'create kube-router-svip hash:ip family inet maxelem 65536',
        'add kube-router-svip 10.244.0.1',
        'del kube-router-svip 10.244.0.9',
        'flush old',
        'destroy old',
        '',
      ].join('\n'),
    );
  });

  it('names an element without its nomatch where it goes, and changes it in place', () => {
    const matching = element('blocks', '10.1.0.0/16');
    const exempt = element('blocks', '10.1.0.0/16 nomatch');
    const change: Change<IpSetEntry> = { op: 'update', key: TABLES.ipset.key(exempt), from: matching, to: exempt };
    assert.equal(TABLES.ipset.key(matching), TABLES.ipset.key(exempt));
    assert.equal(TABLES.ipset.same(matching, exempt), false);
    assert.equal(silent.render([create(exempt)]), 'add blocks 10.1.0.0/16 nomatch\n');
    assert.equal(silent.render([change]), 'add blocks 10.1.0.0/16 nomatch\n');
    assert.equal(silent.render([remove(exempt)]), 'del blocks 10.1.0.0/16\n');
  });

  it('shows how a set that is too small is made anew', () => {
    const change: Change<IpSetEntry> = { op: 'update', key: 'svip', from: setOf('svip'), to: setOf('svip', 'hash:ip', 131072) };
    assert.equal(
      silent.render([change]),
      [
        'destroy fairway-swap',
        'create fairway-swap hash:ip family inet maxelem 131072',
        '# the elements of svip go to fairway-swap here',
        'swap svip fairway-swap',
        'destroy fairway-swap',
        '',
      ].join('\n'),
    );
  });

  it('never lets ipset take a word for the name of a host', () => {
    for (const value of [
      'example.com',
      'localhost',
      '10.0.0.1 timeout 5',
      '10.0.0.1,icmp:1',
      '',
      '10.0.0.1-10.0.0.9',
      '-exist',
    ]) {
      assert.match(refusalOf(element('svip', value)) ?? '', /is no element/);
    }
    for (const value of ['10.0.0.1,tcp:80 nomatch', '10.0.0.0/8 nomatch nomatch', 'nomatch', '10.0.0.0/8 timeout 5 nomatch']) {
      assert.match(refusalOf(element('blocks', value)) ?? '', /is no element/);
    }
    assert.match(refusalOf(setOf('a name')) ?? '', /is no name of a set/);
    assert.match(refusalOf(setOf('a'.repeat(32))) ?? '', /is no name of a set/);
    assert.match(refusalOf(setOf('svip', 'hash:ip', 0)) ?? '', /cannot hold 0/);
  });
});

describe('an element of a set of prefixes', () => {
  it('is refused where ipset would not take it or would print it in another way', () => {
    for (const value of ['0.0.0.0/0', '::/0', '0.0.0.0/0 nomatch']) {
      assert.match(refusalOf(element('blocks', value)) ?? '', /write its two halves/);
    }
    for (const value of ['10.0.0.1/32', 'fd00::1/128', '10.0.0.1/32 nomatch']) {
      assert.match(refusalOf(element('blocks', value)) ?? '', /is printed as/);
    }
    for (const value of ['0.0.0.0/1', '128.0.0.0/1', 'fd00::/32', '10.0.0.1', '10.0.0.1 nomatch']) {
      assert.equal(refusalOf(element('blocks', value)), undefined, value);
    }
  });
});

describe('reading ipset save', () => {
  it('knows an element that never matches, wherever the word stands', () => {
    assert.deepEqual(parseSaveLine('add blocks 10.1.0.0/16 nomatch'), element('blocks', '10.1.0.0/16 nomatch'));
    const verbose = 'add inet6:blocks ::ffff:10.0.0.0/104 timeout 0 nomatch packets 0 bytes 0';
    assert.deepEqual(parseSaveLine(verbose), element('inet6:blocks', '::ffff:a00:0/104 nomatch'));
  });

  it('leaves out foreign sets, timeouts and types that are not ours', async () => {
    const printed = [
      'create svip hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 0 bucketsize 12 initval 0x23fcc08a',
      'add svip 10.244.0.1,tcp:80 timeout 0',
      'create other hash:ip family inet hashsize 1024 maxelem 65536',
      'add other 10.244.0.1',
      'create bits bitmap:port range 0-1024',
      'add bits 80',
      'create inet6:svip hash:ip family inet6 hashsize 1024 maxelem 65536',
      'add inet6:svip ::ffff:10.0.0.1',
    ].join('\n');
    const driver = ipsetDriver({ runner: answering({ status: 0, stdout: printed, stderr: '' }), owns: name => name !== 'other' });
    const known = setOf('svip', 'hash:ip,port', 1000);
    const found = await driver.read(new Map([['svip', known]]), never);
    assert.deepEqual(
      [...found],
      [
        ['svip', known],
        ['svip 10.244.0.1,tcp:80', element('svip', '10.244.0.1,tcp:80')],
        ['inet6:svip', setOf('inet6:svip', 'hash:ip', 65536, 'ipv6')],
        ['inet6:svip ::ffff:a00:1', element('inet6:svip', '::ffff:a00:1')],
      ],
    );
    assert.equal(found.get('svip'), known);
  });

  it('refuses a line it does not know', () => {
    for (const line of ['what', 'flush svip', 'swap a b'])
      assert.throws(() => parseSaveLine(line), { code: 'FW_READ_UNPARSABLE' });
  });

  it('names the module where the kernel has no ipset, for reading and for every change', async () => {
    const runner = answering({ status: 1, stdout: '', stderr: 'ipset v7.17: Cannot open session to kernel.\n' });
    const driver = ipsetDriver({ runner, owns: () => true });
    await assert.rejects(driver.read(new Map(), never), { code: 'FW_CAPABILITY_KERNEL', message: /modprobe ip_set/ });
    const { failed } = await driver.apply([create(setOf('svip')), create(element('svip', '10.244.0.1'))], never);
    assert.deepEqual(
      Array.from(failed.values(), error => error.code),
      ['FW_CAPABILITY_KERNEL', 'FW_CAPABILITY_KERNEL'],
    );
  });
});
