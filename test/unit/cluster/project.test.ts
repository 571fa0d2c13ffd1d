import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'mocha';
import type { EndpointSlice, Kind, Node, Service } from '../../../daemon/cluster/kinds.ts';
import { Projector } from '../../../daemon/cluster/project.ts';

const KINDS: readonly Kind[] = ['Service', 'EndpointSlice', 'Node', 'Pod', 'Namespace', 'NetworkPolicy', 'ConfigMap', 'Lease'];
const META = { namespace: 'shop', name: 'web' };

function service(spec: object, rest: object = {}): { object: Service; messages: readonly string[] } {
  return used(new Projector().project('Service', { metadata: META, spec, ...rest }));
}

function slice(fields: object): { object: EndpointSlice; messages: readonly string[] } {
  const metadata = { ...META, labels: { 'kubernetes.io/service-name': 'web' } };
  return used(new Projector().project('EndpointSlice', { metadata, addressType: 'IPv4', ...fields }));
}

function node(fields: object): { object: Node; messages: readonly string[] } {
  return used(new Projector().project('Node', { metadata: { name: 'n1' }, ...fields }));
}

function used<T>(projection: { object: T | undefined; complaints: readonly { message: string }[] }): {
  object: T;
  messages: string[];
} {
  assert.ok(projection.object !== undefined, JSON.stringify(projection.complaints));
  return { object: projection.object, messages: projection.complaints.map(({ message }) => message) };
}

