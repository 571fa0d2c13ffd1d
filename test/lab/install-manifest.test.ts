import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAll } from 'js-yaml';
import { FakeApiServer } from '../fakes/api-server.ts';
import { ClusterRole, type PolicyRule } from '../fakes/cluster-role.ts';
import type { LabNode } from './addresses.ts';
import { describeInstall } from './describe-install.ts';
import { CNI_FILE, FAIRWAY, footprint } from './fleet.ts';

const RENDERED = join(import.meta.dirname, '..', '..', 'manifests', 'rendered');
/** The API server is outside, at an address that is no Service's: what the ConfigMap `fairway-api-server` would name. */
const API_SERVER = { host: '10.10.1.200', port: 6443 };
/** As the kubelet mounts it; /var/run is /run, which each node of the lab has for itself. */
const SERVICE_ACCOUNT = '/run/secrets/kubernetes.io/serviceaccount';

interface EnvironmentEntry {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
}

interface Container {
  readonly args: readonly string[];
  readonly env: readonly EnvironmentEntry[];
  readonly envFrom: readonly { readonly configMapRef: { readonly name: string } }[];
  readonly readinessProbe: { readonly httpGet: { readonly port: number } };
}

/** The objects of the manifest, as far as they are used here. */
interface Manifest {
  readonly kind: string;
  readonly rules?: readonly PolicyRule[];
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: {
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly containers: readonly [Container];
        readonly initContainers: readonly [{ readonly args: readonly string[] }];
      };
    };
  };
}

/** A field of the one object of a manifest that has it. */
function only<Field extends 'rules' | 'data' | 'spec'>(field: Field, name = 'all-features'): NonNullable<Manifest[Field]> {
  const objects = loadAll(readFileSync(join(RENDERED, `${name}.yaml`), 'utf8')) as readonly Manifest[];
  return objects.map(object => object[field]).find(value => value !== undefined) ?? assert.fail(`${name}.yaml has no ${field}`);
}

const pod = only('spec').template.spec;
const [container] = pod.containers;

/** The container's environment as the kubelet makes it. */
function environmentOn(node: LabNode): Readonly<Record<string, string>> {
  const fields: Readonly<Record<string, string>> = {
    'spec.nodeName': node.name,
    'metadata.name': `fairway-${node.number}`,
    'metadata.namespace': 'kube-system',
  };
  const fromConfigMaps = container.envFrom.map(({ configMapRef }) => {
    assert.equal(configMapRef.name, 'fairway-api-server');
    return { KUBERNETES_SERVICE_HOST: API_SERVER.host, KUBERNETES_SERVICE_PORT: String(API_SERVER.port) };
  });
  const own = container.env.map(({ name, value, valueFrom }) => {
    const given = value ?? fields[valueFrom?.fieldRef.fieldPath ?? ''];
    assert.ok(given !== undefined, `${name} has a value`);
    return [name, name === 'KUBE_ROUTER_CNI_CONF_FILE' ? hostPathOf(given) : given];
  });
  return { ...Object.assign({}, ...fromConfigMaps), ...Object.fromEntries(own) } as Record<string, string>;
}

/** Of a folder that the pod mounts of its node: nodes of a lab share all folders but /run. */
function hostPathOf(path: string): string {
  assert.equal(path, '/etc/cni/net.d/10-kuberouter.conflist');
  return CNI_FILE;
}

/** The status with which the server answers somebody with the daemon's token. */
async function statusOf(server: FakeApiServer, path: string): Promise<number> {
  const headers = { authorization: `Bearer ${server.behaviour.token}` };
  const asked = request(`${server.url}${path}`, { headers, ca: server.authority.own.cert });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.resume();
  return response.statusCode ?? 0;
}

describe('manifests/rendered/all-features.yaml', () => {
  const directory = mkdtempSync(join(tmpdir(), 'fairway-install-'));
  const role = new ClusterRole(only('rules'));
  let server: FakeApiServer;
  /** What node3 was before. */
  let before = '';

  after(() => {
    server.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  describeInstall(
    'a cluster installed from it',
    {
      runs: ['router', 'firewall', 'service-proxy'],
      cniFile: CNI_FILE,
      stopSeconds: pod.terminationGracePeriodSeconds,
      healthPort: container.readinessProbe.httpGet.port,
      async prepare(lab) {
        assert.equal(lab.ext.addresses.ipv4, API_SERVER.host);
        before = await footprint(lab, lab.node(3));
        server = await FakeApiServer.start({ directory, alsoAt: [API_SERVER.host] });
        server.behaviour.role = role;
        await lab.expose(lab.ext, API_SERVER.host, API_SERVER.port, { port: server.relay.port });
        for (const node of lab.nodes) {
          await lab.writeFile(node, `${SERVICE_ACCOUNT}/token`, server.behaviour.token);
          await lab.writeFile(node, `${SERVICE_ACCOUNT}/ca.crt`, readFileSync(join(directory, 'kubernetes-ca.crt')));
          // What install-cni does of the template.
          await lab.writeFile(node, CNI_FILE, only('data')['cni-conf.json'] ?? '');
        }
      },
      publish(_current, changed, removed) {
        server.put(...changed);
        for (const { kind, metadata } of removed) server.delete(kind, metadata.namespace ?? '', metadata.name);
        return Promise.resolve();
      },
      start: (lab, node, program) =>
        lab.startDaemon(node, [...FAIRWAY.slice(0, -1), program, ...container.args], { environment: environmentOn(node) }),
    },
    suite => {
      it('asked for nothing that its ClusterRole does not grant, and would have been refused', async () => {
        assert.deepEqual(role.denied, []);
        assert.ok(server.requests.length > 0);
        const secrets = await statusOf(server, '/api/v1/secrets');
        assert.equal(secrets, 403);
        assert.deepEqual(role.denied, ['list /secrets']);
      });

      it('leaves nothing on a node where the step of cleanup.yaml takes its place', async () => {
        const { lab, stop } = suite();
        const node = lab.node(3);
        await stop(node);
        assert.notEqual(await footprint(lab, node), before, 'it left its work when it stopped');
        const [{ args }] = only('spec', 'cleanup').template.spec.initContainers;
        await lab.expectRun(node, [...FAIRWAY, ...args]);
        assert.equal(await footprint(lab, node), before);
      });
    },
  );
});
