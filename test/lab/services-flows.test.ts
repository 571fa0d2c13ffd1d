import assert from 'node:assert/strict';
import type { LabHost, LabPod } from './addresses.ts';
import { describeServices, POD_PORT } from './describe-services.ts';
import { type ApiObject, endpoint, FAMILIES, type Family, service, slice } from './objects.ts';
import type { Transport } from './probe.ts';
import { cuts, type Exchange, Load, lost, type Stream, serverOf, shown, turns } from './traffic/load.ts';
import { until } from './until.ts';

const NODE_PORT = 30550;
const EVERY_MS = 20;
/** So many datagrams of a flow may be lost when its endpoint goes: those sent between the kernel's deletion and ours of the flow. */
const LOST_AT_MOST = 2;
const VIPS: Readonly<Record<Family, string>> = { ipv4: '10.96.22.1', ipv6: 'fd00:10:96::2201' };
const protocolOf = (transport: Transport): 'UDP' | 'SCTP' => (transport === 'sctp' ? 'SCTP' : 'UDP');

function dns(transport: Transport, spec: object = {}): ApiObject {
  return service('flows', {
    type: 'NodePort',
    clusterIP: VIPS.ipv4,
    clusterIPs: [VIPS.ipv4, VIPS.ipv6],
    ipFamilies: ['IPv4', 'IPv6'],
    ipFamilyPolicy: 'RequireDualStack',
    ports: [{ name: 'dns', protocol: protocolOf(transport), port: 53, nodePort: NODE_PORT }],
    ...spec,
  });
}

function endpoints(transport: Transport, ...pods: readonly LabPod[]): readonly ApiObject[] {
  const ports = [{ name: 'dns', protocol: protocolOf(transport), port: POD_PORT }];
  return FAMILIES.map(family =>
    slice(
      'flows',
      ports,
      pods.map(pod => endpoint(pod, family)),
      { family },
    ),
  );
}

