/** metav1.LabelSelector: its reading and its meaning. */
import type { LabelOperator, LabelRequirement, LabelSelector, Namespace } from './kinds.ts';
import { isAbsent, isRawObject, type RawObject } from './raw-object.ts';

/** The label that the API server gives every Namespace: its name. */
export const NAMESPACE_NAME = 'kubernetes.io/metadata.name';

/** True where all requirements hold; NotIn and DoesNotExist hold for what has no such label. */
export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  for (const requirement of selector.requirements) {
    if (!holds(requirement, labels[requirement.key])) return false;
  }
  return true;
}

/**
 * Like {@link matchesLabels} for a namespace, which need not be known yet. Of an unknown one only the name is certain, and what is
 * uncertain does not match: a NotIn that held for want of labels would open what the labels may close.
 */
export function matchesNamespace(selector: LabelSelector, name: string, namespace: Namespace | undefined): boolean {
  for (const requirement of selector.requirements) {
    const { key, operator } = requirement;
    if (namespace === undefined && (key !== NAMESPACE_NAME || operator !== 'In')) return false;
    const value = namespace?.labels[key] ?? (key === NAMESPACE_NAME ? name : undefined);
    if (!holds(requirement, value)) return false;
  }
  return true;
}

/** What is no string is no label but something of Object.prototype, such as `constructor`. */
function holds({ operator, values }: LabelRequirement, value: string | undefined): boolean {
  const exists = typeof value === 'string';
  switch (operator) {
    case 'In':
      return exists && values.includes(value);
    case 'NotIn':
      return !exists || !values.includes(value);
    case 'Exists':
      return exists;
    case 'DoesNotExist':
      return !exists;
  }
}

/** Told what is wrong in a selector; a FieldReader is one. */
export interface Complaining {
  complain(field: string, value: unknown, remedy: string): void;
}

/** A selector as far as it can be read. */
export interface ReadSelector {
  /** Of the readable requirements: without the others it selects more, never fewer. */
  readonly selector: LabelSelector;
  /** False where some of it could not be read; what, was complained of. */
  readonly isWhole: boolean;
}

/** The canonical selector, or undefined with complaints where not all of it can be read. Absent is empty: it matches everything. */
export function selectorOf(raw: unknown, field: string, read: Complaining): LabelSelector | undefined {
  const { selector, isWhole } = readSelector(raw, field, read);
  return isWhole ? selector : undefined;
}

/** Like {@link selectorOf}, keeping what can be read. */
export function readSelector(raw: unknown, field: string, read: Complaining): ReadSelector {
  if (isAbsent(raw)) return { selector: EVERYTHING, isWhole: true };
  if (!isRawObject(raw)) {
    read.complain(field, raw, 'not a label selector; write matchLabels or matchExpressions under it');
    return { selector: EVERYTHING, isWhole: false };
  }
  const unknown = unknownField(raw, ['matchLabels', 'matchExpressions']);
  if (unknown !== undefined) read.complain(field, unknown, 'not a field of a selector; correct or remove it');
  const requirements = [...labelsOf(raw, field, read), ...expressionsOf(raw, field, read)];
  const readable = requirements.filter(requirement => requirement !== undefined);
  const isWhole = unknown === undefined && readable.length === requirements.length;
  return { selector: readable.length === 0 ? EVERYTHING : { requirements: canonical(readable) }, isWhole };
}

/** The first field that has a value and is none of these: what it would say, is not known here. */
export function unknownField(raw: RawObject, known: readonly string[]): string | undefined {
  return Object.keys(raw).find(field => !known.includes(field) && !isAbsent(raw[field]));
}

/** Undefined stands for an unreadable requirement. */
function labelsOf(raw: RawObject, field: string, read: Complaining): readonly (LabelRequirement | undefined)[] {
  const labels = raw['matchLabels'];
  if (isAbsent(labels)) return [];
  if (!isRawObject(labels)) {
    read.complain(`${field}.matchLabels`, labels, 'not a map of labels; write it as "app: web"');
    return [undefined];
  }
  return Object.entries(labels).map(([key, value]) => {
    if (!isLabelKey(key)) read.complain(`${field}.matchLabels`, key, NO_KEY);
    else if (typeof value === 'string') return { key, operator: 'In', values: [value] };
    else read.complain(`${field}.matchLabels[${key}]`, value, 'not a string; put it in quotes');
    return undefined;
  });
}

