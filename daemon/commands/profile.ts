/** `fairway profile cpu|heap [FILE]`: where the running daemon spends its time, or its memory; for the developer tools of Chrome and VS Code. */
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { FairwayError } from '../errors.ts';
import { systemClock } from '../net/clock.ts';
import { ask, controlSocketOf } from './control.ts';
import type { Invocation } from './invocation.ts';

const KINDS = {
  cpu: { extension: 'cpuprofile', target: (seconds: number): string => `/profile/cpu?seconds=${seconds}` },
  heap: { extension: 'heapsnapshot', target: (): string => '/profile/heap' },
} as const;

/** Exit status 0 with the name of the file on standard output. */
export async function profile({ config, nodeName, operands }: Invocation): Promise<number> {
  const [word = '', file] = operands;
  const kind = word === 'cpu' || word === 'heap' ? KINDS[word] : undefined;
  if (kind === undefined) throw new FairwayError('FW_CONFIG_INVALID', `profile ${word}: say what of, cpu or heap`);
  const answer = await ask(controlSocketOf(config, nodeName), kind.target(config.duration / 1000));
  const second = new Date(systemClock().now()).toISOString().slice(0, 19).replaceAll(':', '');
  const path = file ?? join(process.cwd(), `fairway-${nodeName}-${second}.${kind.extension}`);
  await pipeline(answer, createWriteStream(path, { mode: 0o600 }));
  process.stdout.write(`${path}\n`);
  return 0;
}
