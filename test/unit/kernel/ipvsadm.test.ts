// Address plan: services 10.96.0.0/16 and fd00:96::/64, destinations 10.244.0.0/16 and fd00:244::/64, foreign 192.0.2.0/24.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FairwayError } from '../../../daemon/errors.ts';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { ipvsDriver } from '../../../daemon/kernel/ipvsadm.ts';
import { parseProc, parseSave, procParser, saveParser } from '../../../daemon/kernel/ipvsadm-read.ts';
import { refusalOf, virtualServerLines } from '../../../daemon/kernel/ipvsadm-script.ts';
import { VirtualServerAssembly } from '../../../daemon/kernel/virtual-server-assembly.ts';
import { addressOfBytes, type Family, type IpAddress, mustParseAddress } from '../../../daemon/net/address.ts';
import { PROTOCOLS } from '../../../daemon/net/port.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import type { Change } from '../../../daemon/reconcile/driver.ts';
import {
  type Destination,
  destinationKey,
  type Listener,
  listenerFamily,
  listenerKey,
  TABLES,
  type VirtualServer,
} from '../../../daemon/reconcile/tables.ts';

const address = mustParseAddress;
const never = new AbortController().signal;

const web: VirtualServer = {
  listener: { by: 'address', protocol: 'TCP', address: address('10.96.0.1'), port: 80 },
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations: [
    { address: address('10.244.0.1'), port: 8080, weight: 1, forwarding: 'masquerade' },
    { address: address('10.244.0.2'), port: 8080, weight: 1, forwarding: 'masquerade' },
  ],
};

const create = (to: VirtualServer): Change<VirtualServer> => ({ op: 'create', key: listenerKey(to.listener), to });
const update = (from: VirtualServer, to: VirtualServer): Change<VirtualServer> => ({
  op: 'update',
  key: listenerKey(to.listener),
  from,
  to,
});
const keyed = (servers: readonly VirtualServer[]): Map<string, VirtualServer> =>
  new Map(servers.map(server => [listenerKey(server.listener), server]));

function addressOf(family: Family): fc.Arbitrary<IpAddress> {
  const length = family === 'ipv4' ? 4 : 16;
  const anyBytes = fc.uint8Array({ minLength: length, maxLength: length });
  // Long runs of zeros are what notations of IPv6 differ in.
  const sparse = fc
    .array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: length, maxLength: length })
    .map(bytes => Uint8Array.from(bytes));
  return fc.oneof(anyBytes, sparse).map(addressOfBytes);
}

/** Objects as literals make them, so that deep equality is about their fields. */
const record = <T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(model, { noNullPrototype: true });

const port = fc.integer({ min: 1, max: 65535 });
const listener: fc.Arbitrary<Listener> = fc
  .constantFrom<Family>('ipv4', 'ipv6')
  .chain(family =>
    fc.oneof<fc.Arbitrary<Listener>[]>(
      record({ by: fc.constant('address'), protocol: fc.constantFrom(...PROTOCOLS), address: addressOf(family), port }),
      record({ by: fc.constant('mark'), mark: fc.integer({ min: 1, max: 0xffff_ffff }), family: fc.constant(family) }),
    ),
  );

function destinationsOf(of: Listener): fc.Arbitrary<readonly Destination[]> {
  const masqueraded = record({
    address: addressOf(listenerFamily(of)),
    port,
    weight: fc.integer({ min: 0, max: 65535 }),
    forwarding: fc.constant('masquerade' as const),
  });
  const direct = record({
    address: addressOf(listenerFamily(of)),
    port: fc.constant(of.by === 'address' ? of.port : 0),
    weight: fc.integer({ min: 0, max: 65535 }),
    forwarding: fc.constantFrom('tunnel' as const, 'route' as const),
  });
  return fc.uniqueArray(fc.oneof(masqueraded, direct), { selector: destinationKey, maxLength: 40 });
}

