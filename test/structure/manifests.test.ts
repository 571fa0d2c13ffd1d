import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { loadAll } from 'js-yaml';
import { Projector } from '../../daemon/cluster/project.ts';
import type { Resource } from '../../daemon/cluster/resources.ts';
import { resourcesRead, rightsWanted } from '../../daemon/commands/check-load-balancer.ts';
import type { Right } from '../../daemon/commands/examine/write-rights.ts';
import { enabledModules } from '../../daemon/commands/modules.ts';
import { RUN_FOLDER } from '../../daemon/commands/run-folder.ts';
import { isEnabled } from '../../daemon/config/config.ts';
import { BUILT_MODULES, MODULE_NAMES, type ModuleName } from '../../daemon/config/modules.ts';
import { parseArguments } from '../../daemon/config/parse.ts';
import { healthPages } from '../../daemon/observe/http.ts';
import type { KubeObject } from '../../scripts/kustomize.ts';
import { renderedText, variantNames, variantObjects } from '../../scripts/manifests.ts';
import { skipBecause } from '../skip.ts';
import { page, rowsOf, sectionsOf } from './pages.ts';
import { root } from './sources.ts';

const LONGEST = 250;
const README = 'manifests/README.md';

/** The parts of a DaemonSet that are looked at here. */
interface Container {
  readonly image: string;
  readonly args?: readonly string[];
  readonly env: readonly { readonly name: string; readonly value?: string }[];
  readonly envFrom?: readonly { readonly configMapRef: { readonly name: string; readonly optional: boolean } }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe: Probe;
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly resources: object;
  readonly securityContext: { readonly readOnlyRootFilesystem: boolean };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

interface Probe {
  readonly httpGet: { readonly host: string; readonly port: number; readonly path: string };
}

interface PodSpec {
  readonly serviceAccountName: string;
  readonly containers: readonly [Container];
  readonly initContainers?: readonly Container[];
  readonly volumes: readonly {
    readonly name: string;
    readonly configMap?: { readonly name: string; readonly optional?: boolean };
  }[];
  readonly [field: string]: unknown;
}

interface DaemonSetSpec {
  readonly updateStrategy: object;
  readonly template: { readonly metadata: { readonly annotations: Readonly<Record<string, string>> }; readonly spec: PodSpec };
}

interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/**
 * What modules do beyond listing and watching what they read, as RBAC has it: `VERB GROUP/RESOURCE`, of what name and in which namespace where it is
 * not of every one.
 */
const WRITES: Readonly<Record<ModuleName, readonly string[]>> = {
  routing: [],
  services: [],
  policy: [],
  'lb-allocator': [
    // A Service is read right before its status is written.
    'get /services',
    'update /services/status',
    'create /events',
    'patch /events',
    'create coordination.k8s.io/leases in kube-system',
    'get coordination.k8s.io/leases kube-router-lballoc in kube-system',
    'update coordination.k8s.io/leases kube-router-lballoc in kube-system',
  ],
  'lan-announcer': [],
};

const pathOf = (name: string): string => `manifests/rendered/${name}.yaml`;

function objectsOf(name: string): readonly KubeObject[] {
  return loadAll(page(pathOf(name))) as KubeObject[];
}

function only(name: string, kind: string): KubeObject {
  const [found, ...others] = objectsOf(name).filter(object => object.kind === kind);
  assert.ok(found !== undefined && others.length === 0, `${pathOf(name)} has not one ${kind}`);
  return found;
}

const daemonSet = (name: string): DaemonSetSpec => only(name, 'DaemonSet')['spec'] as DaemonSetSpec;
const podSpec = (name: string): PodSpec => daemonSet(name).template.spec;
const container = (name: string): Container => podSpec(name).containers[0];
const allContainers = (name: string): readonly Container[] => [container(name), ...(podSpec(name).initContainers ?? [])];

const rightText = (verb: string, group: string, resource: string, name: string, namespace: string): string =>
  `${verb} ${group}/${resource}${name === '' ? '' : ` ${name}`}${namespace === '' ? '' : ` in ${namespace}`}`;

/** What the ClusterRole and the Roles of a variant allow, each once: two components may bring the same. */
function allowedBy(name: string): readonly string[] {
  const roles = objectsOf(name).filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role');
  const allowed = roles.flatMap(role =>
    (role['rules'] as readonly PolicyRule[]).flatMap(({ apiGroups, resources, resourceNames = [''], verbs }) =>
      apiGroups.flatMap(group =>
        resources.flatMap(resource =>
          resourceNames.flatMap(named =>
            verbs.map(verb => rightText(verb, group, resource, named, role.metadata.namespace ?? '')),
          ),
        ),
      ),
    ),
  );
  return [...new Set(allowed)];
}

function readingOf({ group, name, path, fieldSelector }: Resource): readonly string[] {
  const [, namespace = ''] = /\/namespaces\/([^/]+)\//.exec(path) ?? [];
  const [, named = ''] = /^metadata\.name=(.*)$/.exec(fieldSelector) ?? [];
  return ['list', 'watch'].map(verb => rightText(verb, group, name, named, namespace));
}

function writingOf({ group, resource, name, namespace, verbs }: Right): readonly string[] {
  return verbs.map(verb => rightText(verb, group, resource, name, namespace));
}

/** The configuration that a variant's arguments make. */
function invocation(name: string): Extract<ReturnType<typeof parseArguments>, { readonly kind: 'run' }> {
  const result = parseArguments(container(name).args ?? [], { KUBERNETES_SERVICE_HOST: '192.0.2.1' }, BUILT_MODULES);
  assert.ok(result.kind === 'run', JSON.stringify(result));
  return result;
}

/** A kustomize that knows components: 3.7 or later, of which a kubectl tells from 1.24 on. */
function kustomizeOf(): readonly string[] | undefined {
  const says = (argv: readonly string[]): string => {
    try {
      return execFileSync(argv[0] ?? '', argv.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return '';
    }
  };
  if (/v[45]\./.test(says(['kustomize', 'version']))) return ['kustomize', 'build'];
  if (/"kustomizeVersion": "v[45]\./.test(says(['kubectl', 'version', '--client', '-o', 'json'])))
    return ['kubectl', 'kustomize'];
  return undefined;
}

const byName = (objects: readonly KubeObject[]): Readonly<Record<string, KubeObject>> =>
  Object.fromEntries(objects.map(object => [`${object.kind} ${object.metadata.name}`, object]));

describe('manifests/', () => {
  it('has a rendered file for each variant, as the tree says', () => {
    for (const name of variantNames()) assert.equal(page(pathOf(name)), renderedText(name), `${name}: run npm run manifests`);
  });

  it('is rendered as a real kustomize does it', function () {
    this.timeout(60_000);
    const kustomize = kustomizeOf();
    if (kustomize === undefined)
      skipBecause(
        this,
        'no kustomize here that knows components: kustomize 4 or later, or kubectl 1.24 or later (Debian 12 has 1.20)',
      );
    const [command = '', ...args] = kustomize;
    for (const name of variantNames()) {
      const text = execFileSync(command, [...args, join(root, 'manifests/variants', name)], { encoding: 'utf8' });
      assert.deepEqual(byName(loadAll(text) as KubeObject[]), byName(variantObjects(name)), name);
    }
  });

  it('has a row in its README for each variant', () => {
    const section = sectionsOf(page(README)).find(({ title }) => title === 'Variants');
    const named = rowsOf(section?.prose ?? '').map(([name = '']) => /\(rendered\/(.*)\.yaml\)$/.exec(name)?.[1]);
    assert.deepEqual(named.toSorted(), variantNames());
  });

  it('has an example of pools that can be read, under the name that the variants look for', () => {
    const pools = loadAll(page('manifests/examples/address-pools.yaml')) as KubeObject[];
    assert.equal(pools.length, 1);
    const [{ metadata }] = pools as [KubeObject];
    assert.equal(invocation('load-balancer').config.loadbalancerPools, `${metadata.namespace ?? ''}/${metadata.name}`);
    const { object, complaints } = new Projector().project('ConfigMap', pools[0]);
    assert.deepEqual(complaints, []);
    assert.ok((object?.pools.length ?? 0) > 0);
  });

  it('has the CNI template that the daemon would make, with chained plugins for host ports only', () => {
    const templateOf = (name: string): { plugins: { type: string }[] } => {
      const { data } = only(name, 'ConfigMap') as unknown as { data: Record<string, string> };
      return JSON.parse(data['cni-conf.json'] ?? '') as { plugins: { type: string }[] };
    };
    const shipped = JSON.parse(page('manifests/cni/10-kuberouter.conflist')) as { plugins: { type: string }[] };
    assert.deepEqual(templateOf('hostport'), shipped);
    assert.deepEqual(templateOf('all-features'), {
      ...shipped,
      plugins: shipped.plugins.filter(({ type }) => type === 'bridge'),
    });
  });
});

/** It runs no daemon. */
const CLEANUP = 'cleanup';

for (const name of variantNames()) if (name !== CLEANUP) describeVariant(name);

describe(pathOf(CLEANUP), () => {
  it('takes the place of every variant, and cleans up a node with what a daemon has there', () => {
    const spec = podSpec(CLEANUP);
    const [step, ...others] = spec.initContainers ?? [];
    assert.ok(step !== undefined && others.length === 0);
    assert.deepEqual(step.args, ['cleanup']);
    const running = podSpec('policy');
    assert.deepEqual(
      { image: step.image, mounts: step.volumeMounts, rights: step.securityContext, volumes: spec.volumes },
      {
        image: running.containers[0].image,
        mounts: running.containers[0].volumeMounts,
        rights: running.containers[0].securityContext,
        volumes: running.volumes,
      },
    );
    assert.deepEqual(only(CLEANUP, 'DaemonSet').metadata, only('policy', 'DaemonSet').metadata);
    assert.deepEqual(daemonSet(CLEANUP).updateStrategy, daemonSet('policy').updateStrategy);
  });

  it('may do nothing in the cluster', () => {
    assert.deepEqual(only(CLEANUP, 'ClusterRole')['rules'], []);
  });
});

function describeVariant(name: string): void {
  describe(pathOf(name), () => {
    it(`has fewer than ${LONGEST} lines`, () => {
      assert.ok(page(pathOf(name)).split('\n').length < LONGEST);
    });

    it('has flags that are accepted without a warning', () => {
      assert.deepEqual(invocation(name).warnings, []);
    });

    it('lets the daemon do what its modules do, and nothing else', async () => {
      const { config } = invocation(name);
      const modules = await enabledModules({ ...invocation(name), nodeName: 'node1', environment: {} });
      assert.ok(modules.length > 0);
      const needed = [
        ...resourcesRead(modules, config).flatMap(readingOf),
        ...MODULE_NAMES.filter(module => isEnabled(module, config)).flatMap(module => WRITES[module]),
      ];
      assert.deepEqual(allowedBy(name).toSorted(), needed.toSorted());
    });

    it('is asked by fairway check for what its modules write', () => {
      const { config } = invocation(name);
      const written = MODULE_NAMES.filter(module => isEnabled(module, config)).flatMap(module => WRITES[module]);
      assert.deepEqual(rightsWanted(config).flatMap(writingOf).toSorted(), written.toSorted());
    });

    it('is one account in one namespace', () => {
      const { metadata } = only(name, 'ServiceAccount');
      assert.equal(podSpec(name).serviceAccountName, metadata.name);
      const binding = only(name, 'ClusterRoleBinding');
      assert.deepEqual(binding['subjects'], [{ kind: 'ServiceAccount', ...metadata }]);
      assert.equal((binding['roleRef'] as { name: string }).name, only(name, 'ClusterRole').metadata.name);
      const places = (kind: string, nameOf: (object: KubeObject) => string): readonly string[] =>
        objectsOf(name).flatMap(object => (object.kind === kind ? [`${object.metadata.namespace ?? ''}/${nameOf(object)}`] : []));
      for (const { kind, ...bound } of objectsOf(name))
        if (kind === 'RoleBinding') assert.deepEqual(bound['subjects'], [{ kind: 'ServiceAccount', ...metadata }]);
      assert.deepEqual(
        places('RoleBinding', object => (object['roleRef'] as { name: string }).name),
        places('Role', object => object.metadata.name),
      );
    });

    it('runs on every Linux node, as that which others wait for, and never leaves two nodes or one of them with two', () => {
      const { updateStrategy } = daemonSet(name);
      assert.deepEqual(updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1, maxSurge: 0 } });
      const { priorityClassName, hostNetwork, nodeSelector, tolerations } = podSpec(name);
      assert.deepEqual(
        { priorityClassName, hostNetwork, nodeSelector, tolerations },
        {
          priorityClassName: 'system-node-critical',
          hostNetwork: true,
          nodeSelector: { 'kubernetes.io/os': 'linux' },
          tolerations: [{ operator: 'Exists' }],
        },
      );
    });

    it('has the image of this version', () => {
      const { version } = JSON.parse(page('package.json')) as { version: string };
      for (const { image } of allContainers(name)) assert.equal(image, `fairway:${version}`);
    });

    it('probes pages that the daemon serves, where it serves them', () => {
      const pages = healthPages(() => ({ isLive: true, isNodeLeaving: false, modules: new Map() }));
      const { healthAddr, healthPort } = invocation(name).config;
      const { startupProbe, livenessProbe, readinessProbe } = container(name);
      const asked = [startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet);
      for (const { host, port, path } of asked) {
        assert.ok(pages.has(path), path);
        assert.deepEqual({ host, port }, { host: healthAddr, port: healthPort });
      }
      assert.deepEqual(
        asked.map(({ path }) => path),
        ['/livez', '/livez', '/readyz'],
      );
    });

    it('is scraped where it serves metrics', () => {
      const { metricsPort } = invocation(name).config;
      assert.ok(metricsPort > 0);
      assert.deepEqual(container(name).ports, [{ name: 'metrics', containerPort: metricsPort, hostPort: metricsPort }]);
      assert.equal(daemonSet(name).template.metadata.annotations['prometheus.io/port'], String(metricsPort));
    });

    it('mounts what it names, and has all that the daemon writes outside of its image', () => {
      const volumes = podSpec(name).volumes.map(volume => volume.name);
      const used = allContainers(name).flatMap(({ volumeMounts }) => volumeMounts.map(mount => mount.name));
      assert.deepEqual([...new Set(used)].toSorted(), volumes.toSorted());
      const configMaps = objectsOf(name).flatMap(({ kind, metadata }) => (kind === 'ConfigMap' ? [metadata.name] : []));
      assert.deepEqual(
        podSpec(name).volumes.flatMap(({ configMap }) =>
          configMap === undefined || configMap.optional === true ? [] : configMap.name,
        ),
        configMaps,
      );
      const writable = container(name).volumeMounts.flatMap(({ mountPath, readOnly }) => (readOnly === true ? [] : [mountPath]));
      const { runRouter, enableCni } = invocation(name).config;
      const folders = runRouter && enableCni ? ['/etc/cni/net.d'] : [];
      assert.deepEqual(writable, ['/run/xtables.lock', RUN_FOLDER, ...folders]);
      for (const { securityContext } of allContainers(name)) assert.ok(securityContext.readOnlyRootFilesystem);
    });

    it('installs the CNI plugins and file where it keeps that file, and nowhere else', () => {
      const { runRouter, enableCni } = invocation(name).config;
      const files = allContainers(name).flatMap(({ env }) =>
        env.filter(({ name: variable }) => variable === 'KUBE_ROUTER_CNI_CONF_FILE'),
      );
      const file = { name: 'KUBE_ROUTER_CNI_CONF_FILE', value: '/etc/cni/net.d/10-kuberouter.conflist' };
      assert.deepEqual(files, runRouter && enableCni ? [file, file] : []);
    });

    it("looks for the API server's own address where it takes the place of what serves its ClusterIP", () => {
      assert.deepEqual(container(name).envFrom, [{ configMapRef: { name: 'fairway-api-server', optional: true } }]);
      const { runServiceProxy, kubeconfig } = invocation(name).config;
      assert.equal(kubeconfig, runServiceProxy ? '/etc/fairway/kube-proxy/kubeconfig.conf' : '');
      const volume = podSpec(name).volumes.find(({ configMap }) => configMap?.name === 'kube-proxy');
      const mount = container(name).volumeMounts.find(({ name: mounted }) => mounted === volume?.name);
      assert.equal(mount?.mountPath, runServiceProxy ? dirname(kubeconfig) : undefined);
    });

    it('has no limit of processor time or memory', () => {
      for (const { resources } of allContainers(name)) assert.deepEqual(Object.keys(resources), ['requests']);
    });
  });
}
