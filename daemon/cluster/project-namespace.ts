/** core/v1 Namespace to the narrow type. */
import type { Namespace, ObjectMeta } from './kinds.ts';
import type { FieldReader, RawObject } from './raw-object.ts';
import { NAMESPACE_NAME } from './selectors.ts';

/** Never undefined: a Namespace with a name is a Namespace. The label of its name is set as the API server sets it, whatever stood there. */
export function projectNamespace(meta: ObjectMeta, raw: RawObject, read: FieldReader): Namespace {
  const labels = read.stringMap(read.object(raw['metadata'], 'metadata')['labels'], 'metadata.labels', () => true);
  return { kind: 'Namespace', meta, labels: { ...labels, [NAMESPACE_NAME]: meta.name } };
}
