/** Counts the paths that the speaker took: kube-router tells of them by kind. */
import type { Change, TableDriver } from '../reconcile/driver.ts';
import type { BgpPath } from '../reconcile/routing-tables.ts';

/** A path that is told now, or is not any more. */
export interface PathChange {
  readonly op: 'told' | 'withdrawn';
  readonly path: BgpPath;
}

export function countedPaths(
  inner: TableDriver<BgpPath>,
  onTold: (changes: readonly PathChange[]) => void,
): TableDriver<BgpPath> {
  return {
    read: (expected, signal) => inner.read(expected, signal),
    render: changes => inner.render(changes),
    async apply(changes, signal) {
      const result = await inner.apply(changes, signal);
      onTold(changes.filter(({ key }) => !result.failed.has(key)).map(pathChange));
      return result;
    },
  };
}

function pathChange(change: Change<BgpPath>): PathChange {
  return change.op === 'delete' ? { op: 'withdrawn', path: change.from } : { op: 'told', path: change.to };
}
