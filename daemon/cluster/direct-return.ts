/** Whether a Service asks for direct server return: its endpoints answer clients themselves, under its external and load-balancer addresses. */
import type { Service } from './kinds.ts';

export const DIRECT_RETURN_ANNOTATION = 'kube-router.io/service.dsr';

export function returnsDirectly(service: Service): boolean {
  return directReturnOf(service) === 'tunnel';
}

/** The text of the annotation; '' where absent. Only `tunnel` means something. */
export function directReturnOf(service: Service): string {
  return service.annotations[DIRECT_RETURN_ANNOTATION]?.trim() ?? '';
}
