import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Kind } from '../../daemon/cluster/kinds.ts';
import { NodeViewer } from '../../daemon/cluster/node-view.ts';
import { Projector } from '../../daemon/cluster/project.ts';
import { Store } from '../../daemon/cluster/store.ts';
import { parseWatchEvent } from '../../daemon/cluster/watch-event.ts';
import type { Command, CommandResult, CommandRunner } from '../../daemon/kernel/command.ts';
import { ipvsDriver } from '../../daemon/kernel/ipvsadm.ts';
import { instantOf } from '../../daemon/net/instant.ts';
import { Claims } from '../../daemon/reconcile/claims.ts';
import { type ReconcileObserver, Reconciler } from '../../daemon/reconcile/reconciler.ts';
import { STAGES } from '../../daemon/reconcile/tables.ts';
import { servicesModule } from '../../modules/services/module.ts';
import { ManualClock } from '../fakes/clock.ts';
import { fakeTables } from '../fakes/tables.ts';
import { hostFacts, node } from '../fixtures/cluster.ts';
import { renderFragment } from '../fixtures/render-plan.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { blocksOf, codeWordsOf, page, sectionsOf } from './pages.ts';
import { root } from './sources.ts';

const PATH = 'docs/walkthrough.md';
const KINDS: readonly Kind[] = ['Service', 'EndpointSlice', 'Node'];
const FILE = /^(?:daemon|modules|test|scripts)\/\S+\.ts$/;

/** The text of the block of that name. */
function block(name: string): string {
  const found = blocksOf(page(PATH)).filter(each => each.name === name);
  assert.equal(found.length, 1, `${PATH} has ${found.length} blocks named ${name}`);
  return found[0]?.text ?? '';
}

/** `ipvsadm` that takes everything and shows nothing. */
class SilentIpvsadm implements CommandRunner {
  readonly scripts: string[] = [];

  run(command: Command): Promise<CommandResult> {
    if (command.argv.join(' ') === 'ipvsadm -R') this.scripts.push(command.stdin ?? '');
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }

  lines(): Promise<CommandResult> {
    return Promise.resolve({ status: 0, stdout: '', stderr: '' });
  }
}

const SILENT: ReconcileObserver = {
  planned: () => undefined,
  planFailed: (_module, error) => {
    throw error;
  },
  applied: () => undefined,
  drifted: () => undefined,
  unreadable: () => undefined,
};

/** The real path: store, module, reconciler and IPVS driver; tables beside it in memory, and a tool that is silent. */
class Path {
  readonly store = new Store({ kinds: KINDS, nodeViewer: new NodeViewer('node-1'), onChange: () => undefined });
  readonly ipvsadm = new SilentIpvsadm();
  readonly tables = fakeTables();
  readonly #projector = new Projector();
  readonly #clock = new ManualClock();
  readonly #module = servicesModule(servicesOptions());
  readonly #reconciler = new Reconciler({
    modules: [this.#module],
    drivers: {
      ...this.tables,
      virtualServer: ipvsDriver({
        runner: this.ipvsadm,
        readLines: () => Promise.reject(Object.assign(new Error('no such file'), { code: 'ENOENT' })),
        excludedCidrs: [],
      }),
    },
    clock: this.#clock,
    backoff: { delay: () => 1000 },
    breathe: () => Promise.resolve(),
    observer: SILENT,
  });

  constructor() {
    this.store.replace('Service', []);
    this.store.replace('EndpointSlice', []);
    this.store.replace('Node', [{ object: node(1), complaints: [] }]);
  }

  snapshot(): ReturnType<Store['snapshot']> {
    return this.store.snapshot(instantOf(0), hostFacts());
  }

  /** What the reflector does with a line. */
  take(line: string, kind: Kind): void {
    const event = parseWatchEvent(line.trim());
    assert.ok(event.type === 'ADDED' || event.type === 'MODIFIED');
    const { object, complaints } = this.#projector.project(kind, event.object);
    assert.ok(object !== undefined && complaints.length === 0);
    this.store.upsert(object, complaints);
  }

  async round(): Promise<void> {
    await this.#reconciler.round(this.snapshot(), new AbortController().signal);
  }

  fragments(): ReturnType<ReturnType<typeof servicesModule>['plan']>['fragments'] {
    return this.#module.plan(this.snapshot()).fragments;
  }
}

