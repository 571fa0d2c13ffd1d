// Runs as root: in the lab's guest, or in a network namespace of a machine.
// Ports: pods' veth1 and veth2 of kube-bridge, other1 of the bridge 'other', and alone1 of none.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { bridgePortDriver } from '../../daemon/kernel/bridge-port.ts';
import type { CommandRunner } from '../../daemon/kernel/command.ts';
import { processRunner } from '../../daemon/kernel/process-runner.ts';
import { systemClock } from '../../daemon/net/clock.ts';
import type { Change } from '../../daemon/reconcile/driver.ts';
import { type BridgePort, SERVICE_TABLES } from '../../daemon/reconcile/service-tables.ts';

const never = new AbortController().signal;
const runner = processRunner({ environment: process.env, clock: systemClock(), onSpawn: () => undefined });
const driver = bridgePortDriver({ runner });
const keyOf = SERVICE_TABLES.bridgePort.key;
const port = (link: string, bridge = 'kube-bridge'): BridgePort => ({ link, bridge });
const create = (to: BridgePort): Change<BridgePort> => ({ op: 'create', key: keyOf(to), to });
const remove = (from: BridgePort): Change<BridgePort> => ({ op: 'delete', key: keyOf(from), from });
const keyed = (...entries: readonly BridgePort[]): ReadonlyMap<string, BridgePort> =>
  new Map(entries.map(entry => [keyOf(entry), entry]));
const NONE_FAILED = { failed: new Map() };
const [veth1, veth2] = [port('veth1'), port('veth2')];
const LINKS = ['veth1', 'veth2', 'other1', 'alone1'];

function ip(args: string): string {
  const { stdout, stderr, status } = spawnSync('ip', args.split(' '), { encoding: 'utf8' });
  assert.equal(status, 0, `ip ${args}: ${stderr}`);
  return stdout;
}

interface ShownPort {
  readonly ifname?: string;
  readonly linkinfo?: { readonly info_slave_data?: { readonly hairpin?: boolean } };
}

/** Names of the ports in hairpin mode. */
function inHairpinMode(): readonly string[] {
  const shown = JSON.parse(ip('-j -d link show type bridge_slave') || '[]') as ShownPort[];
  return shown.flatMap(({ ifname = '', linkinfo }) => (linkinfo?.info_slave_data?.hairpin === true ? [ifname] : [])).sort();
}

/** The real runner, with something done just before a batch. */
function before(batch: () => void): CommandRunner {
  return {
    run(command, signal) {
      if (command.argv.includes('-batch')) batch();
      return runner.run(command, signal);
    },
    lines: (command, onLine, signal) => runner.lines(command, onLine, signal),
  };
}

describe('ports of a bridge', () => {
  beforeEach(() => {
    for (const bridge of ['kube-bridge', 'other']) ip(`link add ${bridge} type bridge`);
    for (const link of LINKS) ip(`link add ${link} type veth peer name ${link}p`);
    for (const link of ['veth1', 'veth2']) ip(`link set ${link} master kube-bridge`);
    ip('link set other1 master other');
  });

  afterEach(() => {
    for (const link of ['kube-bridge', 'other', ...LINKS]) spawnSync('ip', ['link', 'del', link]);
  });

  it('are put into hairpin mode and read back', async () => {
    const wanted = keyed(veth1, veth2);
    assert.deepEqual(await driver.read(wanted, never), new Map());
    assert.deepEqual(await driver.apply([create(veth1), create(veth2)], never), NONE_FAILED);
    assert.deepEqual(inHairpinMode(), ['veth1', 'veth2']);
    const found = await driver.read(wanted, never);
    for (const entry of [veth1, veth2]) assert.equal(found.get(keyOf(entry)), entry, 'the very object expected');
    ip('link set dev veth1 type bridge_slave hairpin off');
    assert.deepEqual([...(await driver.read(wanted, never)).keys()], ['veth2'], 'drift is seen');
    assert.deepEqual(await driver.apply([create(veth1)], never), NONE_FAILED);
    assert.deepEqual(inHairpinMode(), ['veth1', 'veth2']);
  });

  it('that nobody wants stay in hairpin mode: it may be of the CNI plugin', async () => {
    ip('link set dev veth2 type bridge_slave hairpin on');
    assert.deepEqual(await driver.read(new Map(), never), new Map());
    assert.deepEqual(await driver.read(keyed(veth1), never), new Map());
    assert.deepEqual(await driver.apply([remove(veth2)], never), NONE_FAILED);
    assert.deepEqual(inHairpinMode(), ['veth2']);
  });

  it('of another bridge, or of none any more, are left as they are', async () => {
    const wrong = [port('other1'), port('alone1')];
    assert.deepEqual(await driver.apply(wrong.map(create), never), NONE_FAILED);
    assert.deepEqual(inHairpinMode(), []);
    ip('link set dev other1 type bridge_slave hairpin on');
    assert.deepEqual(await driver.read(keyed(...wrong), never), new Map());
    assert.deepEqual([...(await driver.read(keyed(port('other1', 'other')), never)).keys()], ['other1']);
  });

  it('that have vanished are no failure and hold up no other, whenever they went', async () => {
    assert.deepEqual(await driver.apply([create(port('gone')), create(veth2)], never), NONE_FAILED);
    assert.deepEqual(inHairpinMode(), ['veth2']);
    ip('link set dev veth2 type bridge_slave hairpin off');
    ip('link add veth3 type veth peer name veth3p');
    ip('link set veth3 master kube-bridge');
    const late = bridgePortDriver({
      runner: before(() => {
        ip('link del veth1');
        ip('link set veth3 nomaster');
      }),
    });
    assert.deepEqual(
      await late.apply(
        ['veth1', 'veth3', 'veth2'].map(name => create(port(name))),
        never,
      ),
      NONE_FAILED,
    );
    assert.deepEqual(inHairpinMode(), ['veth2']);
    ip('link del veth3');
  });

  it('of a name that no link can have are refused alone', async () => {
    const { failed } = await driver.apply([create(port('a b')), create(veth1)], never);
    assert.deepEqual([...failed.keys()], ['a b']);
    assert.deepEqual(inHairpinMode(), ['veth1']);
  });

  it('that the kernel refuses are told', async () => {
    const refusing: CommandRunner = {
      ...runner,
      run: (command, signal) =>
        command.argv.includes('-batch')
          ? Promise.resolve({ status: 1, stdout: '', stderr: 'RTNETLINK answers: Operation not permitted\nCommand failed -:1\n' })
          : runner.run(command, signal),
    };
    const { failed } = await bridgePortDriver({ runner: refusing }).apply([create(veth1)], never);
    assert.equal(
      failed.get('veth1')?.message,
      "create of hairpin mode of port 'veth1' of 'kube-bridge' was refused: Operation not permitted (it needs CAP_NET_ADMIN)",
    );
  });

  it('are shown as the batch that is run', () => {
    assert.equal(driver.render([create(veth1), remove(veth2)]), 'link set dev veth1 type bridge_slave hairpin on\n');
  });
});
