/** What a node's clients must not notice of a change of owner. */
import assert from 'node:assert/strict';
import type { Lab } from '../lab.ts';
import { cuts, failedOpenings, type Load, lost, type Stream, shown } from '../traffic/load.ts';
import { until } from '../until.ts';

/** Ends the loads once each has made connections after this moment: no opening failed, no connection was cut, no datagram lost from the beginning on. */
export async function assertSpared(lab: Lab, loads: readonly Load[]): Promise<void> {
  const since = await lab.now();
  const openings = (load: Load): number => load.exchanges.filter(({ isOpening, began }) => isOpening && began > since).length;
  await until(
    'every host has new connections by now',
    () => Promise.resolve(loads.map(openings)),
    counts => counts.every(count => count > 10),
  );
  const all = (await Promise.all(loads.map(load => load.end()))).flat();
  const count = (kind: Stream['kind']): number => all.filter(({ stream }) => stream.kind === kind).length;
  console.log(`      ${count('short')} connections, ${count('keep')} requests by kept ones, ${count('flow')} datagrams of flows`);
  assert.deepEqual(failedOpenings(all), []);
  assert.deepEqual(cuts(all).map(shown), []);
  assert.deepEqual(lost(all).map(shown), []);
}
