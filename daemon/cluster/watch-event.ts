/** One line of a watch. */
import { type ApiStatus, statusOfObject } from './api-status.ts';
import { isRawObject } from './raw-object.ts';
import { protocolTrouble } from './trouble.ts';

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: unknown; readonly version: string }
  | { readonly type: 'BOOKMARK'; readonly version: string; readonly endsInitialEvents: boolean }
  | { readonly type: 'ERROR'; readonly status: ApiStatus };

/** Throws Trouble where the line is no event. */
export function parseWatchEvent(line: string): WatchEvent {
  const raw = parsed(line);
  const [type, object] = isRawObject(raw) ? [raw['type'], raw['object']] : [];
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type, object, version: versionOf(object) };
    case 'BOOKMARK':
      return { type, version: versionOf(object), endsInitialEvents: annotation(object, 'k8s.io/initial-events-end') === 'true' };
    case 'ERROR':
      return { type, status: statusOfObject(object) };
    default:
      throw protocolTrouble(`the API server sent ${JSON.stringify(line.slice(0, 60))} where a watch event was due`);
  }
}

/**
 * Whether a resourceVersion lies after another. Kubernetes lets clients compare them as integers of any length within one resource
 * (KEP-5504); whatever is no integer is taken as newer, so that nothing is lost.
 */
export function isNewerVersion(version: string, than: string | undefined): boolean {
  if (than === undefined || !/^[1-9][0-9]*$/.test(version) || !/^[1-9][0-9]*$/.test(than)) return true;
  return version.length === than.length ? version > than : version.length > than.length;
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** '' where there is none. */
export function versionOf(object: unknown): string {
  const meta = isRawObject(object) ? object['metadata'] : undefined;
  const version = isRawObject(meta) ? meta['resourceVersion'] : undefined;
  return typeof version === 'string' ? version : '';
}

function annotation(object: unknown, key: string): unknown {
  const meta = isRawObject(object) ? object['metadata'] : undefined;
  const annotations = isRawObject(meta) ? meta['annotations'] : undefined;
  return isRawObject(annotations) ? annotations[key] : undefined;
}