describe('a Service as the modules see it', () => {
  it('has the defaults of the API where a manifest leaves them out', () => {
    assert.deepEqual(service({ clusterIP: '10.96.0.1', ports: [{ port: 80 }], sessionAffinity: 'ClientIP' }), {
      object: {
        kind: 'Service',
        meta: { ...META, uid: '', creationTimestamp: 0 },
        type: 'ClusterIP',
        clusterIPs: ['10.96.0.1'],
        externalIPs: [],
        loadBalancerIPs: [],
        ports: [{ name: '', protocol: 'TCP', port: 80, nodePort: undefined }],
        internalTrafficPolicy: 'Cluster',
        externalTrafficPolicy: 'Cluster',
        sessionAffinitySeconds: 10800,
        ipFamilies: ['ipv4'],
        annotations: {},
        proxyName: '',
        headless: false,
        healthCheckNodePort: undefined,
        loadBalancerSourceRanges: [],
        isClosed: false,
        trafficDistribution: '',
        loadBalancer: undefined,
      },
      messages: [],
    });
  });

  it('keeps what the API server says', () => {
    const { object, messages } = service(
      {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.1',
        clusterIPs: ['10.96.0.1', 'FD00:0::1'],
        externalIPs: ['192.0.2.1'],
        ports: [{ name: 'dns', protocol: 'UDP', port: 53, nodePort: 30053, targetPort: 'dns' }],
        internalTrafficPolicy: 'Local',
        externalTrafficPolicy: 'Local',
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
        ipFamilies: ['IPv4', 'IPv6'],
        healthCheckNodePort: 31000,
        loadBalancerSourceRanges: [' 10.0.0.1/8', '2001:DB8::/32'],
        trafficDistribution: 'PreferClose',
      },
      {
        metadata: {
          ...META,
          uid: 'u1',
          creationTimestamp: '2026-01-02T03:04:05Z',
          labels: { 'service.kubernetes.io/service-proxy-name': 'fairway', app: 'web' },
          annotations: {
            'kube-router.io/service.dsr': 'tunnel',
            'fairway.dev/x': 'y',
            'kubectl.kubernetes.io/last-applied-configuration': '{}',
          },
        },
        status: {
          loadBalancer: {
            ingress: [{ ip: '198.51.100.1' }, { ip: '198.51.100.2', ipMode: 'Proxy' }, { hostname: 'lb.example' }],
          },
        },
      },
    );
    assert.deepEqual(messages, []);
    assert.deepEqual(object, {
      kind: 'Service',
      meta: { ...META, uid: 'u1', creationTimestamp: Date.UTC(2026, 0, 2, 3, 4, 5) },
      type: 'LoadBalancer',
      clusterIPs: ['10.96.0.1', 'fd00::1'],
      externalIPs: ['192.0.2.1'],
      loadBalancerIPs: ['198.51.100.1'],
      ports: [{ name: 'dns', protocol: 'UDP', port: 53, nodePort: 30053 }],
      internalTrafficPolicy: 'Local',
      externalTrafficPolicy: 'Local',
      sessionAffinitySeconds: 60,
      ipFamilies: ['ipv4', 'ipv6'],
      annotations: { 'kube-router.io/service.dsr': 'tunnel', 'fairway.dev/x': 'y' },
      proxyName: 'fairway',
      headless: false,
      healthCheckNodePort: 31000,
      loadBalancerSourceRanges: ['10.0.0.0/8', '2001:db8::/32'],
      isClosed: false,
      trafficDistribution: 'PreferClose',
      loadBalancer: {
        loadBalancerClass: '',
        loadBalancerIP: '',
        ipFamilyPolicy: 'RequireDualStack',
        labels: { 'service.kubernetes.io/service-proxy-name': 'fairway', app: 'web' },
        selector: '',
        ingressIPs: ['198.51.100.1', '198.51.100.2'],
        ingressHostnames: ['lb.example'],
        writtenBy: '',
        writtenAt: 0,
        resourceVersion: '',
      },
    });
  });

  it('is headless with clusterIP None or the label, and has no cluster addresses then', () => {
    for (const spec of [{ clusterIP: 'None' }, { clusterIPs: ['None'] }]) {
      assert.deepEqual([service(spec).object.headless, service(spec).object.clusterIPs, service(spec).messages], [true, [], []]);
    }
    const metadata = { ...META, labels: { 'service.kubernetes.io/headless': '' } };
    assert.equal(service({}, { metadata }).object.headless, true);
    assert.deepEqual(service({ type: 'ExternalName', externalName: 'x.example', clusterIP: '' }).object.clusterIPs, []);
  });

  it('loses only the absurd ones of its ports, one complaint per field', () => {
    const ports = [
      { port: 0 },
      { port: 70000 },
      { port: 'http' },
      { port: 80, protocol: 'ICMP' },
      { port: 81 },
      { port: 81 },
      'x',
      { port: 82, nodePort: -1 },
    ];
    const { object, messages } = service({ clusterIP: '10.96.0.1', ports });
    assert.deepEqual(
      object.ports.map(({ port, nodePort }) => [port, nodePort]),
      [
        [81, undefined],
        [82, undefined],
      ],
    );
    assert.deepEqual(
      messages.toSorted(),
      [
        'spec.ports[].port: 0 (and 2 more like it): the port is left out; write a number from 1 to 65535 without quotes',
        'spec.ports[].protocol: "ICMP": not one of TCP, UDP, SCTP; left out',
        'spec.ports[]: "x": not an object, left out',
        'spec.ports: "81/TCP": there twice, only the first counts; remove one',
        'spec.ports[].nodePort: -1: ignored; write a number from 1 to 65535 without quotes',
      ].sort(),
    );
  });

  it('loses only the wrong ones of its addresses', () => {
    const { object, messages } = service({
      clusterIPs: ['10.96.0.1', '010.0.0.1', 7],
      externalIPs: ['192.0.2.1', 'no', '192.0.2.1'],
    });
    assert.deepEqual([object.clusterIPs, object.externalIPs], [['10.96.0.1'], ['192.0.2.1']]);
    assert.deepEqual(messages, [
      'spec.clusterIPs[]: "010.0.0.1" (and 1 more like it): not an IP address, left out; write it as 10.0.0.1 or fd00::1',
      'spec.externalIPs[]: "no": not an IP address, left out; write it as 10.0.0.1 or fd00::1',
    ]);
  });

  it('is not open to everyone when none of its source ranges can be read', () => {
    const status = { loadBalancer: { ingress: [{ ip: '198.51.100.1' }] } };
    const closed = service({ loadBalancerSourceRanges: ['10.0.0.0/33'] }, { status });
    assert.deepEqual(closed.object.loadBalancerIPs, []);
    assert.match(closed.messages[1] ?? '', /no range can be read, so the load-balancer addresses are not served/);
    const open = service({ loadBalancerSourceRanges: ['10.0.0.0/33', '10.0.0.0/8'] }, { status });
    assert.deepEqual([open.object.loadBalancerIPs, open.object.loadBalancerSourceRanges], [['198.51.100.1'], ['10.0.0.0/8']]);
  });

  it('takes the default for a word or number it does not know, and says so', () => {
    const affinity = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 86401 } } };
    const { object, messages } = service({ type: 'Magic', externalTrafficPolicy: 'Loca', ipFamilies: ['IPv5'], ...affinity });
    assert.deepEqual([object.type, object.externalTrafficPolicy, object.sessionAffinitySeconds], ['ClusterIP', 'Cluster', 10800]);
    assert.equal(messages.length, 4);
    assert.match(
      messages[0] ?? '',
      /^spec\.type: "Magic": not one of ClusterIP, NodePort, LoadBalancer, ExternalName; ClusterIP is used$/,
    );
  });
});

