/** Where the events of sources go: objects to the store, heartbeats to who counts them, changes of a source's state to the log as well. */
import type { Heartbeats } from './cluster/heartbeats.ts';
import type { ClusterObject, Kind, SourceEvents } from './cluster/kinds.ts';
import type { Store } from './cluster/store.ts';
import type { Reporter } from './observe/reporter.ts';

export interface Listeners {
  readonly store: Store;
  readonly heartbeats: Heartbeats;
  readonly reporter: Reporter;
  /** Whether what decides who serves an address may be out of date. */
  readonly onSight: (isBlind: boolean) => void;
}

const DECISIVE: readonly Kind[] = ['Service', 'EndpointSlice', 'Node'];

/** The store hears of Leases too, of which it keeps no more than that they were listed and what is wrong with them: a renewal changes nothing in it. */
export function sourceEvents({ store, heartbeats, reporter, onSight }: Listeners): SourceEvents {
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
      onSight(DECISIVE.some(each => store.degradations().has(each)));
    },
  };
}