function expressionsOf(raw: RawObject, field: string, read: Complaining): readonly (LabelRequirement | undefined)[] {
  const expressions = raw['matchExpressions'];
  if (isAbsent(expressions)) return [];
  if (Array.isArray(expressions)) {
    return expressions.map((item: unknown) => expressionOf(item, `${field}.matchExpressions[]`, read));
  }
  read.complain(`${field}.matchExpressions`, expressions, 'not a list; begin each expression with "- key:"');
  return [undefined];
}

function expressionOf(raw: unknown, field: string, read: Complaining): LabelRequirement | undefined {
  if (!isRawObject(raw)) {
    read.complain(field, raw, 'not an expression; write it with key, operator and values');
    return undefined;
  }
  const { key, operator: word } = raw;
  const operator = OPERATORS.find(known => known === word);
  const values = valuesOf(raw['values'], `${field}.values`, read);
  const unknown = unknownField(raw, ['key', 'operator', 'values']);
  if (values === undefined) return undefined;
  if (unknown !== undefined) read.complain(field, unknown, 'not a field of an expression; correct or remove it');
  else if (!isLabelKey(key)) read.complain(`${field}.key`, key, NO_KEY);
  else if (operator === undefined) read.complain(`${field}.operator`, word, `not one of ${OPERATORS.join(', ')}; correct it`);
  else if (TAKES_VALUES[operator] && values.length === 0)
    read.complain(`${field}.values`, raw['values'], `${operator} needs values; add some`);
  else if (!TAKES_VALUES[operator] && values.length > 0)
    read.complain(`${field}.values`, raw['values'], `${operator} takes no values; remove them`);
  else return { key, operator, values };
  return undefined;
}

/** Sorted, each once. One wrong value spoils them all: In without it selects fewer, NotIn without it more. */
function valuesOf(raw: unknown, field: string, read: Complaining): readonly string[] | undefined {
  if (isAbsent(raw)) return NO_VALUES;
  if (!Array.isArray(raw)) {
    read.complain(field, raw, 'not a list; write it as [a, b]');
    return undefined;
  }
  const values: readonly unknown[] = raw;
  const strings = values.filter(value => typeof value === 'string');
  if (strings.length === values.length) return strings.length === 0 ? NO_VALUES : [...new Set(strings)].sort();
  read.complain(
    `${field}[]`,
    values.find(value => typeof value !== 'string'),
    'not a string; put it in quotes',
  );
  return undefined;
}

function canonical(requirements: readonly LabelRequirement[]): readonly LabelRequirement[] {
  const sorted = requirements.toSorted(compareRequirements);
  return sorted.filter((requirement, index) => {
    const former = sorted[index - 1];
    return former === undefined || compareRequirements(former, requirement) !== 0;
  });
}

function compareRequirements(a: LabelRequirement, b: LabelRequirement): number {
  return compare(a.key, b.key) || compare(a.operator, b.operator) || compareLists(a.values, b.values);
}

function compareLists(a: readonly string[], b: readonly string[]): number {
  for (const [index, value] of a.entries()) {
    const other = b[index];
    const order = other === undefined ? 1 : compare(value, other);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}

/** The API's qualified name: a name of at most 63 characters, perhaps behind a DNS prefix and a slash. */
function isLabelKey(key: unknown): key is string {
  return typeof key === 'string' && key.length <= 317 && LABEL_KEY.test(key);
}

const LABEL_KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const NO_KEY = 'not a label name; write it as app or example.com/app';

const OPERATORS: readonly LabelOperator[] = ['In', 'NotIn', 'Exists', 'DoesNotExist'];
const TAKES_VALUES: Readonly<Record<LabelOperator, boolean>> = { In: true, NotIn: true, Exists: false, DoesNotExist: false };

const NO_VALUES: readonly string[] = Object.freeze([]);
const EVERYTHING: LabelSelector = Object.freeze({ requirements: Object.freeze([]) });
