/**
 * What IPVS counts of one virtual service: its own sums, not those of its destinations, which go with them. The kernel brings them up to date every
 * two seconds (ip_vs_est.c).
 */
import type { Listener } from './tables.ts';

export interface ServiceTraffic {
  readonly listener: Listener;
  /** Since the virtual service was made. */
  readonly connections: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Each second, as the kernel estimates it: a mean that weighs the last few seconds most. */
  readonly connectionRate: number;
  readonly packetRateIn: number;
  readonly packetRateOut: number;
  readonly byteRateIn: number;
  readonly byteRateOut: number;
}
