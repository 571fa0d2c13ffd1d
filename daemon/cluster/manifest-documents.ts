/** The text of a manifest file to the API objects in it. */
import { messageOf } from '../errors.ts';
import type { Kind } from './kinds.ts';
import { API_VERSIONS } from './project.ts';
import { isAbsent, isRawObject, type RawObject } from './raw-object.ts';
import { DocumentError, readYaml } from './yaml.ts';

/** One YAML document, or a whole JSON file. */
export interface ManifestDocument {
  readonly text: string;
  /** Number of its first line in the file, from 1. */
  readonly line: number;
}

/** An object of a kind that is watched. */
export interface ManifestObject {
  readonly kind: Kind;
  readonly raw: RawObject;
}

/** What one document held, and what in it was no object at all. */
export interface DocumentContent {
  readonly objects: readonly ManifestObject[];
  readonly problems: readonly string[];
}

/**
 * The documents of a YAML stream. A line that begins with `---` ends a document wherever it stands (YAML 1.2.2, 9.1.2: it may occur in
 * no scalar), so the text can be split before it is parsed, and a change in one document costs one document.
 */
export function splitDocuments(text: string): readonly ManifestDocument[] {
  const documents: ManifestDocument[] = [];
  let from = 0;
  let line = 1;
  for (const marker of text.matchAll(/^---(?=\s|$)/gm)) {
    const before = text.slice(from, marker.index);
    // Directives (%YAML) and comments before a marker belong to the document that it begins.
    if (/^(?!%|#|\s*$)/m.test(before)) {
      documents.push({ text: before, line });
      line += newlines(before);
      from = marker.index;
    }
  }
  documents.push({ text: text.slice(from), line });
  return documents;
}

/** Throws DocumentError. Only objects of the given kinds are handed back; other kinds are nobody's business here. */
export function readDocument(document: ManifestDocument, kinds: readonly Kind[]): DocumentContent {
  const objects: ManifestObject[] = [];
  const problems: string[] = [];
  for (const value of readYaml(document.text, document.line)) {
    if (isAbsent(value)) continue;
    if (!isRawObject(value)) problems.push('not a Kubernetes object; each document is a map with apiVersion, kind and metadata');
    else collect(value, kinds, objects, problems);
  }
  return { objects, problems };
}

/** The whole file as one document; JSON of any size parses far faster than YAML. Throws DocumentError. */
export function readJson(text: string, kinds: readonly Kind[]): DocumentContent {
  const objects: ManifestObject[] = [];
  const problems: string[] = [];
  const value = parseJson(text);
  if (isRawObject(value)) collect(value, kinds, objects, problems);
  else problems.push('not a Kubernetes object; a JSON file is one object with apiVersion, kind and metadata');
  return { objects, problems };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DocumentError(lineOfJsonError(text, messageOf(error)), messageOf(error));
  }
}

/** V8 names the position of some mistakes only, and quotes what is around the others. */
function lineOfJsonError(text: string, message: string): number {
  const position = /position (\d+)/.exec(message)?.[1];
  if (position !== undefined) return 1 + newlines(text.slice(0, Number(position)));
  const around = /, (?:\.\.\.)?"(.*?)"(?:\.\.\.)? is not valid JSON$/s.exec(message)?.[1] ?? '';
  return 1 + newlines(text.slice(0, text.lastIndexOf(around) + around.length).trimEnd());
}

/** One object, or those of a `List` or `ServiceList`; a list within a list is no API object. */
function collect(value: RawObject, kinds: readonly Kind[], objects: ManifestObject[], problems: string[]): void {
  const kind = value['kind'];
  if (typeof kind !== 'string' || kind === '') {
    problems.push('an object without kind is ignored; add apiVersion and kind');
  } else if (kind.endsWith('List') && Array.isArray(value['items'])) {
    const defaults = kind === 'List' ? {} : { kind: kind.slice(0, -'List'.length), apiVersion: value['apiVersion'] };
    for (const item of value['items']) {
      if (!isRawObject(item)) problems.push(`${kind}: an item is not an object and is ignored`);
      else if (!('items' in item)) collect({ ...defaults, ...item }, kinds, objects, problems);
      else problems.push(`${kind}: a list within a list is ignored`);
    }
  } else {
    const known = kinds.find(candidate => candidate === kind);
    if (known !== undefined && isOurVersion(known, value['apiVersion'])) objects.push({ kind: known, raw: value });
  }
}

/** Other API groups have a Service too. */
function isOurVersion(kind: Kind, apiVersion: unknown): boolean {
  return isAbsent(apiVersion) || (typeof apiVersion === 'string' && API_VERSIONS[kind].test(apiVersion));
}

function newlines(text: string): number {
  return text.split('\n').length - 1;
}
