// Runs as root in a kernel with dummy links: in the lab's guest, or in a network namespace of a machine that has them.
// Address plan: ours 10.96.0.0/16 and fd00:96::/64 on kube-dummy-if, foreign 192.0.2.0/24 and 2001:db8::/64.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import type { HostFacts } from '../../daemon/cluster/snapshot.ts';
import { probeHost } from '../../daemon/kernel/capabilities.ts';
import { followHostFacts } from '../../daemon/kernel/host-facts.ts';
import { addressDriver } from '../../daemon/kernel/ip.ts';
import { linkDriver } from '../../daemon/kernel/link.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { sysctlDriver } from '../../daemon/kernel/sysctl.ts';
import { mustParseAddress } from '../../daemon/net/address.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import type { Link } from '../../daemon/reconcile/link.ts';
import { type LinkAddress, type Sysctl, TABLES } from '../../daemon/reconcile/tables.ts';
import { ALL_CAPABILITIES as capabilities } from '../fixtures/cluster.ts';

const never = new AbortController().signal;
const spawned: (readonly string[])[] = [];
const clock = systemClock();
const runner = processRunner({ environment: process.env, clock, onSpawn: argv => spawned.push(argv) });
const LINK = 'kube-dummy-if';
const ownLinks: ReadonlySet<string> = new Set([LINK]);
const links = linkDriver({ runner, owns: name => ownLinks.has(name) });
const addresses = addressDriver({ runner, ownLinks });
const link: Link = { name: LINK, type: 'dummy' };

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

const linkChange = (op: 'create' | 'delete', entry: Link): Change<Link> =>
  op === 'create' ? { op, key: entry.name, to: entry } : { op, key: entry.name, from: entry };
const at = (text: string, on = LINK): LinkAddress => ({ link: on, address: mustParseAddress(text) });
const keyOf = TABLES.address.key;
const add = (entry: LinkAddress): Change<LinkAddress> => ({ op: 'create', key: keyOf(entry), to: entry });
const remove = (entry: LinkAddress): Change<LinkAddress> => ({ op: 'delete', key: keyOf(entry), from: entry });
const keyed = (entries: readonly LinkAddress[]): ReadonlyMap<string, LinkAddress> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));
const messages = (failed: ReadonlyMap<string, Error>): Record<string, string> =>
  Object.fromEntries([...failed].map(([key, error]) => [key, error.message]));

afterEach(() => {
  spawnSync('ip', ['link', 'delete', LINK]);
  spawned.length = 0;
});

