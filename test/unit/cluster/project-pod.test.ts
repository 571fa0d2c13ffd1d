import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import type { Namespace, Pod } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';

const META = { namespace: 'shop', name: 'web-1' };

interface Projected<T> {
  readonly object: T;
  readonly messages: readonly string[];
}

function pod(spec: object, status: object = {}, metadata: object = META): Projected<Pod> {
  const { object, complaints } = new Projector().project('Pod', { metadata, spec, status });
  assert.ok(object !== undefined, JSON.stringify(complaints));
  return { object, messages: complaints.map(({ message }) => message) };
}

function namespace(metadata: object): Projected<Namespace> {
  const { object, complaints } = new Projector().project('Namespace', { metadata });
  assert.ok(object !== undefined, JSON.stringify(complaints));
  return { object, messages: complaints.map(({ message }) => message) };
}

describe('a Pod as the modules see it', () => {
  it('keeps labels, node, addresses, named ports and how long it takes to end, and nothing else', () => {
    const metadata = {
      ...META,
      uid: 'u1',
      creationTimestamp: '2026-01-02T03:04:05Z',
      labels: { app: 'web', 'pod-template-hash': '5d9' },
      annotations: { 'kube-router.io/x': 'y' },
    };
    const ports = [{ name: 'http', containerPort: 8080, protocol: 'TCP' }, { containerPort: 9000 }];
    const spec = {
      nodeName: 'n1',
      terminationGracePeriodSeconds: 5,
      containers: [{ name: 'web', ports }],
      serviceAccountName: 'default',
    };
    const status = {
      phase: 'Running',
      hostIP: '192.0.2.1',
      hostIPs: [{ ip: '192.0.2.1' }, { ip: 'FD00:1::1' }],
      podIP: '10.244.1.7',
      podIPs: [{ ip: '10.244.1.7' }, { ip: 'fd00:10:1:0::7' }],
    };
    assert.deepEqual(pod(spec, status, metadata), {
      object: {
        kind: 'Pod',
        meta: { ...META, uid: 'u1', creationTimestamp: Date.UTC(2026, 0, 2, 3, 4, 5) },
        labels: { app: 'web', 'pod-template-hash': '5d9' },
        nodeName: 'n1',
        hostIPs: ['192.0.2.1', 'fd00:1::1'],
        hostNetwork: false,
        finished: false,
        addresses: ['10.244.1.7', 'fd00:10:1::7'],
        terminationGracePeriodSeconds: 5,
        namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      },
      messages: [],
    });
  });

  it('that has just been made is without node, address and ports, and nothing is wrong with it', () => {
    for (const [spec, status] of [
      [{}, {}],
      [
        { nodeName: '', containers: null },
        { podIP: '', podIPs: [], hostIP: '' },
      ],
      [{ containers: [{ ports: null }, {}] }, { podIPs: null, hostIPs: [{}], podIP: null }],
    ]) {
      const { object, messages } = pod(spec ?? {}, status);
      assert.deepEqual(messages, []);
      assert.deepEqual([object.nodeName, object.hostIPs, object.addresses, object.namedPorts], ['', [], [], []]);
      assert.equal(object.terminationGracePeriodSeconds, 30, 'as the API has it');
    }
  });

  it('has the single addresses where an API server or a manifest gives no lists', () => {
    const { object, messages } = pod({}, { podIP: '10.244.1.7', hostIP: '192.0.2.1' });
    assert.deepEqual([object.addresses, object.hostIPs, messages], [['10.244.1.7'], ['192.0.2.1'], []]);
  });

  it('lives in the network of its node with hostNetwork', () => {
    assert.equal(pod({ hostNetwork: true }).object.hostNetwork, true);
    const { object, messages } = pod({ hostNetwork: 'true' });
    assert.deepEqual([object.hostNetwork, messages], [false, ['spec.hostNetwork: "true": neither true nor false, ignored']]);
  });

  it('is finished when it succeeded or failed, and in no other phase', () => {
    const phases = ['Pending', 'Running', 'Unknown', 'Succeeded', 'Failed', undefined, 5];
    assert.deepEqual(
      phases.map(phase => pod({}, { phase }).object.finished),
      [false, false, false, true, true, false, false],
    );
  });

  it('has the named ports of containers and of sidecars, not of init containers that end', () => {
    const { object } = pod({
      containers: [
        { ports: [{ name: 'http', containerPort: 80 }] },
        { ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }] },
      ],
      initContainers: [
        { restartPolicy: 'Always', ports: [{ name: 'mesh', containerPort: 15001 }] },
        { ports: [{ name: 'setup', containerPort: 81 }] },
        { restartPolicy: 'OnFailure', ports: [{ name: 'setup', containerPort: 82 }] },
      ],
    });
    assert.deepEqual(object.namedPorts, [
      { name: 'http', protocol: 'TCP', port: 80 },
      { name: 'dns', protocol: 'UDP', port: 53 },
      { name: 'mesh', protocol: 'TCP', port: 15001 },
    ]);
  });

  it('has a name for several ports, and each of them once', () => {
    const { object, messages } = pod({
      containers: [
        {
          ports: [
            { name: 'dns', containerPort: 53 },
            { name: 'dns', containerPort: 53, protocol: 'UDP' },
          ],
        },
        {
          ports: [
            { name: 'dns', containerPort: 53, protocol: 'TCP' },
            { name: 'dns', containerPort: 5353 },
          ],
        },
      ],
    });
    assert.deepEqual(
      object.namedPorts.map(({ protocol, port }) => `${port}/${protocol}`),
      ['53/TCP', '53/UDP', '5353/TCP'],
    );
    assert.deepEqual(messages, []);
  });

  it('loses only the ports and addresses that cannot be used', () => {
    const ports = [
      { name: 'ok', containerPort: 80 },
      { name: 'zero', containerPort: 0 },
      { name: 'word', containerPort: '80' },
      { name: 'icmp', containerPort: 80, protocol: 'ICMP' },
      { name: 'UPPER', containerPort: 80 },
      { name: 'a-name-that-is-long', containerPort: 80 },
      { name: 7, containerPort: 80 },
      'x',
    ];
    const status = { podIPs: [{ ip: '10.244.1.256' }, { ip: '10.244.1.1' }, 'x', { ip: '10.244.1.1' }], hostIPs: 'x' };
    const { object, messages } = pod({ containers: [{ ports }, 5] }, status);
    assert.deepEqual([object.namedPorts, object.addresses], [[{ name: 'ok', protocol: 'TCP', port: 80 }], ['10.244.1.1']]);
    const number = 'the port is left out; write a number from 1 to 65535 without quotes';
    const name = 'the port is left out; a name has at most 15 of a-z, 0-9 and single "-", and a letter';
    assert.deepEqual(
      messages.toSorted(),
      [
        'spec.containers[]: 5: not an object, left out',
        'spec.containers[].ports[]: "x": not an object, left out',
        `spec.containers[].ports[].containerPort: 0 (and 1 more like it): ${number}`,
        `spec.containers[].ports[].name: "UPPER" (and 2 more like it): ${name}`,
        'spec.containers[].ports[].protocol: "ICMP": not one of TCP, UDP, SCTP; left out',
        'status.hostIPs: "x": not a list, ignored',
        'status.podIPs[]: "x": not an object, left out',
        'status.podIPs[].ip: "10.244.1.256": not an IP address, left out; write it as 10.0.0.1 or fd00::1',
      ].sort(),
    );
  });

  it('shares with the other pods what they have in common', () => {
    const projector = new Projector();
    const [a, b] = ['a', 'b'].map(name => projector.project('Pod', { metadata: { name } }).object);
    assert.ok(a !== undefined && b !== undefined);
    assert.equal(a.namedPorts, b.namedPorts);
    assert.equal(a.addresses, b.addresses);
    assert.equal(a.labels, b.labels);
  });

  it('is read in a few microseconds, and 40,000 wrong ports in no time', () => {
    const projector = new Projector();
    const ports = [{ name: 'http', containerPort: 80 }];
    const since = performance.now();
    for (let index = 0; index < 20_000; index++) {
      const metadata = { namespace: 'shop', name: `p${index}`, labels: { app: `app-${index % 50}`, tier: 'web' } };
      const status = { podIPs: [{ ip: `10.${index >> 8}.${index & 255}.1` }], hostIPs: [{ ip: '192.0.2.1' }] };
      assert.ok(projector.project('Pod', { metadata, spec: { nodeName: 'n1', containers: [{ ports }] }, status }).object);
    }
    const many = Array.from({ length: 40_000 }, (_, index) => ({
      name: `p${index}`,
      containerPort: index % 2 === 0 ? 0 : 1 + index,
    }));
    const { object, messages } = pod({ containers: [{ ports: many }] });
    assert.ok(performance.now() - since < 3000);
    assert.deepEqual([object.namedPorts.length, messages.length], [20_000, 1]);
  });
});

describe('a Namespace as the modules see it', () => {
  it('has its labels and the one of its name, which the API server sets', () => {
    assert.deepEqual(namespace({ name: 'shop', namespace: 'ignored', labels: { team: 'blue' } }), {
      object: {
        kind: 'Namespace',
        meta: { namespace: '', name: 'shop', uid: '', creationTimestamp: 0 },
        labels: { team: 'blue', 'kubernetes.io/metadata.name': 'shop' },
      },
      messages: [],
    });
  });

  it('cannot take the name of another one by its label', () => {
    const labels = { 'kubernetes.io/metadata.name': 'kube-system' };
    assert.deepEqual(namespace({ name: 'shop', labels }).object.labels, { 'kubernetes.io/metadata.name': 'shop' });
  });

  it('loses only the labels that are none', () => {
    const { object, messages } = namespace({ name: 'shop', labels: { version: 1, team: 'blue' } });
    assert.deepEqual(object.labels, { team: 'blue', 'kubernetes.io/metadata.name': 'shop' });
    assert.deepEqual(messages, ['metadata.labels[version]: 1: not a string, ignored; put it in quotes']);
  });
});
