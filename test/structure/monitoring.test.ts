/** The board and the alert rules in `monitoring`, and kube-router's board, ask for nothing that the daemon does not serve. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { load, loadAll } from 'js-yaml';
import { skipBecause } from '../skip.ts';
import { KUBE_ROUTER_BOARD, KUBE_ROUTER_METRICS } from './kube-router-metrics.ts';
import { page } from './pages.ts';
import { parseQuery } from './promql.ts';
import { type ServedMetric, servedMetrics } from './served-metrics.ts';
import { root } from './sources.ts';

const ALERTS = 'monitoring/alerts.yaml';
const BOARD = 'monitoring/grafana/fairway.json';
const TROUBLESHOOTING = 'docs/troubleshooting.md';

/** What Prometheus puts on every series; `instance` is the node. */
const TARGET_LABELS = ['job', 'instance'];
const UP: ServedMetric = { name: 'up', type: 'gauge', labels: [], help: '' };
const FUNCTIONS = [
  ...['sum', 'max', 'min', 'count', 'topk', 'rate', 'increase', 'changes', 'absent', 'histogram_quantile'],
  ...['min_over_time', 'time', 'vector'],
];

const SERIES = new Map(
  [...servedMetrics(), UP].flatMap(metric => seriesOf(metric).map(each => [each.name, each.labels] as const)),
);

function seriesOf({
  name,
  type,
  labels,
}: ServedMetric): readonly { readonly name: string; readonly labels: readonly string[] }[] {
  const all = [...labels, ...TARGET_LABELS];
  if (type !== 'histogram') return [{ name, labels: all }];
  return [
    { name: `${name}_bucket`, labels: [...all, 'le'] },
    { name: `${name}_sum`, labels: all },
    { name: `${name}_count`, labels: all },
  ];
}

/** What is wrong with an expression. */
function objections(expression: string): readonly string[] {
  const { selectors, groupedBy, functions } = parseQuery(expression);
  const known = selectors.flatMap(({ metric }) => SERIES.get(metric) ?? []);
  return [
    ...(selectors.length === 0 ? [`${expression} asks for nothing`] : []),
    ...selectors.flatMap(({ metric, labels }) => {
      const has = SERIES.get(metric);
      if (has === undefined) return [`${metric} is not served`];
      return labels.filter(label => !has.includes(label)).map(label => `${metric} has no label ${label}`);
    }),
    ...groupedBy.filter(label => !known.includes(label)).map(label => `nothing in ${expression} has the label ${label}`),
    ...functions.filter(name => !FUNCTIONS.includes(name)).map(name => `${name} is no function that is known here`),
  ];
}