describe('an EndpointSlice as the modules see it', () => {
  it('reads nil conditions as the API advises', () => {
    const conditions = [
      undefined,
      {},
      null,
      { ready: false },
      { ready: false, serving: true, terminating: true },
      { ready: null, serving: null },
    ];
    const endpoints = conditions.map((condition, index) => ({ addresses: [`10.0.0.${index}`], conditions: condition }));
    const { object, messages } = slice({ endpoints });
    assert.deepEqual(
      object.endpoints.map(({ ready, serving, terminating }) => [ready, serving, terminating]),
      [
        [true, true, false],
        [true, true, false],
        [true, true, false],
        [false, false, false],
        [false, true, true],
        [true, true, false],
      ],
    );
    assert.deepEqual(messages, []);
  });

  it('keeps node, zone and hints', () => {
    const hints = { forZones: [{ name: 'z1' }], forNodes: [{ name: 'n1' }] };
    const { object } = slice({
      ports: [{ name: 'http', port: 8080 }],
      endpoints: [{ addresses: ['10.0.0.1', '10.0.0.2'], nodeName: 'n1', zone: 'z1', hints }],
    });
    assert.deepEqual(object, {
      kind: 'EndpointSlice',
      meta: { ...META, uid: '', creationTimestamp: 0 },
      serviceKey: 'shop/web',
      family: 'ipv4',
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      endpoints: [
        {
          address: '10.0.0.1',
          ready: true,
          serving: true,
          terminating: false,
          nodeName: 'n1',
          zone: 'z1',
          forZones: ['z1'],
          forNodes: ['n1'],
        },
      ],
    });
  });

  it('takes null ports and null lists as nothing, without a word', () => {
    assert.deepEqual(slice({ ports: [{ port: null, name: null }], endpoints: null }).object.ports, []);
    assert.deepEqual(slice({ ports: null, endpoints: null }).messages, []);
  });

  it('loses only the endpoints that cannot be used', () => {
    const endpoints = [
      { addresses: ['10.0.0.1'] },
      { addresses: [] },
      {},
      { addresses: ['fd00::1'] },
      { addresses: ['300.1.1.1'] },
      null,
      5,
    ];
    const { object, messages } = slice({ endpoints });
    assert.deepEqual(
      object.endpoints.map(({ address }) => address),
      ['10.0.0.1'],
    );
    assert.deepEqual(messages, [
      'endpoints[]: null (and 1 more like it): not an object, left out',
      'endpoints[].addresses[0]: missing (and 3 more like it): not an IPv4 address; the endpoint is left out',
    ]);
  });

  it('counts an address once: the endpoint that answers speaks for it', () => {
    const endpoints = [
      { addresses: ['10.0.0.1'], conditions: { ready: false, terminating: true }, nodeName: 'old' },
      { addresses: ['10.0.0.1'], conditions: { ready: true }, nodeName: 'new' },
    ];
    assert.deepEqual(
      slice({ endpoints }).object.endpoints.map(({ nodeName }) => nodeName),
      ['new'],
    );
    assert.deepEqual(slice({ endpoints }).messages, []);
    const twice = slice({ endpoints: [{ addresses: ['10.0.0.1'] }, { addresses: ['10.0.0.1'] }] });
    assert.equal(twice.object.endpoints.length, 1);
    assert.deepEqual(twice.messages, ['endpoints[].addresses[0]: "10.0.0.1": there twice, counted once']);
  });

  it('is nothing at all with host names or without a Service, and says why', () => {
    const projector = new Projector();
    const fqdn = projector.project('EndpointSlice', {
      metadata: { ...META, labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'FQDN',
    });
    assert.equal(fqdn.object, undefined);
    assert.match(
      fqdn.complaints[0]?.message ?? '',
      /addressType: "FQDN": the slice is ignored; only IPv4 and IPv6 can be balanced/,
    );
    const orphan = projector.project('EndpointSlice', { metadata: META, addressType: 'IPv4' });
    assert.equal(orphan.object, undefined);
    assert.match(orphan.complaints[0]?.message ?? '', /kubernetes\.io\/service-name\]: missing: the slice belongs to no Service/);
  });

  it('reads 40,000 endpoints, and one complaint for 40,000 wrong ones, in no time', () => {
    const right = Array.from({ length: 40_000 }, (_, index) => ({ addresses: [`10.1.${index >> 8}.${index & 255}`] }));
    const since = performance.now();
    assert.equal(slice({ endpoints: right }).object.endpoints.length, 40_000);
    const wrong = slice({ endpoints: right.map(() => ({ addresses: ['x'] })) });
    assert.ok(performance.now() - since < 2000);
    assert.equal(wrong.object.endpoints.length, 0);
    assert.deepEqual(wrong.messages, [
      'endpoints[].addresses[0]: "x" (and 39999 more like it): not an IPv4 address; the endpoint is left out',
    ]);
  });
});

