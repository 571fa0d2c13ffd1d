/** The project's own pages, taken apart: sections, fenced blocks, tables, code words. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './sources.ts';

export interface Block {
  /** What stands behind the fence: `ts`, `json slice-event`. */
  readonly language: string;
  /** Second word behind the fence; '' for none. */
  readonly name: string;
  readonly text: string;
}

export interface Section {
  /** Without the hashes; '' for what stands before the first heading. */
  readonly title: string;
  /** Text outside of fenced blocks. */
  readonly prose: string;
  readonly blocks: readonly Block[];
}

export function page(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** Sections of the first two levels, in order. */
export function sectionsOf(text: string): readonly Section[] {
  const sections: { title: string; prose: string; blocks: Block[] }[] = [{ title: '', prose: '', blocks: [] }];
  let fence: { language: string; name: string; lines: string[] } | undefined;
  for (const line of text.split('\n')) {
    const section = sections.at(-1);
    if (section === undefined) continue;
    const opening = /^```(\S*) ?(\S*)$/.exec(line);
    if (fence !== undefined) {
      if (line === '```') {
        section.blocks.push({ language: fence.language, name: fence.name, text: `${fence.lines.join('\n')}\n` });
        fence = undefined;
      } else fence.lines.push(line);
    } else if (opening !== null) {
      fence = { language: opening[1] ?? '', name: opening[2] ?? '', lines: [] };
    } else if (/^##? /.test(line)) {
      sections.push({ title: line.replace(/^#+ /, ''), prose: '', blocks: [] });
    } else section.prose += `${line}\n`;
  }
  return sections;
}

export function blocksOf(text: string): readonly Block[] {
  return sectionsOf(text).flatMap(section => section.blocks);
}

/** Cells of all table rows of a text, without header and ruler. */
export function rowsOf(prose: string): readonly (readonly string[])[] {
  const lines = prose.split('\n');
  return lines.flatMap((line, index) => {
    const isRow = line.startsWith('|') && !/^\|[ :|-]+\|$/.test(line) && !/^\|[ :|-]+\|$/.test(lines[index + 1] ?? '');
    if (!isRow) return [];
    return [
      line
        .slice(1, line.lastIndexOf('|'))
        .split(/(?<!\\)\|/)
        .map(cell => cell.trim().replaceAll('\\|', '|')),
    ];
  });
}

/** What stands between single backticks. */
export function codeWordsOf(prose: string): readonly string[] {
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word ?? '');
}
