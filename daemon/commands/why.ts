/** `fairway why SRC DST PORT`: what becomes of a packet on this node, and why. */
import { type Explanation, explanationText } from '../explain/explanation.ts';
import type { QuestionError } from '../explain/question.ts';
import { ask, controlSocketOf, textOf } from './control.ts';
import type { Invocation } from './invocation.ts';

const ALLOWED = 0;
const OTHERWISE = 1;
/** The question names something that is not there. */
const NOT_UNDERSTOOD = 2;

export async function why({ config, nodeName, operands }: Invocation): Promise<number> {
  const words = new URLSearchParams(operands.map((word): [string, string] => ['word', word]));
  const answer = await textOf(await ask(controlSocketOf(config, nodeName), `/why?${words.toString()}`));
  const explanation = JSON.parse(answer) as Explanation | QuestionError;
  if ('error' in explanation) {
    const { error, near } = explanation;
    process.stderr.write(`fairway: ${error}${near.length === 0 ? '' : ` Did you mean ${near.join(', ')}?`}\n`);
    return NOT_UNDERSTOOD;
  }
  process.stdout.write(config.output === 'json' ? `${answer}\n` : explanationText(explanation));
  return explanation.verdict.outcome === 'allowed' ? ALLOWED : OTHERWISE;
}
