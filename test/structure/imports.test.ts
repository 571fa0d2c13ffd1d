import assert from 'node:assert/strict';
import { type Import, parse, type Source, sources } from './sources.ts';

type Layer =
  | 'net'
  | 'errors'
  | 'config'
  | 'cluster'
  | 'reconcile'
  | 'kernel'
  | 'bgp'
  | 'allocation'
  | 'observe'
  | 'explain'
  | 'leftovers'
  | 'module'
  | 'wiring'
  | 'outside';

/** What a layer may import at run time, and what besides as types only. Its own files always; `outside` is node:* and npm packages. */
const RULES: Readonly<
  Record<Exclude<Layer, 'outside'>, { readonly values: readonly Layer[]; readonly types: readonly Layer[] }>
> = {
  net: { values: ['outside', 'errors'], types: [] },
  errors: { values: [], types: [] },
  config: { values: ['net', 'errors', 'outside'], types: [] },
  cluster: { values: ['net', 'errors', 'outside'], types: [] },
  reconcile: { values: ['net', 'errors', 'cluster', 'outside'], types: [] },
  kernel: { values: ['net', 'errors', 'outside'], types: ['cluster', 'reconcile'] },
  bgp: { values: ['net', 'errors', 'outside'], types: ['cluster', 'reconcile'] },
  allocation: { values: ['net', 'errors', 'cluster', 'outside'], types: ['reconcile', 'observe'] },
  observe: { values: ['net', 'errors', 'outside'], types: ['cluster', 'reconcile'] },
  explain: { values: ['net', 'errors', 'cluster', 'reconcile'], types: [] },
  leftovers: { values: ['net', 'errors', 'kernel', 'outside'], types: ['config', 'observe', 'reconcile'] },
  module: { values: ['net', 'errors', 'cluster', 'reconcile'], types: ['config'] },
  wiring: {
    values: [
      'net',
      'errors',
      'config',
      'cluster',
      'reconcile',
      'kernel',
      'bgp',
      'allocation',
      'observe',
      'explain',
      'leftovers',
      'module',
      'outside',
    ],
    types: [],
  },
};

/** `TABLES` (the key and equality of each table's entries) is what a driver and the reconciler must agree on. */
const SHARED_VALUES = [
  'daemon/reconcile/tables.ts',
  'daemon/reconcile/routing-tables.ts',
  'daemon/reconcile/link.ts',
  'daemon/reconcile/service-tables.ts',
];

const LAYER_OF_FOLDER: ReadonlyMap<string, Layer> = new Map([
  ...(['net', 'config', 'cluster', 'reconcile', 'kernel', 'bgp', 'allocation', 'observe', 'explain', 'leftovers'] as const).map(
    name => [name, name] as const,
  ),
  ['errors.ts', 'errors'],
]);

function layerOf(path: string): Layer {
  const [top, second = ''] = path.split('/');
  if (top === 'modules') return second === 'index.ts' ? 'wiring' : 'module';
  if (top !== 'daemon') return 'outside';
  // daemon/main.ts, daemon/commands/ and what they share are the composition root.
  return LAYER_OF_FOLDER.get(second) ?? 'wiring';
}

function moduleOf(path: string): string {
  return path.split('/')[1] ?? '';
}

/** Why the import must not be, or undefined. */
function objection(source: Source, { target, typeOnly }: Import): string | undefined {
  const from = layerOf(source.path);
  const to = layerOf(target);
  if (from === 'outside') return undefined;
  if (target === 'daemon/main.ts') return 'nobody imports daemon/main.ts';
  if (from === 'module' && to === 'module')
    return moduleOf(source.path) === moduleOf(target) ? undefined : 'modules do not see each other';
  if (from === to) return undefined;
  const { values, types } = RULES[from];
  if (values.includes(to) || (typeOnly && types.includes(to))) return undefined;
  if (types.includes(to)) return SHARED_VALUES.includes(target) ? undefined : `${from} sees only the types of ${to}`;
  return `${from} must not see ${to}`;
}

function objections(all: readonly Source[]): readonly string[] {
  return all.flatMap(source =>
    source.imports.flatMap(each => {
      const why = objection(source, each);
      return why === undefined ? [] : [`${source.path}:${each.line} imports ${each.target}: ${why}`];
    }),
  );
}

describe('imports', () => {
  it('go from net to cluster to reconcile to modules, and to nothing else', () => {
    assert.deepEqual(objections(sources('daemon', 'modules')), []);
  });

  it('are refused where they break the rule', () => {
    const cases: readonly (readonly [path: string, text: string, refused: boolean])[] = [
      ['daemon/net/a.ts', "import { x } from '../cluster/kinds.ts';", true],
      ['daemon/net/a.ts', "import type { x } from '../cluster/kinds.ts';", true],
      ['daemon/cluster/a.ts', "import { x } from '../net/address.ts';", false],
      ['daemon/kernel/a.ts', "import { x } from '../reconcile/claims.ts';", true],
      ['daemon/kernel/a.ts', "import { type x, y } from '../reconcile/claims.ts';", true],
      ['daemon/kernel/a.ts', "import { type x } from '../reconcile/claims.ts';", false],
      ['daemon/kernel/a.ts', "export type { x } from '../reconcile/claims.ts';", false],
      ['daemon/kernel/a.ts', "export { x } from '../bgp/rib.ts';", true],
      ['daemon/kernel/a.ts', "type X = import('../reconcile/claims.ts').X;", false],
      ['daemon/allocation/a.ts', "import { ApiObjects } from '../cluster/api-objects.ts';", false],
      ['daemon/allocation/a.ts', "import { x } from '../reconcile/claims.ts';", true],
      ['daemon/explain/a.ts', "import { routeText } from '../kernel/unicast-route-line.ts';", true],
      ['daemon/explain/a.ts', "import type { x } from '../kernel/command.ts';", true],
      ['daemon/explain/a.ts', "import { x } from '../../modules/policy/select.ts';", true],
      ['daemon/explain/a.ts', "import { join } from 'node:path';", true],
      ['daemon/explain/a.ts', "import { matchesLabels } from '../cluster/selectors.ts';", false],
      ['modules/services/a.ts', "import { join } from 'node:path';", true],
      ['modules/services/a.ts', "import type { Server } from 'node:http';", true],
      ['modules/services/a.ts', "import { x } from '../policy/select.ts';", true],
      ['modules/services/a.ts', "import { x } from './vips.ts';", false],
      ['modules/services/a.ts', "const x = import('../../daemon/kernel/command.ts');", true],
      ['modules/index.ts', "import { x } from './services/module.ts';", false],
      ['daemon/commands/run.ts', "import { x } from '../main.ts';", true],
      ['daemon/config/a.ts', "import type { x } from '../cluster/kinds.ts';", true],
    ];
    for (const [path, text, refused] of cases)
      assert.equal(objections([parse(path, text)]).length, refused ? 1 : 0, `${path}: ${text}`);
  });

  it('of node:child_process stand in two files of the daemon: one for tools that end, one for programs that stay', () => {
    const importers = sources('daemon', 'modules').filter(({ imports }) =>
      imports.some(({ target }) => /^(node:)?child_process$/.test(target)),
    );
    assert.deepEqual(
      importers.map(({ path }) => path),
      ['daemon/kernel/process-runner.ts', 'daemon/kernel/service-process.ts'],
    );
  });
});
