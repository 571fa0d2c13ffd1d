/** The command line cut into flags and words, by the rules of pflag (the flag library of kube-router and Kubernetes). */

import { suggest } from '../net/suggest.ts';
import { findCommand } from './commands.ts';
import type { ConfigError } from './config-error.ts';
import { FLAG_NAMES, type FlagName, findFlag, findShorthand, optionOf } from './options.ts';

export type Token =
  | { readonly kind: 'flag'; readonly flag: FlagName; readonly text: string }
  | { readonly kind: 'word'; readonly text: string }
  | { readonly kind: 'error'; readonly error: ConfigError };

/** What one argument gave, and how many arguments it used up. */
interface Step {
  readonly tokens: readonly Token[];
  readonly used: number;
}

const error = (subject: string, problem: string, remedy: string): Token => ({
  kind: 'error',
  error: { subject, problem, remedy },
});

export function tokenize(argv: readonly string[]): readonly Token[] {
  const tokens: Token[] = [];
  for (let index = 0; index < argv.length; ) {
    const argument = argv[index] ?? '';
    const next = argv[index + 1];
    if (argument === '--') {
      tokens.push(...argv.slice(index + 1).map((text): Token => ({ kind: 'word', text })));
      break;
    }
    const step = stepOf(argument, next);
    tokens.push(...step.tokens);
    index += step.used;
  }
  return tokens;
}

function stepOf(argument: string, next: string | undefined): Step {
  if (argument.startsWith('--')) return longFlag(argument.slice(2), next);
  if (argument.startsWith('-') && argument !== '-') return shortFlags(argument.slice(1), next);
  return { tokens: [{ kind: 'word', text: argument }], used: 1 };
}

/** `--flag`, `--flag=value` or `--flag value`. A flag that can stand bare never takes the next argument. */
function longFlag(body: string, next: string | undefined): Step {
  if (body.startsWith('-') || body.startsWith('='))
    return { tokens: [error(`--${body}`, 'is not a flag', 'write --flag=value')], used: 1 };
  const equals = body.indexOf('=');
  const name = equals < 0 ? body : body.slice(0, equals);
  const flag = findFlag(name);
  if (flag === undefined) {
    const takesNext = equals < 0 && next !== undefined && !next.startsWith('-') && findCommand(next) === undefined;
    return { tokens: [unknownFlag(name)], used: takesNext ? 2 : 1 };
  }
  if (equals >= 0) return { tokens: [{ kind: 'flag', flag, text: body.slice(equals + 1) }], used: 1 };
  return withValue(flag, next);
}

/** `-v2`, `-v=2`, `-v 2`, and letters in a row: `-hV`. */
function shortFlags(body: string, next: string | undefined): Step {
  const long = findFlag(body.split('=', 1)[0] ?? '');
  if (long !== undefined && body.length > 1 && findShorthand(body[0] ?? '') === undefined) {
    return { tokens: [error(`-${body}`, 'has one dash', `write --${body}`)], used: 1 };
  }
  const tokens: Token[] = [];
  for (let rest = body; rest !== ''; rest = rest.slice(1)) {
    const letter = rest[0] ?? '';
    const flag = findShorthand(letter);
    if (flag === undefined) {
      const remedy = long === undefined ? 'long flags begin with two dashes; --help lists them' : `write --${body}`;
      return { tokens: [error(`-${body}`, `has the unknown letter ${JSON.stringify(letter)}`, remedy)], used: 1 };
    }
    if (rest.length > 2 && rest[1] === '=') return { tokens: [...tokens, { kind: 'flag', flag, text: rest.slice(2) }], used: 1 };
    const bare = optionOf(flag).type.bareMeans;
    if (bare === undefined) {
      if (rest.length > 1) return { tokens: [...tokens, { kind: 'flag', flag, text: rest.slice(1) }], used: 1 };
      const step = withValue(flag, next);
      return { tokens: [...tokens, ...step.tokens], used: step.used };
    }
    tokens.push({ kind: 'flag', flag, text: bare });
  }
  return { tokens, used: 1 };
}

function withValue(flag: FlagName, next: string | undefined): Step {
  const { type } = optionOf(flag);
  if (type.bareMeans !== undefined) return { tokens: [{ kind: 'flag', flag, text: type.bareMeans }], used: 1 };
  if (next === undefined) return { tokens: [error(`--${flag}`, 'has no value', `write --${flag}=${type.label}`)], used: 1 };
  return { tokens: [{ kind: 'flag', flag, text: next }], used: 2 };
}

function unknownFlag(name: string): Token {
  const negated = name.startsWith('no-') ? findFlag(name.slice(3)) : undefined;
  if (negated !== undefined) return error(`--${name}`, 'is not a flag', `write --${negated}=false`);
  const near = suggest(name, FLAG_NAMES);
  return error(`--${name}`, 'is not a flag', near === undefined ? '--help lists all flags' : `did you mean --${near}?`);
}
