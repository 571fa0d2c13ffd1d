import assert from 'node:assert/strict';
import { parseQuestion, type Question, type QuestionError } from '../../../daemon/explain/question.ts';
import { type Cluster, containerPort, ips, pod, service, servicePort, snapshot } from '../../fixtures/cluster.ts';
import { CLUSTER, clusterWith } from '../../fixtures/explain-cluster.ts';

function parsed(words: string, cluster: Cluster = CLUSTER): Question | QuestionError {
  return parseQuestion(words.split(' '), snapshot(cluster));
}

function question(words: string, cluster: Cluster = CLUSTER): Question {
  const result = parsed(words, cluster);
  if ('error' in result) assert.fail(result.error);
  return result;
}

/** `source > destination transport`. */
function shown(words: string, cluster: Cluster = CLUSTER): string {
  const { source, destination, transport } = question(words, cluster);
  const at = transport.protocol === 'ICMP' ? `icmp ${transport.type}` : `${transport.protocol} ${transport.port}`;
  return `${source.who} ${source.address} > ${destination.who} ${destination.address} ${at}`;
}

function failure(words: string, cluster: Cluster = CLUSTER): QuestionError {
  const result = parsed(words, cluster);
  if (!('error' in result)) assert.fail(`${words} was understood`);
  return result;
}

const SEVERAL = clusterWith({
  pods: [pod('shop/web', '10.244.1.20'), pod('a/twin', '10.244.1.21'), pod('b/twin', '10.244.1.22')],
  services: [
    service('shop/web', { clusterIPs: ips('10.96.0.40') }),
    service('dns', {
      clusterIPs: ips('10.96.0.41'),
      ports: [servicePort({ name: 'dns', protocol: 'UDP', port: 53 }), servicePort({ name: 'metrics', port: 9153 })],
    }),
    service('headless', { clusterIPs: [], headless: true }),
  ],
});

describe('what fairway why is asked', () => {
  const cases: readonly (readonly [words: string, expected: string])[] = [
    ['default/client default/web-1 80', 'pod 10.244.1.6 > pod 10.244.1.5 TCP 80'],
    ['client web-1 tcp/80', 'pod 10.244.1.6 > pod 10.244.1.5 TCP 80'],
    ['client web 80', 'pod 10.244.1.6 > service 10.96.0.10 TCP 80'],
    ['client svc/default/web 80', 'pod 10.244.1.6 > service 10.96.0.10 TCP 80'],
    ['client svc/web http', 'pod 10.244.1.6 > service 10.96.0.10 TCP 80'],
    ['client service/web tcp/http', 'pod 10.244.1.6 > service 10.96.0.10 TCP 80'],
    ['10.1.2.3 10.96.0.10 udp/53', 'address 10.1.2.3 > address 10.96.0.10 UDP 53'],
    ['client node-2 sctp/9', 'pod 10.244.1.6 > node 192.168.1.2 SCTP 9'],
    ['node/node-1 client 9/udp', 'node 192.168.1.1 > pod 10.244.1.6 UDP 9'],
    ['node-2 client icmp', 'node 192.168.1.2 > pod 10.244.1.6 icmp 8'],
    ['six svc/six icmp', 'pod fd00:10:1::6 > service fd00:96::a icmp 128'],
    ['host web 80', 'pod 192.168.1.1 > service 10.96.0.10 TCP 80'],
    // A client outside comes to the address for outside, one of the cluster to its own.
    ['172.16.0.9 shop 80', 'address 172.16.0.9 > service 198.51.100.7 TCP 80'],
    ['client shop 80', 'pod 10.244.1.6 > service 10.96.0.11 TCP 80'],
  ];
  for (const [words, expected] of cases) it(words, () => assert.equal(shown(words), expected));

  it('the protocol is that of the one port of the Service with the number', () => {
    assert.match(shown('client dns 53', SEVERAL), /UDP 53$/);
    assert.match(shown('client dns metrics', SEVERAL), /TCP 9153$/);
    assert.match(shown('client dns 54', SEVERAL), /TCP 54$/);
  });

  it('a port by the name that the pod gives it', () => {
    const cluster = clusterWith({ pods: [pod('web-1', '10.244.1.5', { namedPorts: [containerPort('metrics', 9090)] })] });
    assert.match(shown('client pod/web-1 metrics', cluster), /TCP 9090$/);
  });

  it('a name without a namespace is that in default, else the only one there is', () => {
    assert.match(shown('client web 80', SEVERAL), /10\.96\.0\.10/);
    assert.match(shown('shop/web client 80', SEVERAL), /^pod 10\.244\.1\.20/);
    assert.deepEqual(failure('twin client 80', SEVERAL).near, ['a/twin', 'b/twin']);
  });

  it('one name of a Service and a pod is the Service as a destination, unless it is said', () => {
    assert.match(shown('client shop/web 80', SEVERAL), /service 10\.96\.0\.40/);
    assert.match(shown('client pod/shop/web 80', SEVERAL), /pod 10\.244\.1\.20/);
  });

  it('names what is not there, and what may have been meant', () => {
    assert.deepEqual(failure('clint web 80'), { error: "There is no Pod or Node 'clint'.", near: ['default/client'] });
    assert.deepEqual(failure('client svc/wep 80').near, ['default/web']);
    assert.deepEqual(failure('client shop/client 80').near, ['default/client']);
    assert.deepEqual(failure('client web htp'), {
      error: "Service default/web has no port named 'htp'.",
      near: ['tcp/http'],
    });
  });

  it('refuses what cannot be asked', () => {
    assert.match(failure('client web').error, /fairway why SRC DST PORT/);
    assert.match(failure('client web 80 81').error, /fairway why SRC DST PORT/);
    assert.match(failure('svc/web client 80').error, /A Service sends no packets/);
    assert.match(failure('client web 70000').error, /ports go from 1 to 65535/);
    assert.match(failure('six web 80').error, /no address of one family/);
    assert.match(failure('client headless 80', SEVERAL).error, /is headless/);
    const ended = clusterWith({
      pods: [pod('client', '10.244.1.6', { finished: true }), pod('new', '10.244.1.30', { addresses: [] })],
    });
    assert.match(failure('client web 80', ended).error, /has ended/);
    assert.match(failure('new web 80', ended).error, /no address yet/);
  });
});
