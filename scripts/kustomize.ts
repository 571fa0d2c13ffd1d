/**
 * The part of kustomize that `manifests/` is written in: resources, components, and JSON patches (RFC 6902) of what they find by kind and name.
 *
 * Debian 12 has no kustomize that knows components (its kubectl has 2.0), and no cluster needs one to be installed: the rendered files are made here, and
 * a test compares them with what a real kustomize makes of the same tree wherever there is one. Anything else than that part is refused.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { load, loadAll } from 'js-yaml';

/** A Kubernetes object as its YAML has it. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly [field: string]: unknown;
}

type Objects = readonly KubeObject[];

interface Patch {
  readonly target: { readonly kind: string; readonly name?: string };
  /** The YAML of a list of {@link Operation}. */
  readonly patch: string;
}

interface Kustomization {
  readonly kind: 'Kustomization' | 'Component';
  readonly resources: readonly string[];
  readonly components: readonly string[];
  readonly patches: readonly Patch[];
}

interface Operation {
  readonly op: 'add' | 'replace' | 'remove';
  readonly path: string;
  readonly value?: unknown;
}

const OPERATIONS = new Set(['add', 'replace', 'remove']);
const FIELDS = new Set(['apiVersion', 'kind', 'resources', 'components', 'patches']);

/** All objects of a folder with a `kustomization.yaml`, in the order in which the files name them. */
export function build(folder: string): Objects {
  return accumulate(folder, []);
}

/** What a kustomization makes of the objects that are there before it: a component patches those of its neighbours, too. */
function accumulate(folder: string, before: Objects): Objects {
  const { resources, components, patches } = kustomizationOf(folder);
  const own = resources.flatMap(path => objectsAt(join(folder, path)));
  const all = components.reduce<Objects>((objects, path) => accumulate(join(folder, path), objects), [...before, ...own]);
  return patches.reduce<Objects>((objects, patch) => patched(objects, patch, folder), all);
}

function kustomizationOf(folder: string): Kustomization {
  const file = join(folder, 'kustomization.yaml');
  const read = load(readFileSync(file, 'utf8')) as Partial<Kustomization>;
  const unknown = Object.keys(read).filter(field => !FIELDS.has(field));
  if (unknown.length > 0) throw new Error(`${file}: ${unknown.join(', ')} is not among what scripts/kustomize.ts knows`);
  return { kind: 'Kustomization', resources: [], components: [], patches: [], ...read };
}

/** Of a file its documents, of a folder what its kustomization makes. */
function objectsAt(path: string): Objects {
  if (!path.endsWith('.yaml')) return build(path);
  return loadAll(readFileSync(path, 'utf8')) as KubeObject[];
}

function patched(objects: Objects, { target, patch }: Patch, folder: string): Objects {
  const operations = load(patch) as readonly Operation[];
  const other = operations.find(({ op }) => !OPERATIONS.has(op));
  if (other !== undefined) throw new Error(`${folder}: ${other.op} is not among what scripts/kustomize.ts knows`);
  const isMeant = ({ kind, metadata }: KubeObject): boolean =>
    kind === target.kind && (target.name === undefined || target.name === metadata.name);
  if (!objects.some(isMeant)) throw new Error(`${folder}: nothing is a ${target.kind} ${target.name ?? ''}`);
  return objects.map(object =>
    isMeant(object) ? operations.reduce<unknown>((value, operation) => applied(value, operation), object) : object,
  ) as Objects;
}

/** The value with one operation done; nothing of the value itself is changed. Fails where the path leads to nothing. */
function applied(value: unknown, operation: Operation): unknown {
  const { op, path, value: given } = operation;
  const [first = '', ...rest] = path.slice(1).split('/');
  // `~1` is a slash in a key (RFC 6901).
  const key = first.replaceAll('~1', '/').replaceAll('~0', '~');
  const isLast = rest.length === 0;
  const below = (inner: unknown): unknown => (isLast ? given : applied(inner, { ...operation, path: `/${rest.join('/')}` }));
  if (isLast && op === 'add')
    return Array.isArray(value) ? appended(value, key, given) : { ...fieldsOf(value, key), [key]: given };
  if (Array.isArray(value)) {
    const items: readonly unknown[] = value;
    if (!(Number(key) < items.length)) throw new Error(`${op}: there is no item ${key}`);
    return isLast && op === 'remove' ? items.toSpliced(Number(key), 1) : items.with(Number(key), below(items[Number(key)]));
  }
  const fields = fieldsOf(value, key);
  if (!(key in fields)) throw new Error(`${op}: there is no field ${key}`);
  if (isLast && op === 'remove') return Object.fromEntries(Object.entries(fields).filter(([name]) => name !== key));
  return { ...fields, [key]: below(fields[key]) };
}

function appended(items: readonly unknown[], key: string, given: unknown): readonly unknown[] {
  if (key !== '-') throw new Error(`add: only at the end of a list (-), not at ${key}`);
  return [...items, given];
}

function fieldsOf(value: unknown, key: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw new Error(`there is nothing that could have a field ${key}`);
  return value as Readonly<Record<string, unknown>>;
}
