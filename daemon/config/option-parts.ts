/** What several lines of the table of options share. */
import { duration, uint } from './value-types.ts';

/** A time that is never zero, in milliseconds. */
export const period = duration({ min: 1 });

/** A TCP or UDP port; 0 for none. */
export const optionalPort = uint(16);

/** Why kube-router's flags for periodic full syncs have no effect. */
export const AUDITED = 'changes are applied as they happen, and every table is read back each --audit-period';
