import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'mocha';
import { folderAt } from '../../../daemon/cluster/folder.ts';
import { ManifestSource, type ManifestSourceOptions } from '../../../daemon/cluster/manifests.ts';
import { systemClock } from '../../../daemon/net/clock.ts';
import { Recorder } from '../../fakes/recorder.ts';

function serviceYaml(name: string, clusterIP = '10.96.0.1'): string {
  return `apiVersion: v1\nkind: Service\nmetadata:\n  name: ${name}\nspec:\n  clusterIP: ${clusterIP}\n  ports:\n  - port: 80\n`;
}

describe('a folder of manifests', () => {
  let directory: string;
  let told: Recorder;
  let source: ManifestSource | undefined;
  const write = (name: string, text: string): void => writeFileSync(join(directory, name), text);
  const remove = (name: string): void => rmSync(join(directory, name));
  const start = async (changes: Partial<ManifestSourceOptions> = {}): Promise<void> => {
    source = new ManifestSource({
      directory,
      kinds: ['Service', 'EndpointSlice', 'Node'],
      clock: systemClock(),
      settleMs: 5,
      pollMs: 2000,
      ...changes,
    });
    source.start(told);
    await told.until(() => told.replaced.length === 3 || told.degradations.size > 0);
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'manifests-'));
    told = new Recorder();
  });
  afterEach(async () => {
    await source?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('is read whole at start: several documents, lists, JSON, and other kinds passed over', async () => {
    write(
      'a.yaml',
      `# the shop\n---\n${serviceYaml('web')}---\n${serviceYaml('api')}---\nkind: ConfigMap\napiVersion: v1\n---\n`,
    );
    write(
      'b.yml',
      `apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Node, metadata: {name: n1}}\n- {kind: Pod, apiVersion: v1}\n`,
    );
    const slice = { metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } }, addressType: 'IPv4' };
    write('c.json', JSON.stringify({ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSliceList', items: [slice] }));
    write('d.yaml', 'apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: knative}\n');
    write('.hidden.yaml', serviceYaml('hidden'));
    write('README.md', 'not a manifest');
    await start();
    const ids = [...told.objects.keys()].sort();
    assert.deepEqual(ids, ['EndpointSlice default/web-1', 'Node n1', 'Service default/api', 'Service default/web']);
    assert.deepEqual(told.reasons, []);
    assert.deepEqual([...told.complaints], []);
  });

  it('is followed live: only what changed is told', async () => {
    write('a.yaml', `${serviceYaml('web')}---\n${serviceYaml('api')}`);
    await start();
    const web = told.get('Service', 'default/web');
    write('a.yaml', `${serviceYaml('web')}---\n${serviceYaml('api', '10.96.0.9')}---\n${serviceYaml('new')}`);
    await told.until(() => told.objects.size === 3);
    write('a.yaml', `${serviceYaml('web')}\n# a remark\n---\n${serviceYaml('api', '10.96.0.9')}`);
    await told.until(() => told.objects.size === 2);
    assert.deepEqual(told.changes, ['upsert Service default/api', 'upsert Service default/new', 'remove Service default/new']);
    assert.equal(told.get('Service', 'default/web'), web);
  });

  it('holds pods, namespaces and policies too, as people write them', async () => {
    write(
      'shop.yaml',
      `apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {team: blue}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  nodeName: node-1
  containers:
  - name: web
    ports:
    - {name: http, containerPort: 8080}
status:
  podIPs: [{ip: 10.244.1.2}, {ip: "fd00:10:1::2"}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector:
    matchLabels: {app: web}
  ingress:
  - from:
    - namespaceSelector:
        matchExpressions:
        - {key: kubernetes.io/metadata.name, operator: In, values: [shop, front]}
    - ipBlock: {cidr: 192.168.0.0/16, except: [192.168.9.0/24]}
    ports:
    - port: http
---
apiVersion: crd.projectcalico.org/v1
kind: NetworkPolicy
metadata: {name: calico, namespace: shop}
`,
    );
    const bad = { metadata: { name: 'bad' }, spec: { podSelector: {}, ingress: [{ ports: [{ port: '80' }] }] } };
    write('bad.json', JSON.stringify({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicyList', items: [bad] }));
    await start({ kinds: ['Pod', 'Namespace', 'NetworkPolicy'] });
    assert.deepEqual([...told.objects.keys()].sort(), [
      'Namespace shop',
      'NetworkPolicy default/bad',
      'NetworkPolicy shop/web',
      'Pod shop/web',
    ]);
    assert.deepEqual(told.get('Pod', 'shop/web'), {
      kind: 'Pod',
      meta: { namespace: 'shop', name: 'web', uid: '', creationTimestamp: 0 },
      labels: { app: 'web' },
      nodeName: 'node-1',
      hostIPs: [],
      hostNetwork: false,
      finished: false,
      addresses: ['10.244.1.2', 'fd00:10:1::2'],
      terminationGracePeriodSeconds: 30,
      namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    });
    const namespaceSelector = {
      requirements: [{ key: 'kubernetes.io/metadata.name', operator: 'In', values: ['front', 'shop'] }],
    };
    assert.deepEqual(told.get('NetworkPolicy', 'shop/web'), {
      kind: 'NetworkPolicy',
      meta: { namespace: 'shop', name: 'web', uid: '', creationTimestamp: 0 },
      podSelector: { requirements: [{ key: 'app', operator: 'In', values: ['web'] }] },
      ingress: {
        rules: [
          {
            peers: [
              { match: 'pods', namespaceSelector, podSelector: undefined },
              { match: 'block', cidr: '192.168.0.0/16', except: ['192.168.9.0/24'] },
            ],
            ports: [{ match: 'name', protocol: 'TCP', name: 'http' }],
          },
        ],
        unusable: undefined,
      },
      egress: undefined,
    });
    const complaints = [...told.complaints.values()].flat().map(({ key, message }) => `${key}: ${message}`);
    assert.equal(complaints.length, 1);
    assert.match(complaints[0] ?? '', /^default\/bad: spec\.ingress\[0\]\.ports\[0\]\.port: "80": .* \(in bad\.json\)$/);
    write('shop.yaml', 'apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n');
    await told.until(() => told.objects.size === 2);
    assert.deepEqual(told.changes.toSorted(), ['remove NetworkPolicy shop/web', 'remove Pod shop/web', 'upsert Namespace shop']);
  });

  it('loses the objects of a file that is deleted', async () => {
    write('a.yaml', serviceYaml('web'));
    write('b.yaml', serviceYaml('api'));
    await start();
    remove('a.yaml');
    await told.until(() => told.objects.size === 1);
    assert.deepEqual(told.changes, ['remove Service default/web']);
  });

  it('is followed by polling where the file system tells nothing', async () => {
    write('a.yaml', serviceYaml('web'));
    await start({ pollMs: 20, folder: { ...folderAt(directory), watch: () => undefined } });
    write('b.yaml', serviceYaml('api'));
    await told.until(() => told.objects.size === 2);
  });

  it('is followed within milliseconds where the file system tells of changes', async () => {
    await start({ pollMs: 60_000 });
    const since = performance.now();
    write('b.yaml', serviceYaml('api'));
    await told.until(() => told.objects.size === 1);
    assert.ok(performance.now() - since < 1000);
  });

  it('keeps the last good objects of a broken file and names file, line and reason until it is corrected', async () => {
    write('a.yaml', `${serviceYaml('web')}---\n${serviceYaml('api')}`);
    write('b.yaml', serviceYaml('other'));
    await start();
    write('a.yaml', `${serviceYaml('web')}---\nkind: Service\nmetadata: {name: api\n`);
    await told.until(() => told.degradations.size === 3);
    assert.match(
      told.degradations.get('Service') ?? '',
      /^manifests: a\.yaml:1[0-3]: .*; what it held before stays until it is corrected$/,
    );
    assert.equal(told.objects.size, 3);
    write('b.yaml', serviceYaml('other', '10.96.0.77'));
    await told.until(() => told.changes.length === 1);
    write('a.yaml', serviceYaml('web'));
    await told.until(() => told.degradations.size === 0);
    assert.deepEqual([...told.keys('Service')].sort(), ['default/other', 'default/web']);
  });

  it('starts with what can be read when one file is broken', async () => {
    write('a.json', '{"kind": "Service",\n "metadata": }');
    write('b.yaml', serviceYaml('web'));
    await start();
    await told.until(() => told.degradations.size === 3 && told.replaced.length === 3);
    assert.match(told.degradations.get('Node') ?? '', /a\.json:2: .*nothing of it is used until it is corrected/);
    assert.deepEqual(told.keys('Service'), ['default/web']);
  });

  it('names documents that are no objects and objects without a name, and uses the rest', async () => {
    write('a.yaml', `just text\n---\n${serviceYaml('web')}---\nkind: Service\napiVersion: v1\n---\nmetadata: {name: x}\n`);
    await start();
    await told.until(() => told.degradations.size === 3);
    const reason = told.degradations.get('Service') ?? '';
    assert.match(reason, /a\.yaml:1: not a Kubernetes object/);
    assert.match(reason, /a\.yaml:11: Service: metadata\.name: missing/);
    assert.match(reason, /a\.yaml:14: an object without kind is ignored/);
    assert.deepEqual(told.keys('Service'), ['default/web']);
  });

  it('complains about a wrong field with the name of the file', async () => {
    write('a.yaml', serviceYaml('web').replace('port: 80', 'port: "http"'));
    await start();
    assert.deepEqual(told.complaints.get('Service default/web'), [
      {
        kind: 'Service',
        key: 'default/web',
        message: 'spec.ports[].port: "http": the port is left out; write a number from 1 to 65535 without quotes (in a.yaml)',
      },
    ]);
  });

  it('uses the first of two objects with one name, in the order of file names, and says so', async () => {
    write('b.yaml', serviceYaml('web', '10.96.0.2'));
    write('a.yaml', serviceYaml('web', '10.96.0.1'));
    await start();
    const address = (): unknown =>
      Object.entries(told.get('Service', 'default/web') ?? {}).find(([field]) => field === 'clusterIPs')?.[1];
    assert.deepEqual(address(), ['10.96.0.1']);
    assert.match(told.complaints.get('Service default/web')?.[0]?.message ?? '', /also in b\.yaml; the one in a\.yaml is used/);
    remove('a.yaml');
    await told.until(() => told.changes.length === 1);
    assert.deepEqual(address(), ['10.96.0.2']);
    assert.equal(told.complaints.size, 0);
  });

  it('names a folder that is not there, waits for it, and keeps everything when it goes away', async () => {
    rmSync(directory, { recursive: true });
    await start({ pollMs: 20 });
    assert.match(told.degradations.get('Service') ?? '', /the manifest folder .* cannot be read: ENOENT.*correct --manifests/);
    assert.equal(told.replaced.length, 0);
    mkdirSync(directory);
    write('a.yaml', serviceYaml('web'));
    await told.until(() => told.objects.size === 1 && told.degradations.size === 0);
    rmSync(directory, { recursive: true });
    await told.until(() => told.degradations.size === 3);
    assert.equal(told.objects.size, 1);
    mkdirSync(directory);
    write('a.yaml', serviceYaml('web'));
    await told.until(() => told.degradations.size === 0);
    write('b.yaml', serviceYaml('api'));
    await told.until(() => told.objects.size === 2);
  });

  it('follows the links of a mounted ConfigMap when they are switched', async () => {
    for (const [version, address] of [
      ['v1', '10.96.0.1'],
      ['v2', '10.96.0.2'],
    ] as const) {
      mkdirSync(join(directory, version));
      write(join(version, 'a.yaml'), serviceYaml('web', address));
    }
    symlinkSync('v1', join(directory, '..data'));
    symlinkSync('..data/a.yaml', join(directory, 'a.yaml'));
    await start();
    assert.equal(told.objects.size, 1);
    symlinkSync('v2', join(directory, '..data_tmp'));
    renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
    await told.until(() => told.changes.length === 1);
    assert.deepEqual(told.changes, ['upsert Service default/web']);
  });

  it('survives YAML that refers to itself', async () => {
    write('a.yaml', `kind: List\nitems: &items\n- *items\n- kind: Service\n  metadata: &m {name: web, labels: *m}\n`);
    write('b.yaml', serviceYaml('web'));
    await start();
    await told.until(() => told.replaced.length === 3);
    assert.deepEqual(told.keys('Service'), ['default/web']);
  });

  it('stops without a further event', async () => {
    write('a.yaml', serviceYaml('web'));
    await start();
    await source?.stop();
    write('b.yaml', serviceYaml('api'));
    await new Promise(resolve => setTimeout(resolve, 50));
    assert.deepEqual(told.changes, []);
  });
});
