import assert from 'node:assert/strict';
import ts from 'typescript';
import { BUILT_MODULES, isModule, MODULE_NAMES, type ModuleName } from '../../daemon/config/modules.ts';
import { FLAG_NAMES, type FlagName, findFlag, optionOf } from '../../daemon/config/options.ts';
import { KUBE_ROUTER_FLAGS } from '../unit/config/flags-of-kube-router.ts';
import { KUBE_ROUTER_METRICS } from './kube-router-metrics.ts';
import { page, rowsOf, sectionsOf } from './pages.ts';
import { servedMetrics } from './served-metrics.ts';
import { sources, visit } from './sources.ts';

const PATH = 'docs/parity.md';
const THEIRS = new Set(KUBE_ROUTER_FLAGS.map(({ name }) => name));

interface Row {
  readonly subject: string;
  readonly state: string;
  readonly remark: string;
}

function rows(title: string): readonly Row[] {
  const section = sectionsOf(page(PATH)).find(each => each.title === title);
  assert.ok(section !== undefined, `${PATH} has no section '${title}'`);
  return rowsOf(section.prose).map(([subject = '', state = '', remark = '']) => ({
    subject: subject.replace(/^`(.*)`$/, '$1'),
    state,
    remark,
  }));
}

/** The module of `not yet: MODULE`. */
function missingModule(state: string): string | undefined {
  return /^not yet: (\S+)$/.exec(state)?.[1];
}

function subjects(of: readonly Row[]): readonly string[] {
  return of.map(({ subject }) => subject).sort();
}

/** What the option table says of a flag of kube-router's: its module is missing, it has no effect, or neither. */
function builtStateOf(flag: FlagName): 'without-effect' | 'not-built' | 'built' {
  const option = optionOf(flag);
  if (option.withoutEffect !== undefined) return 'without-effect';
  const modules = runFlagModules(flag) ?? option.groups.filter(isModule);
  const isBuilt = modules.length === 0 || modules.some(module => BUILT_MODULES.has(module));
  return isBuilt && option.planned !== true ? 'built' : 'not-built';
}

/** The switch of a module belongs to the common flags, and is as far as its module. */
function runFlagModules(flag: FlagName): readonly ModuleName[] | undefined {
  const modules: Partial<Record<FlagName, ModuleName>> = {
    'run-router': 'routing',
    'run-firewall': 'policy',
    'run-service-proxy': 'services',
    'run-loadbalancer': 'lb-allocator',
  };
  const module = modules[flag];
  return module === undefined ? undefined : [module];
}

/** String literals of the daemon and its modules that match as a whole. */
function literals(pattern: RegExp): ReadonlySet<string> {
  const found = new Set<string>();
  for (const { syntax } of sources('daemon', 'modules')) {
    visit(syntax, node => {
      if (!ts.isStringLiteralLike(node)) return;
      const [, word] = pattern.exec(node.text) ?? [];
      if (word !== undefined) found.add(word);
    });
  }
  return found;
}

describe('docs/parity.md', () => {
  it('says of each flag of kube-router what became of it, and of no other', () => {
    assert.deepEqual(subjects(rows('Flags')), [...THEIRS].map(name => `--${name}`).sort());
  });

  it('says of each flag what the option table says', () => {
    const wrong = rows('Flags').flatMap(({ subject, state, remark }) => {
      const flag = findFlag(subject.replace(/^--/, ''));
      if (flag === undefined) return [`${subject} does not exist`];
      const built = builtStateOf(flag);
      const isMissing = missingModule(state) !== undefined;
      if (isMissing !== (built === 'not-built')) return [`${subject} is ${built}, the page says '${state}'`];
      if (built === 'without-effect' && !(state === 'changed' && remark.startsWith('no effect')))
        return [`${subject} has no effect, the page says '${state}'`];
      return [];
    });
    assert.deepEqual(wrong, []);
  });

  it('names every flag of our own', () => {
    assert.deepEqual(
      subjects(rows('Flags of our own')),
      FLAG_NAMES.filter(name => !THEIRS.has(name))
        .map(name => `--${name}`)
        .sort(),
    );
  });

  it('gives every row a state, a reason for each change, and the module of what is missing', () => {
    const all = [
      'Flags',
      'Annotations and labels',
      'Behaviour of the service proxy',
      'Behaviour of network policy',
      'Behaviour of pod routing',
      'Behaviour of load-balancer addresses',
      'Behaviour of the daemon',
      'Metrics',
    ].flatMap(rows);
    const wrong = all.filter(({ state, remark }) => {
      const module = missingModule(state);
      if (module !== undefined) return !MODULE_NAMES.some(name => name === module);
      return state === 'changed' || state === 'better' ? remark === '' : state !== 'same';
    });
    assert.deepEqual(wrong, []);
  });

  it('names every annotation and label that the code reads, and calls none read that is not', () => {
    const read = literals(
      /^!?((?:[a-z]+\.)?(?:kube-router\.io|kubernetes\.io|fairway\.dev|metallb\.io|metallb\.universe\.tf)\/.+)$/,
    );
    const keys = rows('Annotations and labels');
    assert.deepEqual(
      [...read].filter(key => !keys.some(({ subject }) => subject === key)),
      [],
    );
    const unread = keys.filter(({ subject }) => !read.has(subject));
    assert.deepEqual(
      unread.filter(({ state, remark }) => missingModule(state) === undefined && !remark.startsWith('not read')),
      [],
    );
    assert.ok(read.size >= 8, 'the code was not searched');
  });

  it('names every metric of kube-router, and every one that is served under its prefix', () => {
    const theirs = rows('Metrics').map(({ subject }) => subject);
    const known = Object.keys(KUBE_ROUTER_METRICS).map(name => `kube_router_${name}`);
    const served = servedMetrics().flatMap(({ name }) => (name.startsWith('kube_router_') ? [name] : []));
    assert.deepEqual([...theirs].sort(), [...new Set([...known, ...served])].sort());
  });
});
