/** Options of single commands. The daemon itself takes them and has no use for them. */
import { option } from './option.ts';
import { duration, MINUTE, oneOf, SECOND, text, wordList } from './value-types.ts';

/** Whose traces on a node we know. */
export const PREDECESSORS = ['kube-router', 'kube-proxy'] as const;
export type Predecessor = (typeof PREDECESSORS)[number];

export const COMMAND_OPTIONS = {
  output: option(
    'commands',
    oneOf('text', 'json', 'script'),
    'text',
    'How status, plan, why and check print: for people (text), for programs (json), or, plan only, as the scripts that the tools would be given (script).',
    { shorthand: 'o' },
  ),
  snapshot: option(
    'commands',
    text('path'),
    '',
    'plan: a file that the command snapshot wrote, in place of this host and its cluster.',
  ),
  of: option(
    'commands',
    wordList(...PREDECESSORS),
    [],
    'cleanup: remove what these left on this host, in place of what is ours. They must have been stopped.',
  ),
  duration: option(
    'commands',
    duration({ min: SECOND, max: MINUTE }),
    10 * SECOND,
    'profile: how long the daemon is watched for a CPU profile.',
  ),
} as const;
