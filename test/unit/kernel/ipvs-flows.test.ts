// Address plan: services 10.96.0.0/16 and fd00:96::/64, endpoints 10.244.1.0/24 and fd00:244:1::/64, load balancers' addresses 203.0.113.0/24.
import assert from 'node:assert/strict';
import { FairwayError } from '../../../daemon/errors.ts';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { forgettingFlows, staleFlows } from '../../../daemon/kernel/ipvs-flows.ts';
import { mustParseAddress, withPort } from '../../../daemon/net/address.ts';
import type { Protocol } from '../../../daemon/net/port.ts';
import type { Change, TableDriver } from '../../../daemon/reconcile/driver.ts';
import {
  type AddressListener,
  type Destination,
  type Listener,
  listenerKey,
  type VirtualServer,
} from '../../../daemon/reconcile/tables.ts';
import { FakeIpvs } from '../../fakes/ipvs.ts';

const address = mustParseAddress;
const never = new AbortController().signal;
const at = (protocol: Protocol, host = '10.96.0.10', port = 53): AddressListener => ({
  by: 'address',
  protocol,
  address: address(host),
  port,
});
const to = (host: string, port = 8053, weight = 1): Destination => ({
  address: address(host),
  port,
  weight,
  forwarding: 'masquerade',
});
const [a, b] = [to('10.244.1.1'), to('10.244.1.2')];
const serverAt = (listener: Listener, ...destinations: readonly Destination[]): VirtualServer => ({
  listener,
  scheduler: 'rr',
  schedulerFlags: [],
  persistenceSeconds: 0,
  destinations,
});
const dns = (...destinations: readonly Destination[]): VirtualServer => serverAt(at('UDP'), ...destinations);
const create = (entry: VirtualServer): Change<VirtualServer> => ({ op: 'create', key: listenerKey(entry.listener), to: entry });
const update = (from: VirtualServer, entry: VirtualServer): Change<VirtualServer> => ({
  op: 'update',
  key: listenerKey(entry.listener),
  from,
  to: entry,
});
const remove = (from: VirtualServer): Change<VirtualServer> => ({ op: 'delete', key: listenerKey(from.listener), from });

/** `UDP 10.96.0.10:53 10.244.1.1:8053` for flows to the first that the second answers. */
const stale = (change: Change<VirtualServer>): readonly string[] =>
  staleFlows(change).map(
    flows => `${flows.protocol} ${withPort(flows.address, flows.port)} ${withPort(flows.answeredBy, flows.answeringPort)}`,
  );
const A_GONE = 'UDP 10.96.0.10:53 10.244.1.1:8053';
const PAST_IPVS = 'UDP 10.96.0.10:53 10.96.0.10:53';

describe('stale flows', () => {
  it('are those that a destination answered that went', () => {
    assert.deepEqual(stale(update(dns(a, b), dns(b))), [A_GONE]);
    assert.deepEqual(stale(update(dns(a, b), dns())), [A_GONE, 'UDP 10.96.0.10:53 10.244.1.2:8053']);
    assert.deepEqual(stale(update(serverAt(at('SCTP'), a, b), serverAt(at('SCTP'), b))), ['SCTP 10.96.0.10:53 10.244.1.1:8053']);
    const v6 = (...destinations: readonly Destination[]): VirtualServer => serverAt(at('UDP', 'fd00:96::a'), ...destinations);
    const [a6, b6] = [to('fd00:244:1::1'), to('fd00:244:1::2')];
    assert.deepEqual(stale(update(v6(a6, b6), v6(b6))), ['UDP [fd00:96::a]:53 [fd00:244:1::1]:8053']);
  });

  it('are those of all destinations where the server goes', () => {
    assert.deepEqual(stale(remove(dns(a, b))), [A_GONE, 'UDP 10.96.0.10:53 10.244.1.2:8053']);
    assert.deepEqual(stale(remove(dns())), []);
  });

  it('are those that went past IPVS where the first destination comes', () => {
    assert.deepEqual(stale(create(dns(a, b))), [PAST_IPVS]);
    assert.deepEqual(stale(update(dns(), dns(a))), [PAST_IPVS]);
    assert.deepEqual(stale(create(dns())), []);
    assert.deepEqual(stale(update(dns(a), dns(a, b))), [], 'not where another comes');
  });

  it('are those of the former port where a destination changes its port', () => {
    assert.deepEqual(stale(update(dns(a, b), dns(to('10.244.1.1', 9053), b))), [A_GONE]);
  });

  it('are none where all destinations stay: other weights, forwarding, scheduler, order', () => {
    const { address: host, port } = a;
    assert.deepEqual(stale(update(dns(a, b), dns(b, to(host, port, 0)))), []);
    assert.deepEqual(stale(update(dns(a), dns({ ...a, forwarding: 'route' }))), []);
    assert.deepEqual(stale(update(dns(a), { ...dns(a), scheduler: 'lc', persistenceSeconds: 60 })), []);
  });

  it('are none of TCP, whose connections end', () => {
    const tcp = (...destinations: readonly Destination[]): VirtualServer => serverAt(at('TCP'), ...destinations);
    for (const change of [create(tcp(a)), update(tcp(a), tcp(b)), update(tcp(), tcp(a)), remove(tcp(a))])
      assert.deepEqual(stale(change), []);
  });

  it('of a server by mark are those to each address that its packets bear, but of TCP', () => {
    const addressedTo = [at('UDP', '203.0.113.1'), at('TCP', '203.0.113.1'), at('SCTP', '203.0.113.2', 132)];
    const marked = (...destinations: readonly Destination[]): VirtualServer => ({
      ...serverAt({ by: 'mark', mark: 4660, family: 'ipv4' }, ...destinations),
      addressedTo,
    });
    assert.deepEqual(stale(update(marked(a, b), marked(b))), [
      'UDP 203.0.113.1:53 10.244.1.1:8053',
      'SCTP 203.0.113.2:132 10.244.1.1:8053',
    ]);
    assert.deepEqual(stale(create(marked(a))), ['UDP 203.0.113.1:53 203.0.113.1:53', 'SCTP 203.0.113.2:132 203.0.113.2:132']);
    assert.deepEqual(stale(remove(marked(a))), ['UDP 203.0.113.1:53 10.244.1.1:8053', 'SCTP 203.0.113.2:132 10.244.1.1:8053']);
    const untold = serverAt({ by: 'mark', mark: 4660, family: 'ipv4' }, a);
    assert.deepEqual(stale(remove(untold)), [], 'read back, it does not tell');
  });
});

