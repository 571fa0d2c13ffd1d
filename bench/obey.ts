/**
 * How a station is told what to do: each line of standard input is one operation, answered by one line of standard output,
 * `{"number":1,"ok":...}` or `{"number":1,"error":"..."}`; number 0 says that it is ready.
 */
import { createInterface } from 'node:readline';

/** Obeys until standard input ends, and ends the process then: an API server's watches hold it otherwise. */
export async function obeyInput(obey: (operation: unknown) => Promise<unknown>): Promise<never> {
  const answer = (number: number, outcome: { ok: unknown } | { error: string }): void => {
    process.stdout.write(`${JSON.stringify({ number, ...outcome })}\n`);
  };
  let number = 0;
  answer(number++, { ok: 'ready' });
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      answer(number, { ok: (await obey(JSON.parse(line))) ?? null });
    } catch (error) {
      answer(number, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
    number++;
  }
  process.exit(0);
}