describe('addresses on our links', () => {
  const ours = ['10.96.0.1', '10.96.255.255', 'fd00:96::1', '::ffff:10.96.0.7'].map(text => at(text));

  beforeEach(async () => {
    await links.apply([linkChange('create', link)], never);
    spawned.length = 0;
  });

  it('are none while the link is missing', async () => {
    ip(`link delete ${LINK}`);
    assert.deepEqual(await addresses.read(new Map(), never), new Map());
    const { failed } = await addresses.apply([add(at('10.96.0.1'))], never);
    assert.deepEqual(messages(failed), {
      [`10.96.0.1 ${LINK}`]: `create of address 10.96.0.1 on '${LINK}' was refused: Cannot find device "${LINK}"`,
    });
  });

  it('of both families are written in one process, read in one, and deleted in one', async () => {
    assert.deepEqual(await addresses.apply(ours.map(add), never), { failed: new Map() });
    assert.equal(spawned.length, 1);
    const found = await addresses.read(keyed(ours), never);
    assert.deepEqual(found, keyed(ours));
    for (const entry of ours) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    assert.equal(spawned.length, 2);
    assert.deepEqual(await addresses.apply(ours.map(remove), never), { failed: new Map() });
    assert.deepEqual(await addresses.read(new Map(), never), new Map());
  });

  it('are usable at once, and are no source of connections elsewhere', async () => {
    await addresses.apply([add(at('10.96.0.1')), add(at('fd00:96::1'))], never);
    const shown = ip(`-o addr show dev ${LINK}`);
    assert.match(shown, /inet 10\.96\.0\.1\/32 scope link/);
    assert.match(shown, /inet6 fd00:96::1\/128 scope global [a-z ]*deprecated [a-z ]*/);
    assert.match(ip('-6 route show table local'), /local fd00:96::1 dev kube-dummy-if/);
    assert.doesNotMatch(ip('-6 route show'), /fd00:96::1/);
  });

  it('of others stay, and never appear', async () => {
    for (const foreign of ['192.0.2.1/24', '2001:db8::1/64']) ip(`addr add ${foreign} dev ${LINK}`);
    await addresses.apply(ours.map(add), never);
    assert.deepEqual(await addresses.read(new Map(), never), keyed(ours));
    await addresses.apply(ours.map(remove), never);
    assert.match(ip(`-o addr show dev ${LINK}`), /192\.0\.2\.1\/24.*2001:db8::1\/64/s);
  });

  it('deleted by hand are seen and put back', async () => {
    await addresses.apply(ours.map(add), never);
    ip(`addr del 10.96.0.1/32 dev ${LINK}`);
    const found = await addresses.read(keyed(ours), never);
    assert.deepEqual(
      [...keyed(ours).keys()].filter(key => !found.has(key)),
      [`10.96.0.1 ${LINK}`],
    );
    await addresses.apply([add(at('10.96.0.1'))], never);
    assert.deepEqual(await addresses.read(new Map(), never), keyed(ours));
  });

  it('that are there already or gone already are no failure; a refused one names itself and stops no other', async () => {
    ip(`addr add 10.96.0.1/32 dev ${LINK} scope link`);
    const { failed } = await addresses.apply(
      [
        add(at('10.96.0.1')),
        add(at('10.96.0.2', 'nosuch0')),
        add(at('10.96.0.3')),
        remove(at('10.96.0.4')),
        add(at('10.96.0.5', 'bad name')),
        add(at('fd00:96::5')),
      ],
      never,
    );
    assert.deepEqual(messages(failed), {
      '10.96.0.5 bad name': '"bad name" cannot name a link: 1 to 15 characters, no space and no slash',
      '10.96.0.2 nosuch0': 'create of address 10.96.0.2 on \'nosuch0\' was refused: Cannot find device "nosuch0"',
    });
    assert.deepEqual(await addresses.read(new Map(), never), keyed([at('10.96.0.1'), at('10.96.0.3'), at('fd00:96::5')]));
  });

  it('are refused with the reason where IPv6 is off on the link', async () => {
    await writeFile(`/proc/sys/net/ipv6/conf/${LINK}/disable_ipv6`, '1');
    const { failed } = await addresses.apply([add(at('fd00:96::1')), add(at('10.96.0.1'))], never);
    assert.match(messages(failed)[`fd00:96::1 ${LINK}`] ?? '', /disable_ipv6/);
    assert.equal(failed.size, 1);
  });

  it('by the thousand', async function () {
    this.timeout(60_000);
    const many = Array.from({ length: 10_000 }, (_, index) => at(`10.96.${index >> 8}.${index & 255}`));
    const before = performance.now();
    assert.deepEqual(await addresses.apply(many.map(add), never), { failed: new Map() });
    const written = performance.now();
    const found = await addresses.read(keyed(many), never);
    const read = performance.now();
    assert.equal(found.size, many.length);
    console.log(`      10,000 addresses: written in ${ms(written - before)}, read in ${ms(read - written)}`);
  });
});

function ms(milliseconds: number): string {
  return `${Math.round(milliseconds)} ms`;
}

describe('sysctls', () => {
  const files = {
    readFile: (path: string) => readFile(path, 'utf8'),
    writeFile: (path: string, text: string) => writeFile(path, text),
  };
  const sysctls = sysctlDriver({ files });

  it('are set, read back, and left alone where another value is as good; no process is started', async () => {
    const arp: Sysctl = { path: 'net/ipv4/conf/all/arp_ignore', value: '1', alsoGood: [], whenMissing: 'fail' };
    const filter: Sysctl = { path: 'net/ipv4/conf/all/rp_filter', value: '2', alsoGood: ['0'], whenMissing: 'fail' };
    const missing: Sysctl = { path: 'net/ipv4/nosuch', value: '1', alsoGood: [], whenMissing: 'fail' };
    const optional: Sysctl = { path: 'net/ipv4/nosuch2', value: '1', alsoGood: [], whenMissing: 'skip' };
    const invalid: Sysctl = { path: 'net/ipv4/ip_forward', value: 'maybe', alsoGood: [], whenMissing: 'fail' };
    await writeFile('/proc/sys/net/ipv4/conf/all/rp_filter', '0');
    const all = [arp, filter, missing, optional, invalid];
    const { failed } = await sysctls.apply(
      all.map(to => ({ op: 'create', key: to.path, to })),
      never,
    );
    assert.deepEqual([...failed.keys()], [missing.path, invalid.path]);
    assert.match(messages(failed)[missing.path] ?? '', /the kernel has no \/proc\/sys\/net\/ipv4\/nosuch/);
    assert.match(
      messages(failed)[invalid.path] ?? '',
      /\/proc\/sys\/net\/ipv4\/ip_forward cannot be set to 'maybe'.*does not know/,
    );
    const found = await sysctls.read(new Map(all.map(entry => [entry.path, entry])), never);
    assert.equal(found.get(arp.path), arp);
    assert.deepEqual(found.get(filter.path), { ...filter, value: '0' });
    assert.equal(found.get(optional.path), optional);
    assert.equal(found.has(missing.path), false);
    assert.equal(spawned.length, 0);
  });
});

