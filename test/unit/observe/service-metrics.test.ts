import assert from 'node:assert/strict';
import { FairwayError } from '../../../daemon/errors.ts';
import { ServiceMetrics, type ServiceMetricsOptions } from '../../../daemon/observe/service-metrics.ts';
import type { ServiceTraffic } from '../../../daemon/reconcile/service-traffic.ts';
import type { Listener } from '../../../daemon/reconcile/tables.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { piecesOf } from '../../fakes/pieces.ts';
import { ip } from '../../fixtures/cluster.ts';

const TRAFFIC = {
  connections: 40,
  packetsIn: 200,
  packetsOut: 201,
  bytesIn: 10_960,
  bytesOut: 50_720,
  connectionRate: 4,
  packetRateIn: 22,
  packetRateOut: 23,
  byteRateIn: 1199,
  byteRateOut: 5547,
};
const NOTHING = Object.fromEntries(Object.keys(TRAFFIC).map(column => [column, 0])) as typeof TRAFFIC;

function at(protocol: 'TCP' | 'UDP' | 'SCTP', address: string, port: number, traffic = NOTHING): ServiceTraffic {
  return { listener: { by: 'address', protocol, address: ip(address), port }, ...traffic };
}

function marked(mark: number, family: 'ipv4' | 'ipv6', traffic = NOTHING): ServiceTraffic {
  const listener: Listener = { by: 'mark', mark, family };
  return { listener, ...traffic };
}

const SERVICES: Readonly<Record<string, string>> = {
  'TCP 10.96.0.10:80': 'default/web',
  'UDP [fd00:96::a]:53': 'kube-system/dns',
  'FWM 4660 ipv4': 'default/direct',
  'FWM 4661 ipv4': 'default/direct',
  'FWM 4660 ipv6': 'default/direct',
};

/** The page of an IPVS that counts this. */
function serving(
  read: ServiceMetricsOptions['read'],
  serviceOf: ServiceMetricsOptions['serviceOf'] = key => SERVICES[key],
  onBreath: () => void = () => undefined,
) {
  const troubles: (string | undefined)[] = [];
  const metrics = new ServiceMetrics({
    clock: new ManualClock(),
    read,
    serviceOf,
    breathe: () => {
      onBreath();
      return Promise.resolve();
    },
    onRead: () => undefined,
    onTrouble: error => troubles.push(error?.message),
  });
  const pieces = (): Promise<readonly string[]> => piecesOf(metrics);
  const page = async (): Promise<string> => (await pieces()).join('');
  const samples = async (): Promise<readonly string[]> =>
    (await page()).split('\n').filter(line => line !== '' && !line.startsWith('#'));
  return { pieces, page, troubles, samples };
}

