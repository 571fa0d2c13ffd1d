/** From the command line and the environment to a configuration, or to everything that is wrong with them. */
import { suggest } from '../net/suggest.ts';
import { asksDaemon, COMMAND_NAMES, COMMANDS, type CommandName, findCommand } from './commands.ts';
import type { Config } from './config.ts';
import type { ConfigError } from './config-error.ts';
import { type EnvironmentVariables, isInCluster, readEnvironment } from './environment.ts';
import { BUILT_MODULES, type ModuleName } from './modules.ts';
import { FLAG_NAMES, type FlagName, keyOf, type OptionValues, optionOf } from './options.ts';
import { checkRules } from './rules.ts';
import { type Token, tokenize } from './tokens.ts';
import { bool } from './value-types.ts';
import { type ConfigWarning, warningsOf } from './warnings.ts';

export type ParseResult =
  | {
      readonly kind: 'run';
      readonly command: CommandName;
      readonly operands: readonly string[];
      readonly config: Config;
      readonly explicit: ReadonlySet<FlagName>;
      readonly warnings: readonly ConfigWarning[];
    }
  | { readonly kind: 'help' }
  | { readonly kind: 'version' }
  | { readonly kind: 'errors'; readonly errors: readonly ConfigError[] };

interface Assigned {
  readonly values: OptionValues;
  readonly explicit: ReadonlySet<FlagName>;
  /** Flags whose value could not be read; `values` has their defaults. */
  readonly faulty: ReadonlySet<FlagName>;
  readonly errors: readonly ConfigError[];
}

interface Chosen {
  readonly command: CommandName;
  readonly operands: readonly string[];
  readonly errors: readonly ConfigError[];
}

/**
 * Reads the arguments after the program's name. Pure: the caller exits, with EX_CONFIG for errors. `--help` and `--version` win over
 * errors elsewhere on the line.
 */
export function parseArguments(
  argv: readonly string[],
  env: EnvironmentVariables,
  built: ReadonlySet<ModuleName> = BUILT_MODULES,
): ParseResult {
  const tokens = tokenize(argv);
  const { values, explicit, faulty, errors: valueErrors } = assign(tokens);
  if (values.help) return { kind: 'help' };
  if (values.version) return { kind: 'version' };

  const { command, operands, errors: commandErrors } = chooseCommand(tokens, values.cleanupConfig);
  const readsCluster = command === 'run' || (command === 'plan' && values.snapshot === '' && !asksDaemon(explicit));
  const ruleErrors = checkRules({ values, inCluster: isInCluster(env) }, faulty, readsCluster);
  const errors = [
    ...tokens.flatMap(token => (token.kind === 'error' ? [token.error] : [])),
    ...valueErrors,
    ...commandErrors,
    ...ruleErrors,
  ];
  if (errors.length > 0) return { kind: 'errors', errors };

  const config: Config = { ...values, environment: readEnvironment(env) };
  return {
    kind: 'run',
    command,
    operands,
    config,
    explicit,
    warnings: readsCluster ? warningsOf({ values, explicit, built }) : [],
  };
}

/** The configuration of an empty command line, for the environment given. */
export function defaultConfig(env: EnvironmentVariables): Config {
  return { ...assign([]).values, environment: readEnvironment(env) };
}

function assign(tokens: readonly Token[]): Assigned {
  const given = new Map<FlagName, unknown>();
  const faulty = new Set<FlagName>();
  const errors: ConfigError[] = [];
  for (const token of tokens) {
    if (token.kind !== 'flag') continue;
    const { flag, text } = token;
    const { type } = optionOf(flag);
    const parsed = type.parse(text);
    if (parsed.ok) {
      const joins = type.append !== undefined && given.has(flag);
      given.set(flag, joins ? type.append?.(given.get(flag), parsed.value) : parsed.value);
    } else {
      faulty.add(flag);
      errors.push({
        subject: `--${flag}`,
        ...(type.secret ? {} : { value: text }),
        problem: parsed.problem,
        remedy: parsed.remedy,
      });
    }
  }
  const entries = FLAG_NAMES.map(flag => [keyOf(flag), given.has(flag) ? given.get(flag) : optionOf(flag).default]);
  // Every key is there, and each value came out of its own option's parser: the table's type is the object's type.
  const values = Object.fromEntries(entries) as OptionValues;
  return { values, explicit: new Set(given.keys()), faulty, errors };
}

/** The first word is the command; what follows it are its operands. */
function chooseCommand(tokens: readonly Token[], cleanupConfig: boolean): Chosen {
  const [word, ...operands] = tokens.flatMap(token => (token.kind === 'word' ? [token.text] : []));
  if (word === undefined) return { command: cleanupConfig ? 'cleanup' : 'run', operands, errors: [] };
  const command = findCommand(word);
  if (command === undefined) return { command: 'run', operands: [], errors: [strayWord(word), ...operands.map(strayWord)] };
  const errors: ConfigError[] = [];
  if (COMMANDS[command].operands === '') errors.push(...operands.map(strayWord));
  if (cleanupConfig && command !== 'cleanup') {
    errors.push({ subject: '--cleanup-config', problem: `contradicts the command ${command}`, remedy: 'leave out one of them' });
  }
  return { command, operands, errors };
}

function strayWord(word: string): ConfigError {
  const subject = JSON.stringify(word);
  if (bool.parse(word).ok) {
    return { subject, problem: 'stands alone', remedy: 'join a boolean to its flag by an equals sign: --run-router=false' };
  }
  const near = suggest(word, COMMAND_NAMES);
  const remedy = near === undefined ? `the commands are ${COMMAND_NAMES.join(', ')}` : `did you mean ${near}?`;
  return { subject, problem: 'is neither a flag nor a command', remedy };
}
