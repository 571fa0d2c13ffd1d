import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { loadAll } from 'js-yaml';
import { RESOURCES } from '../../daemon/cluster/resources.ts';
import { BUILT_MODULES } from '../../daemon/config/modules.ts';
import { findFlag } from '../../daemon/config/options.ts';
import { parseArguments } from '../../daemon/config/parse.ts';
import { healthPages } from '../../daemon/observe/http.ts';
import { kindsRead, type Module } from '../../daemon/reconcile/module.ts';
import { policyModule } from '../../modules/policy/module.ts';
import { servicesModule } from '../../modules/services/module.ts';
import { policyOptions } from '../fixtures/policy-options.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { blocksOf, codeWordsOf, page, sectionsOf } from './pages.ts';
import { root } from './sources.ts';

/** With the modules that are on in it. */
const MANIFESTS: readonly (readonly [string, readonly Module[]])[] = [
  ['manifests/fairway-services.yaml', [servicesModule(servicesOptions())]],
  ['manifests/fairway.yaml', [servicesModule(servicesOptions()), policyModule(policyOptions())]],
];
const UNIT = 'systemd/fairway.service';

/** Options of other programs that pages speak of, and the word for any flag. */
const FOREIGN = new Set(['--flag', '--cleanup', '--noflush', '--cpu-prof', '--set', '--ctdir']);

const FLAG = /(?<![\w-])--[a-z][a-z0-9-]*/g;

function flagsIn(text: string): readonly string[] {
  return [...text.matchAll(FLAG)].map(([flag]) => flag);
}

/** Flags in code words and shell lines of a page; kernel rules in blocks of other languages are not ours. */
function flagsOfPage(path: string): readonly string[] {
  const text = page(path);
  const words = sectionsOf(text).flatMap(({ title, prose }) => codeWordsOf(`${title}\n${prose}`));
  const shell = blocksOf(text)
    .filter(({ language }) => language === 'sh')
    .flatMap(block => block.text.split('\n'))
    .filter(line => line.includes('fairway.js'));
  return [...words, ...shell].flatMap(flagsIn);
}

/** Walks parsed YAML; fails where the path does not lead to anything. */
function at(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>((inner, key) => {
    assert.ok(typeof inner === 'object' && inner !== null, `the manifest has no ${path.join('.')}`);
    return Reflect.get(inner, key);
  }, value);
}

function strings(value: unknown): readonly string[] {
  assert.ok(Array.isArray(value));
  return value.map(String);
}

function objectOf(manifest: string, kind: string): unknown {
  const found = loadAll(page(manifest)).filter(document => at(document, 'kind') === kind);
  assert.equal(found.length, 1, `${manifest} has ${found.length} objects of kind ${kind}`);
  return found[0];
}

function container(manifest: string): unknown {
  return at(objectOf(manifest, 'DaemonSet'), 'spec', 'template', 'spec', 'containers', 0);
}

/** What the parser says of a command line, with the flags it warns about. */
function verdict(argv: readonly string[], environment: Record<string, string>): readonly string[] {
  const result = parseArguments(argv, environment, BUILT_MODULES);
  if (result.kind === 'errors') return result.errors.map(({ subject, problem }) => `${subject} ${problem}`);
  assert.ok(result.kind === 'run', `expected a configuration, not ${result.kind}`);
  return result.warnings.map(({ message }) => message);
}

describe('flags in pages and deployment files', () => {
  const pages = ['README.md', ...globSync('{docs,examples,manifests,systemd}/*.md', { cwd: root })];

  for (const path of pages.sort()) {
    it(`of ${path} exist`, () => {
      const unknown = flagsOfPage(path).filter(flag => !FOREIGN.has(flag) && findFlag(flag.slice(2)) === undefined);
      assert.deepEqual([...new Set(unknown)], []);
    });
  }

  it('of the unit are accepted without a warning', () => {
    const [, line = ''] =
      /^ExecStart=\/usr\/bin\/env \$\{FAIRWAY_NODE\} --max-semi-space-size=2 \$\{FAIRWAY_PROGRAM\} (.*) \$FAIRWAY_FLAGS$/m.exec(
        page(UNIT),
      ) ?? [];
    const [, added = ''] = /^FAIRWAY_FLAGS=(.*)$/m.exec(page('systemd/fairway.env')) ?? [];
    const argv = [...line.split(' '), ...added.split(' ').filter(word => word !== '')];
    assert.ok(argv.includes('--manifests=/etc/fairway/manifests'));
    assert.deepEqual(verdict(argv, {}), []);
  });

  for (const [manifest] of MANIFESTS) {
    it(`of ${manifest} are accepted without a warning`, () => {
      assert.deepEqual(verdict(strings(at(container(manifest), 'args')), { KUBERNETES_SERVICE_HOST: 'api-server.example' }), []);
    });
  }
});

for (const [manifest, modules] of MANIFESTS) describeManifest(manifest, modules);

function describeManifest(manifest: string, modules: readonly Module[]): void {
  describe(manifest, () => {
    it('lets the daemon list and watch what its modules read, and do nothing else', () => {
      const rules = at(objectOf(manifest, 'ClusterRole'), 'rules');
      assert.ok(Array.isArray(rules));
      const allowed = rules.flatMap(rule =>
        strings(at(rule, 'apiGroups')).flatMap(group =>
          strings(at(rule, 'resources')).flatMap(name => strings(at(rule, 'verbs')).map(verb => `${verb} ${group}/${name}`)),
        ),
      );
      const needed = kindsRead(modules).flatMap(kind => {
        const { group, name } = RESOURCES[kind];
        return ['list', 'watch'].map(verb => `${verb} ${group}/${name}`);
      });
      assert.deepEqual(allowed.sort(), needed.sort());
    });

    it('probes pages that the daemon serves, on the port it is given', () => {
      const pages = healthPages(() => ({ isLive: true, isNodeLeaving: false, modules: new Map() }));
      const port = /--health-port=(\d+)/.exec(strings(at(container(manifest), 'args')).join(' '))?.[1];
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        assert.ok(pages.has(String(at(container(manifest), probe, 'httpGet', 'path'))), probe);
        assert.equal(String(at(container(manifest), probe, 'httpGet', 'port')), port, probe);
      }
    });
  });
}
