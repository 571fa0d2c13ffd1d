/** Who of several allocators hands out addresses, as each of them sees it. */

/** A new object only when something in it changed: nothing in it grows with time. */
export type Standing = { readonly isElected: true } | { readonly isElected: false; readonly reason: string };

export interface ElectionStatus {
  /** `NAMESPACE/NAME` of the Lease; '' where there is none. */
  readonly lease: string;
  /** Who stands in it as far as we know; '' for nobody. */
  readonly holder: string;
  /** When the Lease was last seen to change, by our clock; undefined before the first time. */
  readonly observedAt: number | undefined;
  /** Since when the standing is what it is. */
  readonly since: number;
}

export interface Election {
  readonly standing: Standing;
  /** False as soon as another one may be elected, whatever `standing` still says: to be asked before each thing that only the elected may do. */
  isLeaderNow(): boolean;
  status(): ElectionStatus;
  /** `onChange`: `standing` is another one. */
  start(onChange: () => void): void;
  /** `release`: nothing that only the elected may do can happen any more, so that the next one need not wait. */
  stop(how: 'release' | 'keep'): Promise<void>;
}

/** Where there is nobody else. */
export class Unopposed implements Election {
  readonly standing: Standing = { isElected: true };

  isLeaderNow(): boolean {
    return true;
  }

  status(): ElectionStatus {
    return { lease: '', holder: '', observedAt: undefined, since: 0 };
  }

  start(): void {
    // It is so from the beginning.
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}