const serverOf = (of: Listener): fc.Arbitrary<VirtualServer> =>
  record({
    listener: fc.constant(of),
    scheduler: fc.constantFrom('rr', 'wrr', 'lc', 'sh', 'mh'),
    schedulerFlags: fc.subarray(['flag-1', 'flag-2', 'flag-3']),
    persistenceSeconds: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 86400 })),
    destinations: destinationsOf(of),
  });
const server = listener.chain(serverOf);
const servers = fc.uniqueArray(server, { selector: entry => listenerKey(entry.listener), maxLength: 6 });

/** What the kernel makes of lines as ipvsadm understands them: the model the script is held against. */
function runLines(before: readonly string[], lines: readonly string[]): readonly string[] {
  const services = new Map<string, { line: string; destinations: Map<string, string> }>();
  for (const line of [...before, ...lines]) {
    const [command = '', ...words] = line.split(' ');
    const head = words[0] === '-f' && words[2] === '-6' ? words.slice(0, 3).join(' ') : words.slice(0, 2).join(' ');
    const service = services.get(head);
    const at = words[words.indexOf('-r') + 1] ?? '';
    if (command === '-A') {
      assert.equal(service, undefined, `exists: ${line}`);
      services.set(head, { line, destinations: new Map() });
      continue;
    }
    assert.ok(service, `no such service: ${line}`);
    if (command === '-E') service.line = line.replace('-E', '-A');
    else if (command === '-D') services.delete(head);
    else {
      assert.equal(service.destinations.has(at), command !== '-a', line);
      if (command === '-d') service.destinations.delete(at);
      else service.destinations.set(at, line.replace('-e', '-a'));
    }
  }
  return [...services.values()].flatMap(({ line, destinations }) => [line, ...destinations.values()]);
}