/** What conntrack says: nothing, unless told. */
class Conntrack implements CommandRunner {
  readonly asked: string[] = [];
  listing: readonly string[] = [];
  answer: (argv: string) => Partial<CommandResult> = () => ({});

  async run({ argv }: Command, signal: AbortSignal): Promise<CommandResult> {
    signal.throwIfAborted();
    this.asked.push(argv.join(' '));
    return { status: 0, stdout: '', stderr: '', ...this.answer(argv.join(' ')) };
  }

  async lines(command: Command, onLine: (line: string) => void, signal: AbortSignal): Promise<CommandResult> {
    const result = await this.run(command, signal);
    this.listing.forEach(onLine);
    return result;
  }
}

const deletionOf = (endpoint: string, port = 8053): string =>
  `-D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src ${endpoint} --reply-port-src ${port}`;
const NONE = { status: 1, stderr: 'conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.\n' };
const DENIED = { status: 1, stderr: 'conntrack v1.4.7 (conntrack-tools): Operation failed: sorry, you must be root\n' };

describe('IPVS that forgets flows', () => {
  let conntrack: Conntrack;
  let kernel: FakeIpvs;
  let troubles: (string | undefined)[];
  let driver: TableDriver<VirtualServer>;

  beforeEach(async () => {
    conntrack = new Conntrack();
    kernel = new FakeIpvs();
    troubles = [];
    driver = forgettingFlows({ inner: kernel, runner: conntrack, onTrouble: error => troubles.push(error?.code) });
    await driver.apply([create(dns(a, b))], never);
    conntrack.asked.length = 0;
  });

  it('does so when the change is in', async () => {
    conntrack.answer = () => {
      assert.deepEqual(kernel.state.get('UDP 10.96.0.10:53'), dns(b));
      return NONE;
    };
    assert.deepEqual(await driver.apply([update(dns(a, b), dns(b))], never), { failed: new Map() });
    assert.deepEqual(conntrack.asked, [`conntrack ${deletionOf('10.244.1.1')}`]);
    assert.deepEqual(troubles, [], 'that there is none is well');
    await driver.apply([update(dns(b), dns(b, to('10.244.1.3')))], never);
    assert.equal(conntrack.asked.length, 1, 'nothing is owed');
  });

  it('asks nobody for changes of TCP, and reads and shows as the table does', async () => {
    const tcp = serverAt(at('TCP', '10.96.0.11'), a);
    await driver.apply([create(tcp)], never);
    await driver.apply([remove(tcp)], never);
    assert.deepEqual(conntrack.asked, []);
    assert.deepEqual(await driver.read(new Map(), never), kernel.state);
    assert.equal(driver.render([remove(tcp)]), 'delete TCP 10.96.0.11:53\n');
  });

  it('leaves the flows of a change that failed', async () => {
    kernel.refused.add('UDP 10.96.0.10:53');
    const { failed } = await driver.apply([update(dns(a, b), dns(b))], never);
    assert.deepEqual([...failed.keys()], ['UDP 10.96.0.10:53']);
    assert.deepEqual(conntrack.asked, []);
  });

  it('owes what could not be forgotten until a later change, and tells trouble once and its end once', async () => {
    conntrack.answer = () => DENIED;
    assert.deepEqual(
      await driver.apply([update(dns(a, b), dns(b))], never),
      { failed: new Map() },
      'the change is in all the same',
    );
    const other = serverAt(at('TCP', '10.96.0.11'), a);
    await driver.apply([create(other)], never);
    assert.deepEqual(troubles, ['FW_COMMAND_FAILED']);
    conntrack.answer = () => ({});
    conntrack.asked.length = 0;
    await driver.apply([remove(other)], never);
    assert.deepEqual(conntrack.asked, [`conntrack ${deletionOf('10.244.1.1')}`]);
    assert.deepEqual(troubles, ['FW_COMMAND_FAILED', undefined]);
    await driver.apply([create(other)], never);
    assert.equal(conntrack.asked.length, 1);
  });

  it('owes nothing of an endpoint that came back meanwhile, and nothing twice', async () => {
    conntrack.answer = () => DENIED;
    await driver.apply([update(dns(a, b), dns())], never);
    for (let round = 0; round < 10; round++) {
      await driver.apply([update(dns(), dns(a))], never);
      await driver.apply([update(dns(a), dns())], never);
    }
    conntrack.answer = () => ({});
    conntrack.asked.length = 0;
    await driver.apply([update(dns(), dns(a))], never);
    assert.deepEqual(conntrack.asked, [`conntrack ${deletionOf('10.244.1.2')}`, `conntrack ${deletionOf('10.96.0.10', 53)}`]);
  });

  it('owes nothing where the tool is missing: nothing can ever be forgotten', async () => {
    conntrack.answer = () => {
      throw new FairwayError('FW_CAPABILITY_TOOL_MISSING', "'conntrack' is not installed");
    };
    await driver.apply([update(dns(a, b), dns(b))], never);
    assert.deepEqual(troubles, ['FW_CAPABILITY_TOOL_MISSING']);
    conntrack.asked.length = 0;
    conntrack.answer = () => ({});
    await driver.apply([update(dns(b), dns(b, a))], never);
    assert.deepEqual(conntrack.asked, []);
    await driver.apply([update(dns(a, b), dns(b))], never);
    assert.deepEqual(troubles, ['FW_CAPABILITY_TOOL_MISSING', undefined], 'installed by now');
  });

  it('ends with the reason of an aborted signal, without trouble, and owes on', async () => {
    const stop = new AbortController();
    conntrack.answer = () => {
      stop.abort(new Error('stopping'));
      throw stop.signal.reason;
    };
    await assert.rejects(driver.apply([update(dns(a, b), dns(b))], stop.signal), /stopping/);
    assert.deepEqual(troubles, []);
    conntrack.answer = () => ({});
    conntrack.asked.length = 0;
    await driver.apply([update(dns(b), dns())], never);
    assert.equal(conntrack.asked.length, 2);
  });

  it('looks which of many there are, and forgets these', async () => {
    const many = Array.from({ length: 9 }, (_, index) => to(`10.244.2.${index + 1}`));
    await driver.apply([update(dns(a, b), dns(a, b, ...many))], never);
    conntrack.listing = [
      'udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=1000 dport=53 [UNREPLIED] src=10.244.2.3 dst=10.0.0.1 sport=8053 dport=1000 mark=0 use=1',
      'udp      17 119 src=10.0.0.1 dst=10.96.0.10 sport=1001 dport=53 packets=2 bytes=9 src=10.244.2.3 dst=10.0.0.1 sport=8053 dport=1001 packets=1 bytes=4 [ASSURED] mark=0 use=1',
      'udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=1002 dport=53 src=10.244.1.1 dst=10.0.0.1 sport=8053 dport=1002 mark=0 use=1',
      'udp      17 29 src=10.0.0.1 dst=10.96.0.10 sport=1003 dport=53 src=10.244.2.3 dst=10.0.0.1 sport=9053 dport=1003 mark=0 use=1',
      'something else',
    ];
    conntrack.asked.length = 0;
    await driver.apply([update(dns(a, b, ...many), dns(a, b))], never);
    assert.deepEqual(conntrack.asked, ['conntrack -L -p udp -f ipv4', `conntrack ${deletionOf('10.244.2.3')}`]);
    assert.deepEqual(troubles, []);

    conntrack.answer = argv => (argv.includes('-L') ? DENIED : {});
    await driver.apply([update(dns(a, b, ...many), dns(a, b))], never);
    assert.deepEqual(troubles, ['FW_COMMAND_FAILED']);
  });
});
