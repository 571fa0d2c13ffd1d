/** `fairway status`: what the running daemon does and what it complains of. */
import type { StatusReport } from '../observe/status.ts';
import { statusText } from '../observe/status-text.ts';
import { ask, controlSocketOf, textOf } from './control.ts';
import type { Invocation } from './invocation.ts';

/** Exit status 0 where every module works as it should, 1 where one does not, or none answers. */
export async function status({ config, nodeName }: Invocation): Promise<number> {
  const answer = await textOf(await ask(controlSocketOf(config, nodeName), '/status'));
  const report = JSON.parse(answer) as StatusReport;
  process.stdout.write(config.output === 'json' ? answer : statusText(report));
  return report.isLive && report.modules.every(({ state }) => state === 'ok') ? 0 : 1;
}