describe('what the host is like', () => {
  it('is told again when a link or an address comes or goes, and not for our own links', async () => {
    let heard: (facts: HostFacts) => void = () => undefined;
    const next = (): Promise<HostFacts> =>
      new Promise(resolve => {
        heard = resolve;
      });
    const troubles: unknown[] = [];
    const source = await followHostFacts(
      {
        runner,
        clock,
        hostname: 'node-1',
        capabilities: () => capabilities,
        isOwnLink: name => ownLinks.has(name),
        standingOf: () => "the host's",
        onChange: facts => heard(facts),
        onDisturbance: () => undefined,
        onTrouble: error => error !== undefined && troubles.push(error),
      },
      never,
    );
    assert.ok(source.facts.links.has('lo'));
    const withLink = next();
    ip('link add eth7 type dummy');
    assert.ok((await withLink).links.has('eth7'));
    const withAddress = next();
    ip('addr add 192.0.2.7/24 dev eth7');
    assert.deepEqual(
      (await withAddress).addresses.filter(({ link: on }) => on === 'eth7'),
      [{ link: 'eth7', address: '192.0.2.7', prefixLength: 24 }],
    );
    // Our own link with many addresses causes no reading: the next one heard of is the foreign change after it.
    const before = source.facts;
    await links.apply([linkChange('create', link)], never);
    spawned.length = 0;
    await addresses.apply(
      Array.from({ length: 500 }, (_, index) => add(at(`10.96.1.${index % 250}`.replace('.1.', `.${1 + (index >> 8)}.`)))),
      never,
    );
    assert.equal(source.facts, before);
    const readings = spawned.filter(argv => argv.includes('-j')).length;
    assert.ok(
      readings <= 1,
      `${readings} readings for 500 addresses of our own; one may be the monitor's, which reads when it surely listens`,
    );
    const without = next();
    ip('link delete eth7');
    const facts = await without;
    assert.equal(facts.links.has('eth7'), false);
    assert.equal(facts.links.has(LINK), false);
    assert.equal(
      facts.addresses.some(({ link: on }) => on === LINK),
      false,
    );
    await source.stop();
    assert.deepEqual(troubles, []);
  });
});

describe('the probe of the host', () => {
  it('finds what the kernel has and leaves nothing behind', async () => {
    const state = (): string =>
      [
        ip('-o link show').replace(/qlen [0-9]+/g, ''),
        spawnSync('ipset', ['list', '-n'], { encoding: 'utf8' }).stdout,
        ...['iptables-legacy-save', 'ip6tables-legacy-save', 'iptables-nft-save', 'ip6tables-nft-save'].map(program =>
          spawnSync(program, [], { encoding: 'utf8' }).stdout.replace(/^[#:*C].*\n/gm, ''),
        ),
      ].join('\n---\n');
    const before = state();
    spawned.length = 0;
    const start = performance.now();
    const probe = await probeHost({ runner, files: { readFile: path => readFile(path, 'utf8') } }, never);
    console.log(`      ${ms(performance.now() - start)}, ${spawned.length} processes`);
    for (const { facility, ok, remark } of probe.reports) console.log(`      ${ok ? 'ok' : 'NO'} ${facility}: ${remark}`);
    assert.equal(state(), before);
    assert.deepEqual(probe.capabilities, capabilities);
    assert.ok(spawned.length <= 10, `${spawned.length} processes`);
  });
});
