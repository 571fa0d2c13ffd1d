/** Where the events of sources go: objects to the store, heartbeats to who counts them, changes of a source's state to the log as well. */
import type { Heartbeats } from './cluster/heartbeats.ts';
import type { ClusterObject, SourceEvents } from './cluster/kinds.ts';
import type { Store } from './cluster/store.ts';
import type { Reporter } from './observe/reporter.ts';

/** The store hears of Leases too, of which it keeps no more than that they were listed and what is wrong with them: a renewal changes nothing in it. */
export function sourceEvents(store: Store, heartbeats: Heartbeats, reporter: Reporter): SourceEvents {
  return {
    upsert: (object, complaints) => {
      store.upsert(object, complaints);
      if (object.kind === 'Lease') heartbeats.upsert(object);
    },
    remove: (kind, key) => {
      store.remove(kind, key);
      if (kind === 'Lease') heartbeats.remove(key);
    },
    reject: (kind, key, complaints) => {
      store.reject(kind, key, complaints);
      if (kind === 'Lease') heartbeats.remove(key);
    },
    replace: (kind, objects) => {
      store.replace(kind, objects);
      const all: readonly { readonly object: ClusterObject }[] = objects;
      if (kind === 'Lease') heartbeats.replace(all.flatMap(({ object }) => (object.kind === 'Lease' ? [object] : [])));
    },
    degraded: (kind, trouble) => {
      store.degraded(kind, trouble);
      if (kind === 'Lease') heartbeats.degraded(trouble !== undefined);
      reporter.source(kind, trouble);
    },
  };
}
