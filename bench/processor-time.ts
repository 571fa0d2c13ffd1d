/** What processes have used and hold. */
import { readdirSync, readFileSync } from 'node:fs';

/** Milliseconds on a processor of all threads there are (proc_pid_schedstat, in nanoseconds). */
export function processorTimeOf(pid: number): number {
  const folder = `/proc/${pid}/task`;
  const times = readdirSync(folder).map(thread => Number(readFileSync(`${folder}/${thread}/schedstat`, 'utf8').split(' ')[0]));
  return times.reduce((total, time) => total + time, 0) / 1e6;
}

/** A field of proc_pid_status, in bytes: `VmRSS`, `VmHWM` at its peak, `RssFile` of it the program and its libraries. */
export function memoryOf(pid: number, field: 'VmRSS' | 'VmHWM' | 'RssFile'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+([0-9]+) kB`, 'm').exec(status)?.[1]) * 1024;
}