describe('a Node as the modules see it', () => {
  it('has its valid addresses, labels and our annotations', () => {
    const addresses = [
      { type: 'Hostname', address: 'n1' },
      { type: 'InternalIP', address: '192.0.2.1' },
      { type: 'InternalIP', address: '2001:DB8::1' },
      { type: 'InternalIP', address: 'n1.example' },
      { type: 'ExternalIP', address: '198.51.100.1' },
    ];
    const metadata = {
      name: 'n1',
      namespace: 'ignored',
      labels: { a: 'b' },
      annotations: { 'kube-router.io/node.asn': '64512', other: 'x' },
    };
    const { object, messages } = node({ metadata, status: { addresses } });
    assert.deepEqual(object, {
      kind: 'Node',
      meta: { namespace: '', name: 'n1', uid: '', creationTimestamp: 0 },
      labels: { a: 'b' },
      annotations: { 'kube-router.io/node.asn': '64512' },
      internalIPs: ['192.0.2.1', '2001:db8::1'],
      externalIPs: ['198.51.100.1'],
      podCIDRs: [],
      isLeaving: false,
      isReady: true,
    });
    assert.deepEqual(messages, [
      'status.addresses[].address: "n1.example": not an IP address, left out; write it as 10.0.0.1 or fd00::1',
    ]);
  });

  it('takes its pod CIDRs from the annotations, else from the spec', () => {
    const spec = { podCIDR: '10.1.0.0/24', podCIDRs: ['10.1.0.0/24', 'fd00:1::/64'] };
    const annotated = (annotations: object): readonly string[] =>
      node({ metadata: { name: 'n1', annotations }, spec }).object.podCIDRs;
    assert.deepEqual(annotated({}), ['10.1.0.0/24', 'fd00:1::/64']);
    assert.deepEqual(annotated({ 'kube-router.io/pod-cidr': '10.2.0.0/24' }), ['10.2.0.0/24']);
    assert.deepEqual(
      annotated({ 'kube-router.io/pod-cidr': '10.2.0.0/24', 'kube-router.io/pod-cidrs': '10.3.0.0/24, fd00:3::/64' }),
      ['10.3.0.0/24', 'fd00:3::/64'],
    );
    assert.deepEqual(annotated({ 'kube-router.io/pod-cidrs': 'nonsense' }), ['10.1.0.0/24', 'fd00:1::/64']);
    assert.deepEqual(node({ spec: { podCIDR: '10.1.0.0/24' } }).object.podCIDRs, ['10.1.0.0/24']);
  });

  it('is leaving while it is being deleted, or tainted by the cluster autoscaler to be', () => {
    const leaves = (fields: object): boolean => node(fields).object.isLeaving;
    assert.equal(leaves({ metadata: { name: 'n1', deletionTimestamp: '2026-01-01T00:00:00Z' } }), true);
    assert.equal(leaves({ metadata: { name: 'n1', deletionTimestamp: null } }), false);
    const tainted = (...keys: string[]): object => ({ spec: { taints: keys.map(key => ({ key, effect: 'NoSchedule' })) } });
    assert.equal(leaves(tainted('other', 'ToBeDeletedByClusterAutoscaler')), true);
    assert.equal(leaves({ spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler' }] } }), true);
    assert.equal(leaves(tainted('DeletionCandidateOfClusterAutoscaler', 'node.kubernetes.io/unschedulable')), false);
    assert.equal(leaves({ spec: { taints: null } }), false);
  });
});

describe('objects of any shape', () => {
  it('without a usable name are no objects, and say so', () => {
    const projector = new Projector();
    for (const raw of [
      undefined,
      null,
      5,
      'x',
      [],
      {},
      { metadata: null },
      { metadata: { name: '' } },
      { metadata: { name: 'a/b' } },
      { metadata: { name: 3 } },
    ]) {
      for (const kind of KINDS) {
        const { object, complaints } = projector.project(kind, raw);
        assert.equal(object, undefined);
        assert.match(
          complaints.map(({ message }) => message).join(),
          /metadata\.name: .*: the object is ignored; give it a name/,
        );
      }
    }
  });

  it('never make the projection throw', () => {
    const projector = new Projector();
    const fields = [
      'metadata',
      'name',
      'namespace',
      'labels',
      'annotations',
      'spec',
      'status',
      'ports',
      'port',
      'endpoints',
      'addresses',
      'type',
      'clusterIPs',
      'externalIPs',
      'loadBalancer',
      'ingress',
      'ip',
      'conditions',
      'hints',
      'forZones',
      'kubernetes.io/service-name',
      'addressType',
      'kube-router.io/pod-cidrs',
      'podCIDRs',
      'loadBalancerSourceRanges',
      'sessionAffinity',
      'podIPs',
      'hostIP',
      'phase',
      'containers',
      'containerPort',
      'podSelector',
      'namespaceSelector',
      'matchLabels',
      'matchExpressions',
      'key',
      'operator',
      'values',
      'policyTypes',
      'egress',
      'from',
      'to',
      'ipBlock',
      'cidr',
      'except',
      'protocol',
      'endPort',
      '__proto__',
      'constructor',
    ];
    const words = [
      '',
      'web',
      'IPv4',
      'FQDN',
      '10.0.0.1',
      'fd00::1',
      'ClientIP',
      'LoadBalancer',
      '10.0.0.0/8',
      'None',
      'true',
      'Egress',
      'NotIn',
      'UDP',
    ];
    const { value } = fc.letrec(tie => ({
      value: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom(...words),
        fc.integer(),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
        tie('list'),
        tie('object'),
      ),
      list: fc.array(tie('value'), { maxLength: 3 }),
      object: fc.dictionary(fc.constantFrom(...fields), tie('value'), { maxKeys: 8 }),
    }));
    const named = fc.record({
      metadata: fc.record({
        name: fc.constant('web'),
        labels: fc.oneof(value, fc.constant({ 'kubernetes.io/service-name': 'web' })),
      }),
      spec: value,
      status: value,
      endpoints: value,
      ports: value,
      addressType: fc.constantFrom('IPv4', 'IPv6'),
    });
    fc.assert(
      fc.property(fc.constantFrom(...KINDS), fc.oneof(value, named), (kind, raw) => {
        const { object, complaints } = projector.project(kind, JSON.parse(JSON.stringify(raw)));
        assert.ok(object !== undefined || complaints.length > 0);
      }),
      { numRuns: 500 },
    );
  });

  it('of one source share equal strings, and forgotten ones are not kept for ever', async () => {
    const { StringPool } = await import('../../../daemon/cluster/intern.ts');
    const pool = new StringPool(100);
    for (let index = 0; index < 10_000; index++) {
      pool.intern('always');
      pool.intern(`once-${index}`);
    }
    assert.ok(pool.size <= 200);
  });
});
