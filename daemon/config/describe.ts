/** The options in words: the text of `--help` and the page of the documentation. */
import { COMMAND_NAMES, COMMANDS } from './commands.ts';
import { ENVIRONMENT } from './environment.ts';
import { BUILT_MODULES, isModule, MODULE_NAMES, MODULES, type ModuleName, type OptionGroup } from './modules.ts';
import type { Option } from './option.ts';
import { FLAG_NAMES, type FlagName, optionOf } from './options.ts';

interface Group {
  readonly title: string;
  readonly flags: readonly FlagName[];
}

/** One line of a definition list: the term, and what it means. */
interface Definition {
  readonly term: string;
  readonly meaning: string;
}

/** Defaults that go without saying, as in pflag's own help. */
const ZERO: ReadonlySet<string> = new Set(['', 'false', '0', '0s']);

/** Columns from which terms and meanings stand side by side. */
const WIDE = 90;

const GROUP_ORDER: readonly OptionGroup[] = ['common', 'commands', ...MODULE_NAMES];

/** The text of `--help`, no line longer than `columns` where words allow. */
export function helpText(columns: number, built: ReadonlySet<ModuleName> = BUILT_MODULES): string {
  const sections = [
    'Usage: fairway [command] [flags]',
    section('Commands', commandDefinitions(), columns),
    ...groups(built).map(({ title, flags }) =>
      section(
        title,
        flags.map(flag => flagDefinition(flag, built)),
        columns,
      ),
    ),
    section(
      'Environment',
      ENVIRONMENT.map(({ name, help }) => ({ term: name, meaning: help })),
      columns,
    ),
    wrap(
      'Lists are separated by commas, and a list flag may be repeated. Durations are written like 300ms, 5m0s or 1h. A boolean takes its value by an equals sign: --run-router=false.',
      columns,
    ).join('\n'),
  ];
  return `${sections.join('\n\n')}\n`;
}

/** The flags as a page of Markdown. */
export function flagsPage(built: ReadonlySet<ModuleName> = BUILT_MODULES): string {
  const flagTables = groups(built).flatMap(({ title, flags }) => [
    `## ${title}`,
    table(
      ['Flag', 'Type', 'Default', 'What it does'],
      flags.map(flag => flagRow(flag, built)),
    ),
  ]);
  return `${[
    '# Flags, commands and environment',
    'Made from the table in `daemon/config/options.ts`; do not edit by hand.',
    [
      'Flags follow the rules of pflag, as in kube-router and Kubernetes: `--flag`, `--flag=value` or `--flag value`; a boolean takes its value',
      'by an equals sign only (`--run-router=false`). Lists are separated by commas, and a repeated list flag appends. Durations are',
      'written like `300ms`, `5m0s` or `1h`. Everything wrong with a command line is listed at once, with exit status 78.',
    ].join('\n'),
    '## Commands',
    table(
      ['Command', 'What it does'],
      commandDefinitions().map(({ term, meaning }) => [code(term), meaning]),
    ),
    ...flagTables,
    '## Environment',
    table(
      ['Variable', 'What it does'],
      ENVIRONMENT.map(({ name, help }) => [code(name), help]),
    ),
  ].join('\n\n')}\n`;
}

function groups(built: ReadonlySet<ModuleName>): readonly Group[] {
  return GROUP_ORDER.map(group => ({
    title: titleOf(group, built),
    flags: FLAG_NAMES.filter(flag => optionOf(flag).groups[0] === group),
  }));
}

function titleOf(group: OptionGroup, built: ReadonlySet<ModuleName>): string {
  if (group === 'common') return 'Every module';
  if (group === 'commands') return 'Single commands';
  return `${MODULES[group].title}${built.has(group) ? '' : ' (not built yet)'}`;
}

function commandDefinitions(): readonly Definition[] {
  return COMMAND_NAMES.map(name => {
    const { help, operands } = COMMANDS[name];
    return { term: operands === '' ? name : `${name} ${operands}`, meaning: help };
  });
}

function flagDefinition(flag: FlagName, built: ReadonlySet<ModuleName>): Definition {
  const option = optionOf(flag);
  const letter = option.shorthand === undefined ? '    ' : `-${option.shorthand}, `;
  const placeholder = option.type.bareMeans === undefined ? ` ${option.type.label}` : '';
  const fallback = defaultText(option);
  return {
    term: `${letter}--${flag}${placeholder}`,
    meaning: `${meaningOf(option, built)}${ZERO.has(fallback) ? '' : ` (default ${fallback})`}`,
  };
}

function flagRow(flag: FlagName, built: ReadonlySet<ModuleName>): readonly string[] {
  const option = optionOf(flag);
  const letter = option.shorthand === undefined ? '' : `, ${code(`-${option.shorthand}`)}`;
  const fallback = defaultText(option);
  return [`${code(`--${flag}`)}${letter}`, option.type.label, fallback === '' ? '' : code(fallback), meaningOf(option, built)];
}

/** Help and standing: an option without effect says so wherever it is described. */
function meaningOf(option: Option<unknown>, built: ReadonlySet<ModuleName>): string {
  const { help, withoutEffect, caution, planned, groups: readers } = option;
  if (withoutEffect !== undefined) return `${help} Accepted without effect: ${withoutEffect}.`;
  const standing = planned && readers.some(group => !isModule(group) || built.has(group)) ? ' Not built yet.' : '';
  return `${help}${caution === undefined ? '' : ` Unsafe: ${caution}.`}${standing}`;
}

function defaultText(option: Option<unknown>): string {
  return option.type.format(option.default);
}

/** A heading with a definition list: two columns where there is room, else the meaning below its term. */
function section(heading: string, definitions: readonly Definition[], columns: number): string {
  const margin = columns >= WIDE ? 46 : 10;
  const lines = definitions.flatMap(({ term, meaning }) => {
    const wrapped = wrap(meaning, Math.max(20, columns - margin)).map(line => ' '.repeat(margin) + line);
    const lead = `  ${term}`;
    const [first = '', ...rest] = wrapped;
    return columns >= WIDE && lead.length + 2 <= margin ? [lead + first.slice(lead.length), ...rest] : [lead, ...wrapped];
  });
  return [`${heading}:`, ...lines].join('\n');
}

/** Breaks at spaces; a word longer than a line stays whole. */
function wrap(paragraph: string, columns: number): readonly string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of paragraph.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]): string => `| ${cells.map(cell => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [row(header), row(header.map(() => '---')), ...rows.map(row)].join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}
