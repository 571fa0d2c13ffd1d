/** A small process with something to find in its profiles: one function is busy half of the time, another keeps what it makes. Its port is its first line. */
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock } from '../../daemon/net/clock.ts';
import { listenHttp } from '../../daemon/observe/http.ts';
import { profilePages } from '../../daemon/observe/profile.ts';
import { freePort } from './free-port.ts';

class Keepsake {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

function countPrimes(below: number): number {
  let primes = 0;
  for (let candidate = 2; candidate < below; candidate++) {
    let divisor = 2;
    while (divisor * divisor <= candidate && candidate % divisor !== 0) divisor++;
    if (divisor * divisor > candidate) primes++;
  }
  return primes;
}

function keepMore(kept: readonly Keepsake[]): readonly Keepsake[] {
  return [...kept.slice(-20_000), ...Array.from({ length: 200 }, (_, index) => new Keepsake(`text ${index} of ${kept.length}`))];
}

const port = await freePort();
await listenHttp('127.0.0.1', port, profilePages(systemClock()));
process.stdout.write(`${port}\n`);
// The test holds our input open: at its end, whatever became of it, we go.
process.stdin.once('end', () => process.exit()).resume();
let kept: readonly Keepsake[] = [];
for (let primes = 0; ; primes += countPrimes(30_000)) {
  kept = keepMore(kept);
  await pause(Math.min(5, primes));
}
