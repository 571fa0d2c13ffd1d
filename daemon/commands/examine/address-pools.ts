/** Whether the named pools of load-balancer addresses can be read, and what is wrong with which. */
import { Projector } from '../../cluster/project.ts';
import { messageOf } from '../../errors.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

/** What --loadbalancer-pools names. */
export interface PoolsPlace {
  /** As it was written. */
  readonly name: string;
  /** The ConfigMap that holds them, of a file one that would; undefined where there is none. Rejects where that cannot be found out. */
  readonly read: (signal: AbortSignal) => Promise<object | undefined>;
}

export function addressPoolsExaminer({ name, read }: PoolsPlace): Examiner {
  return {
    title: 'Load-balancer addresses',
    examine: async signal => {
      try {
        const raw = await read(signal);
        if (raw === undefined)
          return [missing(name, 'is not there, and so are no named pools; make it, or correct --loadbalancer-pools')];
        return judgePools(name, raw);
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        return [missing(name, `cannot be read: ${messageOf(thrown)}`)];
      }
    },
  };
}

/** @param raw a ConfigMap as the API has it */
export function judgePools(name: string, raw: object): readonly Finding[] {
  const { object, complaints } = new Projector().project('ConfigMap', raw);
  const troubles = complaints.map(({ message }) => warning(name, message));
  if (object?.unreadable === undefined)
    return troubles.length > 0 ? troubles : [missing(name, 'holds no pools that can be read')];
  const pools = object.pools.map(pool => pool.name).join(', ');
  return [pools === '' ? warning(name, 'holds no pool') : ok(name, `pools ${pools}`), ...troubles];
}
