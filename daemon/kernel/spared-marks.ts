/**
 * IPVS without kube-router's virtual services by mark (its direct server return). Its iptables rules set these marks behind ours, and so overwrite them,
 * until they are removed: until then packets are served by its virtual services alone.
 */
import type { TableDriver } from '../reconcile/driver.ts';
import type { VirtualServer } from '../reconcile/tables.ts';

export interface SparedMarksOptions {
  readonly inner: TableDriver<VirtualServer>;
  /** The marks that are kube-router's. Asked only where there is a virtual service by a mark that nobody expects. */
  readonly marksOfOthers: (signal: AbortSignal) => Promise<ReadonlySet<number>>;
}

export function sparingMarks({ inner, marksOfOthers }: SparedMarksOptions): TableDriver<VirtualServer> {
  return {
    async read(expected, signal) {
      const found = await inner.read(expected, signal);
      const strange = [...found].filter(([key, { listener }]) => listener.by === 'mark' && !expected.has(key));
      if (strange.length === 0) return found;
      const marks = await marksOfOthers(signal);
      const spared = strange.flatMap(([key, { listener }]) => (listener.by === 'mark' && marks.has(listener.mark) ? [key] : []));
      if (spared.length === 0) return found;
      const kept = new Map(found);
      for (const key of spared) kept.delete(key);
      return kept;
    },
    apply: inner.apply.bind(inner),
    render: inner.render.bind(inner),
  };
}
