/** What stands in a coordination.k8s.io/v1 Lease about its holder: as client-go's `leaderelection` writes and reads it. */
import { isRawObject, type RawObject } from '../cluster/raw-object.ts';

export interface LeaseRecord {
  /** '' for nobody. */
  readonly holderIdentity: string;
  readonly leaseDurationSeconds: number;
  /** As written (MicroTime); '' where absent. */
  readonly acquireTime: string;
  readonly renewTime: string;
  /** How often the holder changed. */
  readonly leaseTransitions: number;
}

/** Garbage reads as nobody's. */
export function recordOf(lease: RawObject): LeaseRecord {
  const spec = isRawObject(lease['spec']) ? lease['spec'] : {};
  const text = (field: string): string => (typeof spec[field] === 'string' ? spec[field] : '');
  const number = (field: string): number => (typeof spec[field] === 'number' ? spec[field] : 0);
  return {
    holderIdentity: text('holderIdentity'),
    leaseDurationSeconds: number('leaseDurationSeconds'),
    acquireTime: text('acquireTime'),
    renewTime: text('renewTime'),
    leaseTransitions: number('leaseTransitions'),
  };
}

export function sameRecord(one: LeaseRecord, other: LeaseRecord): boolean {
  return (
    one.holderIdentity === other.holderIdentity &&
    one.leaseDurationSeconds === other.leaseDurationSeconds &&
    one.acquireTime === other.acquireTime &&
    one.renewTime === other.renewTime &&
    one.leaseTransitions === other.leaseTransitions
  );
}

/**
 * MicroTime: RFC 3339 with exactly six digits, which Go parses no other way. A wall clock tells milliseconds: the last three are drawn, so that what we
 * wrote is told from what another one of our name wrote in the same millisecond.
 *
 * @param random a number in [0, 1)
 */
export function microTime(epochMs: number, random: number): string {
  const drawn = String(Math.floor(random * 1000)).padStart(3, '0');
  return new Date(epochMs).toISOString().replace('Z', `${drawn}Z`);
}