describe('the script for ipvsadm', () => {
  it('creates a service and then its destinations', () => {
    assert.deepEqual(
      virtualServerLines(create({ ...web, persistenceSeconds: 10800, scheduler: 'sh', schedulerFlags: ['flag-2'] })),
      [
        '-A -t 10.96.0.1:80 -s sh -p 10800 -b flag-2',
        '-a -t 10.96.0.1:80 -r 10.244.0.1:8080 -m -w 1',
        '-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1',
      ],
    );
  });

  it('names every kind of listener and forwarding', () => {
    const v6 = { address: address('fd00:244::1'), port: 53, weight: 3 } as const;
    const dns: Listener = { by: 'address', protocol: 'UDP', address: address('fd00:96::1'), port: 53 };
    const lines = [
      ...virtualServerLines(create({ ...web, listener: dns, destinations: [{ ...v6, forwarding: 'route' }] })),
      ...virtualServerLines(create({ ...web, listener: { ...dns, protocol: 'SCTP' }, destinations: [] })),
      ...virtualServerLines(create({ ...web, listener: { by: 'mark', mark: 4660, family: 'ipv4' }, destinations: [] })),
      ...virtualServerLines(
        create({
          ...web,
          listener: { by: 'mark', mark: 4660, family: 'ipv6' },
          destinations: [{ ...v6, port: 0, forwarding: 'tunnel' }],
        }),
      ),
    ];
    assert.deepEqual(lines, [
      '-A -u [fd00:96::1]:53 -s rr',
      '-a -u [fd00:96::1]:53 -r [fd00:244::1]:53 -g -w 3',
      '-A --sctp-service [fd00:96::1]:53 -s rr',
      '-A -f 4660 -s rr',
      '-A -f 4660 -6 -s rr',
      '-a -f 4660 -6 -r [fd00:244::1]:0 -i -w 3',
    ]);
  });

  it('says one line for one changed destination', () => {
    const [first, second] = web.destinations;
    assert.ok(first && second);
    const third: Destination = { ...first, address: address('10.244.0.3') };
    assert.deepEqual(virtualServerLines(update(web, { ...web, destinations: [first, second, third] })), [
      '-a -t 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 1',
    ]);
    assert.deepEqual(virtualServerLines(update(web, { ...web, destinations: [first, { ...second, weight: 0 }] })), [
      '-e -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 0',
    ]);
    assert.deepEqual(virtualServerLines(update(web, { ...web, destinations: [third, second] })), [
      '-a -t 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 1',
      '-d -t 10.96.0.1:80 -r 10.244.0.1:8080',
    ]);
    assert.deepEqual(virtualServerLines(update(web, { ...web, scheduler: 'lc' })), ['-E -t 10.96.0.1:80 -s lc']);
    assert.deepEqual(virtualServerLines(update(web, { ...web, destinations: [second, first] })), []);
  });

  it('takes any service to any other of the same listener, never twice through the same destination', () => {
    const pair = listener.chain(of => fc.tuple(serverOf(of), serverOf(of)));
    fc.assert(
      fc.property(pair, ([from, to]) => {
        const lines = virtualServerLines(update(from, to));
        const result = parseSave(runLines(virtualServerLines(create(from)), lines));
        const key = listenerKey(to.listener);
        const there = result.get(key);
        assert.ok(there && TABLES.virtualServer.same(there, to));
        const touched = lines.filter(line => line.includes(' -r ')).map(line => line.split(' -r ')[1]?.split(' ')[0]);
        assert.equal(new Set(touched).size, touched.length);
        assert.deepEqual(runLines(virtualServerLines(create(from)), virtualServerLines({ op: 'delete', key, from })), []);
      }),
    );
  });

  it('refuses before the tool does what would end its whole run', () => {
    const [first] = web.destinations;
    assert.ok(first);
    assert.equal(refusalOf(web), undefined);
    const bad: readonly [VirtualServer, RegExp][] = [
      [{ ...web, scheduler: 'rr -b x' }, /no name of an IPVS scheduler/],
      [{ ...web, schedulerFlags: ['sh-port'] }, /no scheduler flag/],
      [{ ...web, persistenceSeconds: 2_678_401 }, /persistence/],
      [{ ...web, listener: { by: 'mark', mark: 0, family: 'ipv4' } }, /no firewall mark/],
      [{ ...web, listener: { by: 'address', protocol: 'TCP', address: address('10.96.0.1'), port: 0 } }, /port 0/],
      [{ ...web, destinations: [{ ...first, weight: -1 }] }, /10\.244\.0\.1:8080: -1 is no weight/],
      [{ ...web, destinations: [{ ...first, address: address('fd00:244::1') }] }, /family/],
      [{ ...web, destinations: [{ ...first, forwarding: 'tunnel' }] }, /only masquerading can change the port/],
    ];
    for (const [entry, reason] of bad) assert.match(refusalOf(entry) ?? '', reason);
  });
});

describe('reading ipvsadm -Sn', () => {
  it('gives back what was written', () => {
    fc.assert(
      fc.property(servers, entries => {
        assert.deepEqual(parseSave(entries.flatMap(entry => virtualServerLines(create(entry)))), keyed(entries));
      }),
    );
  });

  it('takes the names the tool prints for flags, and tunnels with their type', () => {
    const found = parseSave([
      '-A -t 10.96.0.1:80 -s sh -p 30 -b sh-fallback,sh-port',
      '-A -f -1 -s rr',
      '-A -f 4660 -6 -s mh -b mh-port',
      '-a -f 4660 -6 -r [::ffff:10.0.0.1]:0 -i -w 1 --tun-type ipip',
    ]);
    assert.equal(found.has('FWM 4294967295 ipv4'), true);
    assert.deepEqual(found.get('TCP 10.96.0.1:80')?.schedulerFlags, ['flag-1', 'flag-2']);
    assert.deepEqual(found.get('FWM 4660 ipv6'), {
      listener: { by: 'mark', mark: 4660, family: 'ipv6' },
      scheduler: 'mh',
      schedulerFlags: ['flag-2'],
      persistenceSeconds: 0,
      destinations: [{ address: '::ffff:a00:1', port: 0, weight: 1, forwarding: 'tunnel' }],
    });
  });

  it('finds a service changed by an option that we never set', () => {
    for (const option of ['-o', '-M 255.255.255.0', '--pe sip']) {
      const there = parseSave([`-A -t 10.96.0.1:80 -s rr ${option}`]).get('TCP 10.96.0.1:80');
      assert.ok(there && !TABLES.virtualServer.same(there, { ...web, destinations: [] }));
    }
  });

  it('does not take flag-3, which the tool never prints for sh and mh, for missing', () => {
    const wanted: VirtualServer = { ...web, scheduler: 'mh', schedulerFlags: ['flag-1', 'flag-3'], destinations: [] };
    const parser = saveParser(new VirtualServerAssembly(keyed([wanted]), []));
    parser.line('-A -t 10.96.0.1:80 -s mh -b mh-fallback');
    assert.equal(parser.end().get('TCP 10.96.0.1:80'), wanted);
  });

  it('refuses a line it does not know', () => {
    for (const line of ['what is this', '-A nonsense', '-a -t 10.96.0.1:80', '-A -t 10.96.0.1.5:80 -s rr']) {
      assert.throws(() => parseSave([line]), { code: 'FW_READ_UNPARSABLE' });
    }
  });
});