/** After both lines of step 1, and the round that follows. */
async function afterBothLines(): Promise<Path> {
  const path = new Path();
  await path.round();
  path.take(block('service-event'), 'Service');
  path.take(block('slice-event'), 'EndpointSlice');
  await path.round();
  return path;
}

describe('docs/walkthrough.md', () => {
  const sections = sectionsOf(page(PATH));
  const steps = sections.flatMap(section => {
    const [, file] = /^\d\. .*`(\S+)`$/.exec(section.title) ?? [];
    return file === undefined ? [] : [{ ...section, file }];
  });

  it('leads through eight files that exist', () => {
    assert.equal(new Set(steps.map(step => step.file)).size, 8);
    const named = sections.flatMap(section => [...codeWordsOf(section.title), ...codeWordsOf(section.prose)]);
    assert.deepEqual(
      named.filter(word => FILE.test(word) && !existsSync(join(root, word))),
      [],
    );
  });

  it('quotes lines and names functions that are in those files', () => {
    const missing = steps.flatMap(({ file, prose, blocks }) => {
      const source = readFileSync(join(root, file), 'utf8');
      const lines = new Set(source.split('\n').map(line => line.trim()));
      const quoted = blocks.filter(each => each.language === 'ts').flatMap(each => each.text.trim().split('\n'));
      const functions = codeWordsOf(prose).flatMap(word => /^(#?\w+)\(\)$/.exec(word)?.[1] ?? []);
      return [
        ...quoted.filter(line => !lines.has(line.trim())).map(line => `${file}: ${line}`),
        ...functions
          .filter(name => !source.includes(`${name}(`) && !source.includes(`${name}<`))
          .map(name => `${file}: ${name}()`),
      ];
    });
    assert.deepEqual(missing, []);
    assert.ok(steps.every(step => step.blocks.some(each => each.language === 'ts')));
  });

  it('shows the Service as it is projected', () => {
    const event = parseWatchEvent(block('service-event').trim());
    assert.ok(event.type === 'ADDED');
    const { object } = new Projector().project('Service', event.object);
    assert.deepEqual(JSON.parse(JSON.stringify(object)), JSON.parse(block('projected')));
  });

  it('shows what the snapshot holds', async () => {
    const { services, endpointSlicesOf } = (await afterBothLines()).snapshot();
    const slices = [...endpointSlicesOf].map(([key, each]) => `${key} -> ${each.map(({ meta }) => meta.name).join(' ')}`);
    assert.equal(`services: ${[...services.keys()].join(' ')}\nendpointSlicesOf: ${slices.join(' ')}\n`, block('snapshot'));
  });

  it('shows the plan', async () => {
    const fragment = (await afterBothLines()).fragments().get('Service default/web');
    assert.ok(fragment !== undefined);
    assert.equal(renderFragment(fragment), block('plan'));
  });

  it('shows the keys that changed', async () => {
    const claims = new Claims();
    claims.update('services', new Path().fragments());
    const changed = claims.update('services', (await afterBothLines()).fragments());
    const keys = STAGES.flatMap(table => [...(changed.get(table) ?? [])].map(key => `${table} ${key}\n`).sort());
    assert.equal(keys.join(''), block('changed'));
  });

  it('shows the change of the table of virtual servers', async () => {
    const path = new Path();
    const reconciler = new Reconciler({
      modules: [servicesModule(servicesOptions())],
      drivers: path.tables,
      clock: new ManualClock(),
      backoff: { delay: () => 1000 },
      breathe: () => Promise.resolve(),
      observer: SILENT,
    });
    path.take(block('service-event'), 'Service');
    path.take(block('slice-event'), 'EndpointSlice');
    await reconciler.round(path.snapshot(), new AbortController().signal);
    assert.equal(`${path.tables.virtualServer.written.join('\n')}\n`, block('change'));
  });

  it('shows what ipvsadm reads, for the new Service and for the endpoint that moved', async () => {
    const path = await afterBothLines();
    assert.deepEqual(path.ipvsadm.scripts, [block('ipvsadm')]);
    path.take(block('slice-change-event'), 'EndpointSlice');
    await path.round();
    assert.deepEqual(path.ipvsadm.scripts, [block('ipvsadm'), block('ipvsadm-change')]);
  });
});
