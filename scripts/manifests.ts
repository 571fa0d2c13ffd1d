/**
 * Renders `manifests/rendered/NAME.yaml`, one file a variant, from the kustomize tree beside it: `npm run manifests`.
 *
 * `kubectl apply -f` of one of them is an install, without kustomize. A structure test holds the files against the tree.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { dump } from 'js-yaml';
import { build, type KubeObject } from './kustomize.ts';

const MANIFESTS = resolve(import.meta.dirname, '..', 'manifests');

/** What fits on a line of this length stands on one. */
const LINE = 80;

/** The names of all variants. */
export function variantNames(): readonly string[] {
  return readdirSync(join(MANIFESTS, 'variants')).sort();
}

/** The objects of a variant, as kustomize makes them of the tree; what the DaemonSet asks for stands before it. */
export function variantObjects(name: string): readonly KubeObject[] {
  const objects = build(join(MANIFESTS, 'variants', name));
  const isLast = ({ kind }: KubeObject): boolean => kind === 'DaemonSet';
  return [...objects.filter(object => !isLast(object)), ...objects.filter(isLast)];
}

/** The text of a variant's file: what its kustomization says of it first. */
export function renderedText(name: string): string {
  const source = readFileSync(join(MANIFESTS, 'variants', name, 'kustomization.yaml'), 'utf8');
  const comment = source.slice(0, source.search(/^[^#]/m));
  const head = `${comment}# Made by \`npm run manifests\` from manifests/variants/${name}; manifests/README.md says more.\n`;
  return `${head}${variantObjects(name)
    .map(object => `${lines(object).join('\n')}\n`)
    .join('---\n')}`;
}

function flow(value: unknown): string {
  return dump(value, { flowLevel: 0, lineWidth: -1 }).trimEnd();
}

/** YAML in blocks, in which what is small stands on one line: half as long to read, and one line an argument to change. */
function lines(value: unknown): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((item: unknown) => under('- ', '  ', item));
  if (typeof value !== 'object' || value === null) return [flow(value)];
  return Object.entries(value).flatMap(([key, field]: [string, unknown]) => {
    const name = `${flow(key)}:`;
    if (typeof field === 'string' && field.includes('\n')) return `${name} ${block(field)}`.split('\n');
    if (isSmall(name, field)) return [`${name} ${flow(field)}`];
    return [name, ...lines(field).map(line => `  ${line}`)];
  });
}

/** Text of several lines, with or without an end of its last. */
function block(text: string): string {
  const inner = text.trimEnd().split('\n');
  return [text.endsWith('\n') ? '|' : '|-', ...inner.map(line => `  ${line}`)].join('\n');
}

function under(first: string, rest: string, item: unknown): readonly string[] {
  const inner = isSmall(first, item) ? [flow(item)] : lines(item);
  return inner.map((line, index) => `${index === 0 ? first : rest}${line}`);
}

function isSmall(before: string, value: unknown): boolean {
  return typeof value !== 'object' || before.length + flow(value).length < LINE;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  for (const name of variantNames()) {
    const text = renderedText(name);
    writeFileSync(join(MANIFESTS, 'rendered', `${name}.yaml`), text);
    console.log(`manifests/rendered/${name}.yaml: ${text.split('\n').length - 1} lines`);
  }
}