describeServices('flows from one source port', {}, suite => {
  const [gone, stays] = [(): LabPod => suite().lab.pod(2, 1), (): LabPod => suite().lab.pod(3, 1)];
  const clients = (): readonly LabHost[] => [suite().lab.pod(1, 1), suite().lab.node(1), suite().lab.ext];

  /** By cluster IP and node port, in both families; `count` of each, from ports of their own. */
  const flows = (count: number): readonly Stream[] =>
    FAMILIES.flatMap(family =>
      [
        { address: VIPS[family], port: 53 },
        { address: suite().lab.node(1).addresses[family], port: NODE_PORT },
      ].flatMap((target, way) =>
        Array.from({ length: count }, (_, index): Stream => {
          return { ...target, kind: 'flow', transport: 'udp', everyMs: EVERY_MS, sourcePort: 5000 + 10 * way + index };
        }),
      ),
    );

  const begin = async (streams: readonly Stream[], answered = true): Promise<readonly Load[]> =>
    await Promise.all(clients().map(client => Load.begin(suite().lab, client, streams, { answered })));

  /** Waits until every flow has had answers to datagrams sent from now on. */
  const allAnswered = async (loads: readonly Load[], streams: readonly Stream[], exclude = ''): Promise<void> => {
    const now = await suite().lab.now();
    const silent = (load: Load): readonly string[] =>
      streams
        .filter(stream => !load.of(stream, now).some(({ reply }) => reply.outcome === 'answer' && reply.server !== exclude))
        .map(({ address, port, sourcePort }) => `${load.from.name} ${sourcePort} ${address}:${port}`);
    await until(
      'each flow is answered',
      async () => await Promise.resolve(loads.flatMap(silent)),
      left => left.length === 0,
      5000,
    );
  };

  const ended = async (loads: readonly Load[]): Promise<ReadonlyMap<string, readonly Exchange[]>> => {
    const all = (await Promise.all(loads.map(async load => await load.end()))).flat();
    return Map.groupBy(all, ({ from, stream }) => `${from} ${stream.address}:${stream.port} from ${stream.sourcePort}`);
  };

  afterEach('nothing is left', async () => {
    const { cluster } = suite();
    await cluster.remove(dns('udp'), ...endpoints('udp'));
  });

  it('UDP: those to an endpoint that went go to another at once, those to one that stays are not touched', async () => {
    const { lab, cluster } = suite();
    await cluster.put(dns('udp'), ...endpoints('udp', gone(), stays()));
    const streams = flows(2);
    const loads = await begin(streams);
    const entries = async (): Promise<readonly string[]> => {
      const listed = await Promise.all(
        FAMILIES.map(family =>
          lab.expectRun(lab.node(1), [
            'conntrack',
            '-L',
            '-o',
            'id',
            '-p',
            'udp',
            '-f',
            family,
            '--reply-src',
            stays().addresses[family],
          ]),
        ),
      );
      return listed.join('').match(/\bid=\d+/g) ?? [];
    };
    const before = await entries();
    await cluster.put(...endpoints('udp', stays()));
    await allAnswered(loads, streams, gone().name);
    const after = new Set(await entries());
    const all = await ended(loads);
    const moved = [...all].filter(([, each]) => serverOf(each[0]!.reply) === gone().name);
    const unmoved = [...all].filter(([, each]) => serverOf(each[0]!.reply) === stays().name);
    assert.ok(
      moved.length >= 6 && unmoved.length >= 6 && moved.length + unmoved.length === 24,
      `${moved.length} ${unmoved.length}`,
    );
    const losses = moved.map(([, each]) => lost(each).length);
    console.log(
      `${moved.length} flows moved, datagrams lost by each: ${losses.join(' ')}; ${unmoved.length} stayed, ${before.length} entries of theirs`,
    );
    for (const [name, each] of moved) {
      const names = turns(each).replaceAll(/ (timeout|refused|failed)/g, '');
      assert.equal(names, `${gone().name} ${stays().name}`, name);
      assert.ok(lost(each).length <= LOST_AT_MOST, `${name}:\n${lost(each).map(shown).join('\n')}`);
    }
    for (const [name, each] of unmoved) assert.equal(turns(each), stays().name, name);
    assert.ok(before.length >= unmoved.length);
    assert.deepEqual(
      before.filter(id => !after.has(id)),
      [],
      'the entries of flows that stay are the same',
    );
  });

  it('UDP: one that was sent into nothing is answered when the first endpoint comes, and again after the last one went', async () => {
    const { cluster } = suite();
    await cluster.put(dns('udp'), ...endpoints('udp'));
    const streams = flows(1);
    const loads = await begin(streams, false);
    const wait = await suite().lab.now();
    await until(
      'each has been sent into nothing',
      async () => await Promise.resolve(loads.map(load => streams.map(stream => load.of(stream, wait).length))),
      counts => counts.flat().every(count => count > 3),
    );
    for (const pod of [gone(), stays()]) {
      await cluster.put(...endpoints('udp', pod));
      await allAnswered(loads, streams);
      await cluster.put(...endpoints('udp'));
    }
    const all = await ended(loads);
    for (const [name, each] of all) {
      const names = turns(each.filter(({ reply }) => reply.outcome === 'answer'));
      assert.equal(names, `${gone().name} ${stays().name}`, name);
    }
    assert.equal(all.size, 12);
  });

  it('UDP: those to a Service that comes only then, from a client that has asked before', async () => {
    const { cluster } = suite();
    const streams = flows(1);
    const loads = await begin(streams, false);
    await cluster.put(dns('udp'), ...endpoints('udp', stays()));
    await allAnswered(loads, streams);
    for (const [name, each] of await ended(loads)) {
      const first = each.find(({ reply }) => reply.outcome === 'answer')?.began ?? 0;
      assert.equal(turns(each.filter(({ began }) => began >= first)), stays().name, name);
    }
  });

  it('UDP under external policy Local: those from inside follow the endpoints of the whole cluster, those from outside this node’s', async () => {
    const { lab, cluster } = suite();
    const here = lab.pod(1, 2);
    const external = '203.0.113.50';
    const local = dns('udp', { externalTrafficPolicy: 'Local', externalIPs: [external] });
    await cluster.put(local, ...endpoints('udp', gone(), here));
    const streams = [
      { address: external, port: 53 },
      { address: lab.node(1).addresses.ipv4, port: NODE_PORT },
      // IPVS cannot tell apart the answers of one endpoint to one client's port by two addresses: each way has ports of its own.
    ].flatMap((target, way) =>
      [0, 1].map(
        (index): Stream => ({
          ...target,
          kind: 'flow',
          transport: 'udp',
          everyMs: EVERY_MS,
          sourcePort: 5040 + 10 * way + index,
        }),
      ),
    );
    const loads = await begin(streams);
    await cluster.put(...endpoints('udp', stays(), here));
    await allAnswered(loads, streams, gone().name);
    const all = await ended(loads);
    const moved = [...all].filter(([, each]) => turns(each).includes(gone().name));
    console.log(
      `policy Local: ${moved.length} of ${all.size} flows moved; lost: ${moved.map(([, each]) => lost(each).length).join(' ')}`,
    );
    assert.ok(moved.length >= 2, 'some of the flows from inside were at the endpoint of another node');
    for (const [name, each] of all) {
      if (name.startsWith('ext ')) assert.equal(turns(each), here.name, name);
      assert.doesNotMatch(serverOf(each.at(-1)!.reply), new RegExp(gone().name), name);
      assert.ok(lost(each).length <= LOST_AT_MOST, `${name}:\n${lost(each).map(shown).join('\n')}`);
    }
  });

  it('SCTP: associations with an endpoint that went end and are made anew with another, those with one that stays go on', async function () {
    const { lab, cluster } = suite();
    const servers = [gone(), stays()].flatMap(pod =>
      FAMILIES.map(family => lab.probe(pod).serve('sctp', pod.addresses[family], POD_PORT, pod.name)),
    );
    const transport = await Promise.all(servers).catch((error: unknown) => String(error));
    if (typeof transport === 'string') return this.skip();
    await cluster.put(dns('sctp'), ...endpoints('sctp', gone(), stays()));
    const streams: readonly Stream[] = FAMILIES.map(family => ({
      ...{ kind: 'keep', transport: 'sctp', everyMs: 50, count: 2 },
      ...{ address: VIPS[family], port: 53 },
    }));
    const loads = await begin(streams);
    const changing = await lab.now();
    await cluster.put(...endpoints('sctp', stays()));
    await until(
      'six associations have ended',
      () => Promise.resolve(cuts(loads.flatMap(load => load.exchanges)).length),
      count => count >= 6,
      15_000,
    );
    await allAnswered(loads, streams, gone().name);
    const all = (await Promise.all(loads.map(async load => await load.end()))).flat();
    console.log(
      `SCTP: ${cuts(all).length} associations ended: ${[...new Set(cuts(all).map(({ reply }) => serverOf(reply)))].join()}`,
    );
    const opened = new Map(
      all
        .filter(({ isOpening }) => isOpening)
        .map(({ from, stream, number, reply }) => [`${from} ${stream.address} ${number}`, serverOf(reply)]),
    );
    for (const { from, stream, number, reply } of cuts(all)) {
      assert.equal(opened.get(`${from} ${stream.address} ${number}`), gone().name);
      // The node's own packets to an address of its own come back to the very socket that sent them, which answers nothing.
      assert.match(reply.outcome, from === lab.node(1).name ? /^(reset|timeout)$/ : /^reset$/);
    }
    assert.equal(cuts(all).length, 6);
    for (const one of all.filter(({ isOpening, began }) => isOpening && began > changing))
      assert.equal(serverOf(one.reply), stays().name, shown(one));
  });

  for (const transport of ['tcp', 'udp'] as const) {
    it(`session affinity, ${transport}: a client whose endpoint went goes to another and stays there`, async () => {
      const { lab, cluster } = suite();
      const name = `sticky-${transport}`;
      const ports = [{ name: 'any', protocol: transport === 'tcp' ? 'TCP' : 'UDP', port: POD_PORT }] as const;
      const of = (...pods: readonly LabPod[]): ApiObject =>
        slice(
          name,
          ports,
          pods.map(pod => endpoint(pod)),
        );
      const [one, two, three] = [lab.pod(1, 1), gone(), stays()];
      const sticky = service(name, {
        clusterIP: '10.96.22.9',
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 3600 } },
        ports: [{ name: 'any', protocol: ports[0].protocol, port: 80 }],
      });
      await cluster.put(sticky, of(one, two, three));
      const stream: Stream = { kind: 'short', transport, address: '10.96.22.9', port: 80, everyMs: 20 };
      const loads = await begin([stream]);
      const bound = new Map(loads.map(load => [load.from.name, serverOf(load.exchanges[0]!.reply)]));
      const removed = bound.get(lab.ext.name)!;
      const rest = [one, two, three].filter(pod => pod.name !== removed);
      await cluster.put(of(...rest));
      const changed = await lab.now();
      await until(
        'there are twenty more',
        async () => await Promise.resolve(loads.map(load => load.of(stream, changed).length)),
        counts => counts.every(count => count > 20),
      );
      // It comes back, and its clients stay where they are now.
      await cluster.put(of(one, two, three));
      const back = await lab.now();
      await until(
        'there are twenty more',
        async () => await Promise.resolve(loads.map(load => load.of(stream, back).length)),
        counts => counts.every(count => count > 20),
      );
      for (const load of loads) {
        const all = await load.end();
        const first = bound.get(load.from.name)!;
        const seen = turns(all);
        if (first === removed) assert.match(seen, new RegExp(`^${first} (?!${first})pod-\\d-1$`), load.from.name);
        else assert.equal(seen, first, load.from.name);
      }
      await cluster.remove(sticky, of());
    });
  }
});
