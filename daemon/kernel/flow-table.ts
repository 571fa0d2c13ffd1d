/**
 * How full the kernel's table of flows is. Where it is full, the kernel drops every new flow of the node and says so in its own log alone: whoever looks at
 * Services sees clients time out, now and then, at any of them.
 */
import type { Clock } from '../net/clock.ts';

export interface FlowTableOptions {
  readonly clock: Clock;
  /** Rejects where there is no such file: nobody tracks flows yet. */
  readonly readFile: (path: string) => Promise<string>;
  /** The table is nearly full (shown as `250000 of 262144 flows`), or is not any more (undefined). Told once each. */
  readonly onChange: (shown: string | undefined) => void;
}

/** Milliseconds between two looks. */
const LOOK_MS = 30_000;
/** Shares of the table: above the first it is told, below the second it is well again. */
const [NEARLY_FULL, WELL] = [0.9, 0.75];
const FOLDER = '/proc/sys/net/netfilter';

/** Looks from now on, until the returned function is called. */
export function watchFlowTable({ clock, readFile, onChange }: FlowTableOptions): () => void {
  let isTold = false;
  let cancel: () => void = () => undefined;
  let isOver = false;
  const look = async (): Promise<void> => {
    const [count, max] = await Promise.all(
      ['count', 'max'].map(name => readFile(`${FOLDER}/nf_conntrack_${name}`).then(Number, () => Number.NaN)),
    );
    if (isOver) return;
    const share = (count ?? 0) / (max ?? 0);
    if (!isTold && share >= NEARLY_FULL) {
      isTold = true;
      onChange(`${count} of ${max} flows`);
    } else if (isTold && share < WELL) {
      isTold = false;
      onChange(undefined);
    }
    arm();
  };
  const arm = (): void => {
    cancel = clock.after(LOOK_MS, () => {
      void look();
    });
  };
  arm();
  return () => {
    isOver = true;
    cancel();
  };
}