describe('metrics of Services', () => {
  it('have the names, types, help and labels of kube-router', async () => {
    const { page } = serving(() => Promise.resolve([at('TCP', '10.96.0.10', 80, TRAFFIC)]));
    const labels = '{svc_namespace="default",service_name="web",service_vip="10.96.0.10",protocol="tcp",port="80"}';
    const expected = [
      ['total_connections', 'Total incoming connections made', 'counter', 40],
      ['packets_in', 'Total incoming packets', 'counter', 200],
      ['packets_out', 'Total outgoing packets', 'counter', 201],
      ['bytes_in', 'Total incoming bytes', 'counter', 10960],
      ['bytes_out', 'Total outgoing bytes', 'counter', 50720],
      ['pps_in', 'Incoming packets per second', 'gauge', 22],
      ['pps_out', 'Outgoing packets per second', 'gauge', 23],
      ['cps', 'Service connections per second', 'gauge', 4],
      ['bps_in', 'Incoming bytes per second', 'gauge', 1199],
      ['bps_out', 'Outgoing bytes per second', 'gauge', 5547],
    ] as const;
    const text = expected.map(([suffix, help, type, value]) => {
      const name = `kube_router_service_${suffix}`;
      return `\n# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${name}${labels} ${value}\n`;
    });
    assert.equal(await page(), text.join(''));
  });

  it('are of virtual services that a Service is known of, and of nobody else’s', async () => {
    const { samples } = serving(() =>
      Promise.resolve([at('TCP', '10.96.0.77', 80), at('UDP', 'fd00:96::a', 53), marked(9, 'ipv4')]),
    );
    const lines = await samples();
    assert.equal(lines.length, 10);
    assert.equal(
      lines[0],
      'kube_router_service_total_connections{svc_namespace="kube-system",service_name="dns",service_vip="fd00:96::a",protocol="udp",port="53"} 0',
    );
  });

  it('of several marks of one Service are one sum: Prometheus takes each set of labels once', async () => {
    const marks = [marked(4660, 'ipv4', TRAFFIC), marked(4661, 'ipv4', TRAFFIC), marked(4660, 'ipv6', TRAFFIC)];
    const { samples } = serving(() => Promise.resolve(marks));
    const lines = await samples();
    assert.equal(lines.length, 10);
    const labels = '{svc_namespace="default",service_name="direct",service_vip="",protocol="fwmark",port=""}';
    assert.equal(lines[0], `kube_router_service_total_connections${labels} 120`);
    assert.equal(lines.at(-1), `kube_router_service_bps_out${labels} 16641`);
  });

  it('follow what is there: a virtual service that is gone is gone, and a counter may begin anew', async () => {
    let now = [at('TCP', '10.96.0.10', 80, TRAFFIC), at('UDP', 'fd00:96::a', 53)];
    const { samples } = serving(() => Promise.resolve(now));
    assert.equal((await samples()).length, 20);
    now = [at('TCP', '10.96.0.10', 80, { ...TRAFFIC, connections: 1 })];
    const lines = await samples();
    assert.equal(lines.length, 10);
    assert.match(lines[0] ?? '', /} 1$/);
  });

  it('of a listener that another Service has now are under its name', async () => {
    let name = 'default/web';
    const { samples } = serving(
      () => Promise.resolve([at('TCP', '10.96.0.10', 80)]),
      () => name,
    );
    assert.match((await samples())[0] ?? '', /service_name="web"/);
    name = 'default/shop';
    assert.match((await samples())[0] ?? '', /service_name="shop"/);
  });

  it('of ten thousand Services come in pieces, with other work in between', async () => {
    const many = Array.from({ length: 10_000 }, (_, index) => at('TCP', `10.96.${index >> 8}.${index & 255}`, 80, TRAFFIC));
    let breaths = 0;
    const { pieces } = serving(
      () => Promise.resolve(many),
      () => 'default/web',
      () => {
        breaths++;
      },
    );
    const all = await pieces();
    assert.equal(
      all
        .join('')
        .split('\n')
        .filter(line => line.startsWith('kube_router_')).length,
      100_000,
    );
    assert.ok(Math.max(...all.map(({ length }) => length)) < 500_000, 'one piece holds no more than a few thousand lines');
    assert.ok(breaths >= 50, `${breaths} breaths`);
  });

  it('of scrapes that overlap come from one reading, and the next scrape reads anew', async () => {
    const pending: ((traffic: readonly ServiceTraffic[]) => void)[] = [];
    const { samples } = serving(() => new Promise(resolve => pending.push(resolve)));
    const scrapes = Promise.all([samples(), samples()]);
    assert.equal(pending.length, 1);
    pending[0]?.([at('TCP', '10.96.0.10', 80)]);
    const [one, other] = await scrapes;
    assert.equal(one.length, 10);
    assert.deepEqual(one, other);
    const third = samples();
    assert.equal(pending.length, 2);
    pending[1]?.([]);
    assert.deepEqual(await third, []);
  });

  it('are left out while IPVS cannot be asked, which is told once', async () => {
    let error: FairwayError | undefined = new FairwayError('FW_CAPABILITY_TOOL_MISSING', "'ipvsadm' is not installed");
    const { samples, page, troubles } = serving(() =>
      error === undefined ? Promise.resolve([at('TCP', '10.96.0.10', 80)]) : Promise.reject(error),
    );
    assert.deepEqual(await samples(), []);
    assert.deepEqual(await samples(), []);
    assert.match(await page(), /^# HELP/m);
    assert.deepEqual(troubles, ["'ipvsadm' is not installed"]);
    error = undefined;
    assert.equal((await samples()).length, 10);
    assert.deepEqual(troubles, ["'ipvsadm' is not installed", undefined]);
  });
});