/** Labels that a text shows of its series: `{{ $labels.table }}`, `{{table}}`. */
function shownLabels(text: string): readonly string[] {
  return [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(([, label = '']) => label);
}

/** Those that the series of an expression cannot have. */
function unshowable(expression: string, text: string): readonly string[] {
  const { selectors, groupedBy } = parseQuery(expression);
  const isGrouped = /\b(by|absent)\b/.test(expression);
  const had = isGrouped ? groupedBy : selectors.flatMap(({ metric }) => SERIES.get(metric) ?? []);
  return shownLabels(text).filter(label => !had.includes(label));
}

interface Target {
  readonly expr: string;
  readonly legendFormat: string;
}

interface Board {
  readonly panels: readonly { readonly title: string; readonly targets?: readonly Target[] }[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly runbook: string };
}

function rules(): readonly Rule[] {
  return (load(page(ALERTS)) as { readonly groups: readonly { readonly rules: readonly Rule[] }[] }).groups.flatMap(
    group => group.rules,
  );
}

/** As GitHub makes them of headings. */
function anchorsOf(text: string): readonly string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

describe('the reading of PromQL', () => {
  it('finds metrics, matched labels, groups and functions', () => {
    assert.deepEqual(parseQuery('sum by (le, x) (rate(a_bucket{b=~"$c",d!="by (e)"}[5m])) > on (f) g offset 1h'), {
      selectors: [
        { metric: 'a_bucket', labels: ['b', 'd'] },
        { metric: 'g', labels: [] },
      ],
      groupedBy: ['le', 'x', 'f'],
      functions: ['sum', 'rate'],
    });
  });

  it('is found out where something is not served', () => {
    assert.deepEqual(objections('fairway_nothing{instance="x"}'), ['fairway_nothing is not served']);
    assert.deepEqual(objections('fairway_drift_total{kind="x"}'), ['fairway_drift_total has no label kind']);
    assert.deepEqual(
      objections('fairway_round_seconds'),
      ['fairway_round_seconds is not served'],
      'a histogram has no series of its name',
    );
    assert.deepEqual(objections('sum by (peer) (fairway_bgp_up)'), [
      'nothing in sum by (peer) (fairway_bgp_up) has the label peer',
    ]);
    assert.deepEqual(unshowable('sum by (table) (fairway_drift_total)', '{{table}} {{ $labels.found }}'), ['found']);
  });
});

describe('metrics of kube-router', () => {
  it('are all served, with their types and labels', () => {
    const served = servedMetrics().filter(({ name }) => name.startsWith('kube_router_'));
    const theirs = Object.entries(KUBE_ROUTER_METRICS).map(
      ([name, { type, labels }]) => `kube_router_${name} ${type} ${labels.join()}`,
    );
    const ours = served.map(({ name, type, labels }) => `${name} ${type} ${labels.join()}`);
    assert.deepEqual(
      theirs.filter(each => !ours.includes(each)),
      [],
    );
    // The one that v2.11 has no more and its board still asks for.
    assert.deepEqual(
      ours.filter(each => !theirs.includes(each)),
      ['kube_router_controller_bgp_peers gauge '],
    );
  });

  it('answer what its Grafana board asks', () => {
    const wrong = KUBE_ROUTER_BOARD.flatMap(([series, ...labels]) =>
      objections(`kube_router_${series}{${labels.map(label => `${label}="x"`).join()}}`),
    );
    assert.deepEqual(wrong, []);
  });
});

describe(BOARD, () => {
  const board = JSON.parse(page(BOARD)) as Board;
  const targets = board.panels.flatMap(({ title, targets: all = [] }) => all.map(target => ({ title, ...target })));

  it('asks for what is served, by labels that there are', () => {
    assert.ok(targets.length > 40);
    assert.deepEqual(
      targets.flatMap(({ title, expr, legendFormat }) =>
        [...objections(expr), ...unshowable(expr, legendFormat).map(label => `has no ${label} to show`)].map(
          why => `${title}: ${why}`,
        ),
      ),
      [],
    );
    const variables = board.templating.list.flatMap(({ definition }) => definition ?? []);
    const asked = variables.map(text => /^label_values\((\w+), (\w+)\)$/.exec(text) ?? []);
    assert.equal(asked.length, 2);
    assert.deepEqual(
      asked.filter(([, series = '', label = '']) => !SERIES.get(series)?.includes(label)),
      [],
    );
  });

  it('shows every metric of ours, but for those that others on it tell as well', () => {
    const shown = new Set(
      targets.flatMap(({ expr }) => parseQuery(expr).selectors.map(({ metric }) => metric.replace(/_(bucket|sum|count)$/, ''))),
    );
    const hidden = servedMetrics().filter(({ name }) => name.startsWith('fairway_') && !shown.has(name));
    assert.deepEqual(
      hidden.map(({ name }) => name),
      ['fairway_api_lists_total', 'fairway_api_watches_total'],
    );
  });

  it('has a title of its own for each panel of a row, and no expression twice', () => {
    const expressions = targets.map(({ expr }) => expr);
    assert.deepEqual(
      expressions.filter((expr, index) => expressions.indexOf(expr) !== index),
      [],
    );
  });
});

describe(ALERTS, () => {
  it('asks for what is served, and says what its series have', () => {
    assert.ok(rules().length >= 15);
    assert.deepEqual(
      rules().flatMap(({ alert, expr, annotations }) =>
        [...objections(expr), ...unshowable(expr, annotations.summary).map(label => `has no ${label} to show`)].map(
          why => `${alert}: ${why}`,
        ),
      ),
      [],
    );
  });

  it('gives each alert a severity, a sentence and a place to read on', () => {
    for (const { alert, labels, annotations } of rules()) {
      assert.match(alert, /^Fairway[A-Z]/);
      assert.match(labels.severity, /^(critical|warning|info)$/, alert);
      assert.match(annotations.summary, /\.$/, alert);
      assert.match(annotations.runbook, new RegExp(`^${TROUBLESHOOTING}#[a-z-]+$`), alert);
    }
  });

  it('leads to headings that there are', function () {
    if (!existsSync(join(root, TROUBLESHOOTING))) skipBecause(this, `${TROUBLESHOOTING} is not written yet`);
    const anchors = anchorsOf(page(TROUBLESHOOTING));
    const wanted = rules().map(({ annotations }) => annotations.runbook.slice(TROUBLESHOOTING.length + 1));
    assert.deepEqual(
      wanted.filter(anchor => !anchors.includes(anchor)),
      [],
    );
  });

  it('fires for what it is to fire for, says promtool', function () {
    const { error, status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'alerts_test.yaml'], {
      cwd: join(root, 'monitoring'),
      encoding: 'utf8',
      timeout: 8000,
    });
    if (error !== undefined && 'code' in error && error.code === 'ENOENT')
      skipBecause(this, 'promtool is not installed (Debian package prometheus)');
    assert.equal(status, 0, stdout + stderr);
  });
});

describe('monitoring', () => {
  it('gives every series the labels that the board and the alerts ask for', () => {
    for (const file of ['pod-monitor', 'scrape-config']) {
      const text = JSON.stringify(loadAll(page(`monitoring/${file}.yaml`)));
      assert.match(text, /"targetLabel":"job","replacement":"fairway"/, file);
      assert.match(text, /"targetLabel":"instance"/, file);
      assert.match(text, /"\/metrics"/, file);
    }
  });
});
