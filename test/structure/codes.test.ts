import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ERROR_CODES } from '../../daemon/errors.ts';
import { DIAGNOSTIC_CODES } from '../../daemon/reconcile/fragment.ts';
import { root } from './sources.ts';

const file = join(root, 'docs/errors.md');

function section(title: string, introduction: string, codes: Readonly<Record<string, string>>): string {
  const rows = Object.entries(codes).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);
  return [`## ${title}`, '', introduction, '', '| code | meaning |', '|---|---|', ...rows, ''].join('\n');
}

/** docs/errors.md as the two catalogues in the code have it. */
function documentation(): string {
  return [
    '# Codes',
    '',
    'Codes are stable: alerts and scripts match on them, never on the text beside them. This page is generated from the code',
    '(`UPDATE=1 npm test -- structure/codes`).',
    '',
    section(
      'Errors',
      'Something the daemon itself needs does not work. The message names the object and the remedy.',
      ERROR_CODES,
    ),
    section(
      'Diagnostics',
      "Something is wrong with an object of the user's. It is logged once per change, shown by `fairway status` and counted in a metric.",
      DIAGNOSTIC_CODES,
    ),
  ].join('\n');
}

describe('docs/errors.md', () => {
  it('names every error and diagnostic code with its meaning, and no other', () => {
    if (process.env['UPDATE'] === '1') writeFileSync(file, documentation());
    assert.equal(readFileSync(file, 'utf8'), documentation());
  });

  it('has one catalogue per code', () => {
    assert.deepEqual(
      Object.keys(ERROR_CODES).filter(code => code in DIAGNOSTIC_CODES),
      [],
    );
  });
});