/** What the kernel prints in /proc/net/ip_vs of services without flags, newest destination first. */
function procText(entries: readonly VirtualServer[], ticksPerSecond: number): readonly string[] {
  const hex = (value: number, width: number): string => value.toString(16).toUpperCase().padStart(width, '0');
  const place = (of: IpAddress): string =>
    of.includes(':')
      ? `[${new URL(`http://[${of}]`).hostname
          .slice(1, -1)
          .replace('::', () => `:${'0:'.repeat(8 - of.split(':').filter(group => group !== '').length)}`)
          .replace(/^:|:$/g, '')
          .split(':')
          .map(group => group.padStart(4, '0'))
          .join(':')}]`
      : of
          .split('.')
          .map(byte => hex(Number(byte), 2))
          .join('');
  const lines = ['IP Virtual Server version 1.2.1 (size=4096)', 'Prot LocalAddress:Port Scheduler Flags'];
  lines.push('  -> RemoteAddress:Port Forward Weight ActiveConn InActConn');
  for (const { listener: of, scheduler, persistenceSeconds, destinations } of entries) {
    const where = of.by === 'mark' ? `FWM  ${hex(of.mark, 8)} ` : `${of.protocol}  ${place(of.address)}:${hex(of.port, 4)} `;
    const mask = listenerFamily(of) === 'ipv4' ? 'FFFFFFFF' : '80000000';
    lines.push(
      `${where}${scheduler}  ${persistenceSeconds > 0 ? `persistent ${persistenceSeconds * ticksPerSecond} ${mask}` : ''}`,
    );
    for (const destination of destinations.toReversed()) {
      const tag = { masquerade: 'Masq', tunnel: 'Tunnel', route: 'Route' }[destination.forwarding];
      const head = `  -> ${place(destination.address)}:${hex(destination.port, 4)}      ${tag.padEnd(7)} `;
      lines.push(`${head}${`${destination.weight}`.padEnd(6)} 0          0         `);
    }
  }
  return lines;
}

const plain = servers.map(entries => entries.map(entry => ({ ...entry, schedulerFlags: [], scheduler: 'wrr' })));

describe('reading /proc/net/ip_vs', () => {
  it('gives the expected objects themselves where all is as expected', () => {
    fc.assert(
      fc.property(plain, fc.constantFrom(100, 250, 1000), (entries, hz) => {
        const expected = keyed(entries);
        const parser = procParser(new VirtualServerAssembly(expected, []), expected, hz);
        for (const line of procText(entries, hz)) parser.line(line);
        const { servers: found, isComplete } = parser.end();
        const isFamilyKnown = entries.every(entry => entry.listener.by === 'address' || entry.destinations.length > 0);
        assert.equal(isComplete, isFamilyKnown);
        if (!isFamilyKnown) return;
        assert.equal(found.size, expected.size);
        for (const [key, entry] of expected) assert.equal(found.get(key), entry);
      }),
    );
  });

  it('gives what differs as it is', () => {
    const lines = procText([{ ...web, persistenceSeconds: 30 }], 250);
    const there = parseProc(lines, 250).servers.get('TCP 10.96.0.1:80');
    assert.deepEqual(there, { ...web, persistenceSeconds: 30, destinations: web.destinations.toReversed() });
  });

  it('admits what the file cannot say', () => {
    const say = (line: string, hz: number | undefined): boolean => parseProc([line], hz).isComplete;
    assert.equal(say('TCP  0A600001:0050 rr  ', undefined), true);
    assert.equal(say('TCP  0A600001:0050 rr  persistent 3000 FFFFFFFF', undefined), false);
    assert.equal(say('TCP  0A600001:0050 rr  persistent 3000 FFFFFFFF', 100), true);
    assert.equal(say('TCP  0A600001:0050 sh  ', 100), false);
    assert.equal(say('FWM  00001234 rr ', 100), false);
    assert.equal(
      parseProc(['FWM  00001234 rr ', '  -> 0A010101:0000      Tunnel  1      0          0         '], 100).isComplete,
      false,
    );
  });

  it('finds the one wrong destination of a very large service', () => {
    const destinations = Array.from(
      { length: 40_000 },
      (_, index): Destination => ({
        address: address(`10.${100 + (index >> 14)}.${(index >> 8) & 63}.${index & 255}`),
        port: 80,
        weight: 1,
        forwarding: 'masquerade',
      }),
    );
    const large = { ...web, destinations };
    const lines = procText(
      [{ ...large, destinations: destinations.map((one, index) => (index === 7 ? { ...one, weight: 0 } : one)) }],
      100,
    );
    const expected = keyed([large]);
    const parser = procParser(new VirtualServerAssembly(expected, []), expected, 100);
    for (const line of lines) parser.line(line);
    const there = parser.end().servers.get('TCP 10.96.0.1:80');
    assert.equal(there?.destinations.filter(one => one.weight === 0).length, 1);
  });
});

/** A runner that answers as `ipvsadm` would on a machine that is not this one. */
function answering(answer: (argv: readonly string[], stdin: string) => CommandResult): CommandRunner {
  return {
    run: async command => answer(command.argv, command.stdin ?? ''),
    async lines(command, onLine) {
      const result = answer(command.argv, '');
      for (const line of result.stdout.split('\n')) if (line !== '') onLine(line);
      return result;
    },
  };
}

const noFile = async (): Promise<void> => {
  throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
};

describe('a machine that cannot do IPVS', () => {
  const lacking = answering(() => ({
    status: 255,
    stdout: '',
    stderr:
      "modprobe: FATAL: Module ip_vs not found\nCan't initialize ipvs: Protocol not available\nAre you sure that IP Virtual Server is built in the kernel or as module?\n",
  }));

  it('is told to load the module, when reading and for every change', async () => {
    const driver = ipvsDriver({ runner: lacking, readLines: noFile, excludedCidrs: [] });
    await assert.rejects(driver.read(new Map(), never), { code: 'FW_CAPABILITY_KERNEL', message: /modprobe ip_vs/ });
    const { failed } = await driver.apply([create(web)], never);
    assert.equal(failed.get('TCP 10.96.0.1:80')?.code, 'FW_CAPABILITY_KERNEL');
  });

  it('is not told so where only rights are missing', async () => {
    const denied = answering(() => ({
      status: 255,
      stdout: '',
      stderr: "Can't initialize ipvs: Permission denied (you must be root)\n",
    }));
    const driver = ipvsDriver({ runner: denied, readLines: noFile, excludedCidrs: [] });
    await assert.rejects(driver.read(new Map(), never), { code: 'FW_COMMAND_FAILED', message: /must be root/ });
  });

  it('is told the package where the tool is missing', async () => {
    const missing = answering(() => {
      throw new FairwayError('FW_CAPABILITY_TOOL_MISSING', "'ipvsadm' is not installed");
    });
    const driver = ipvsDriver({ runner: missing, readLines: noFile, excludedCidrs: [] });
    await assert.rejects(driver.read(new Map(), never), { code: 'FW_CAPABILITY_TOOL_MISSING' });
    const { failed } = await driver.apply([create(web)], never);
    assert.equal(failed.get('TCP 10.96.0.1:80')?.code, 'FW_CAPABILITY_TOOL_MISSING');
  });
});

describe('applying virtual services', () => {
  /** A tool that stops at services of one protocol as at words it does not know, and keeps all others. */
  function toolWithout(option: string): CommandRunner {
    let state: readonly string[] = [];
    return answering((argv, stdin) => {
      if (argv[1] === '-Sn') return { status: 0, stdout: state.join('\n'), stderr: '' };
      const lines = stdin.trimEnd().split('\n');
      const bad = lines.findIndex(line => line.includes(` ${option} `));
      const known = bad < 0 ? lines : lines.slice(0, bad);
      state = runLines(
        state,
        known.filter(line => !state.includes(line)),
      );
      return bad < 0
        ? { status: 0, stdout: '', stderr: '' }
        : { status: 255, stdout: '', stderr: "Try `ipvsadm -h' or 'ipvsadm --help'\n" };
    });
  }

  it('goes on after a line that ended the run of the tool', async () => {
    const at = (protocol: 'TCP' | 'SCTP', port: number): VirtualServer => ({
      ...web,
      listener: { by: 'address', protocol, address: address('10.96.0.9'), port },
    });
    const runner = toolWithout('--sctp-service');
    const driver = ipvsDriver({ runner, readLines: noFile, excludedCidrs: [] });
    const entries = [at('TCP', 1), at('SCTP', 2), at('TCP', 3), at('SCTP', 4), at('TCP', 5)];
    const { failed } = await driver.apply(entries.map(create), never);
    assert.deepEqual([...failed.keys()].sort(), ['SCTP 10.96.0.9:2', 'SCTP 10.96.0.9:4']);
    assert.match(
      failed.get('SCTP 10.96.0.9:2')?.message ?? '',
      /virtual service SCTP 10\.96\.0\.9:2: it is not there; ipvsadm said: Try/,
    );
    assert.deepEqual(
      [...(await driver.read(new Map(), never)).keys()],
      ['TCP 10.96.0.9:1', 'TCP 10.96.0.9:3', 'TCP 10.96.0.9:5'],
    );
  });

  it('refuses one bad service and writes the others', async () => {
    const driver = ipvsDriver({ runner: toolWithout('-x'), readLines: noFile, excludedCidrs: [] });
    const bad: VirtualServer = { ...web, listener: { by: 'mark', mark: 7, family: 'ipv4' }, scheduler: 'no such' };
    const { failed } = await driver.apply([create(bad), create(web)], never);
    assert.deepEqual([...failed.keys()], ['FWM 7 ipv4']);
    assert.equal(failed.get('FWM 7 ipv4')?.code, 'FW_COMMAND_REFUSED');
    assert.deepEqual([...(await driver.read(new Map(), never)).keys()], ['TCP 10.96.0.1:80']);
  });

  it('never sees services on excluded addresses', async () => {
    const printed = '-A -t 192.0.2.1:80 -s rr\n-a -t 192.0.2.1:80 -r 192.0.2.9:80 -m -w 1\n-A -t 10.96.0.1:80 -s rr\n';
    const runner = answering(() => ({ status: 0, stdout: printed, stderr: '' }));
    const driver = ipvsDriver({ runner, readLines: noFile, excludedCidrs: [mustParsePrefix('192.0.2.0/24')] });
    assert.deepEqual([...(await driver.read(new Map(), never)).keys()], ['TCP 10.96.0.1:80']);
  });
});
