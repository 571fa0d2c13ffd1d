/** How a Service's connections are spread: IPVS scheduler, its flags, persistence (ipvsadm(8)). */
import type { Service } from '../../daemon/cluster/kinds.ts';
import type { Diagnostic, ObjectRef } from '../../daemon/reconcile/fragment.ts';

export interface Scheduling {
  readonly scheduler: string;
  readonly schedulerFlags: readonly string[];
  readonly persistenceSeconds: number;
}

const DEFAULT_SCHEDULER = 'rr';
const SCHEDULERS: readonly string[] = ['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'];
const FLAGS: readonly string[] = ['flag-1', 'flag-2', 'flag-3'];
/** Those that give the flags a meaning: fallback and port. */
const SCHEDULERS_WITH_FLAGS: readonly string[] = ['mh', 'sh'];
const NO_FLAGS: readonly string[] = [];

const SCHEDULER_ANNOTATION = 'kube-router.io/service.scheduler';
const FLAGS_ANNOTATION = 'kube-router.io/service.schedflags';

export function schedulingOf(service: Service, owner: ObjectRef, diagnostics: Diagnostic[]): Scheduling {
  const scheduler = schedulerOf(service, owner, diagnostics);
  return {
    scheduler,
    schedulerFlags: flagsOf(service, scheduler, owner, diagnostics),
    persistenceSeconds: service.sessionAffinitySeconds ?? 0,
  };
}

function schedulerOf(service: Service, owner: ObjectRef, diagnostics: Diagnostic[]): string {
  const wanted = service.annotations[SCHEDULER_ANNOTATION]?.trim() ?? '';
  if (wanted === '') return DEFAULT_SCHEDULER;
  const known = SCHEDULERS.find(scheduler => scheduler === wanted);
  if (known !== undefined) return known;
  diagnostics.push({
    code: 'FW_SERVICE_SCHEDULER',
    object: owner,
    message: `Service ${owner.key} asks for scheduler '${wanted}', which does not exist; using ${DEFAULT_SCHEDULER}. There are: ${SCHEDULERS.join(', ')}.`,
  });
  return DEFAULT_SCHEDULER;
}

function flagsOf(service: Service, scheduler: string, owner: ObjectRef, diagnostics: Diagnostic[]): readonly string[] {
  const wanted = (service.annotations[FLAGS_ANNOTATION] ?? '')
    .split(',')
    .map(flag => flag.trim())
    .filter(flag => flag !== '');
  if (wanted.length === 0) return NO_FLAGS;
  const complain = (message: string): void => {
    diagnostics.push({ code: 'FW_SERVICE_SCHEDULER', object: owner, message: `Service ${owner.key} ${message}` });
  };
  if (!SCHEDULERS_WITH_FLAGS.includes(scheduler)) {
    complain(
      `asks for scheduler flags, which ${scheduler} does not have; they are left out. Only ${SCHEDULERS_WITH_FLAGS.join(' and ')} have flags.`,
    );
    return NO_FLAGS;
  }
  for (const flag of wanted) {
    if (!FLAGS.includes(flag))
      complain(`asks for scheduler flag '${flag}', which does not exist; it is left out. There are: ${FLAGS.join(', ')}.`);
  }
  return FLAGS.filter(flag => wanted.includes(flag));
}
