/** YAML text to plain values. */
import { loadAll, YAMLException } from 'js-yaml';
import { messageOf } from '../errors.ts';

/** Why a document cannot be read, and where in the file. */
export class DocumentError extends Error {
  override readonly name = 'DocumentError';
  readonly line: number;

  constructor(line: number, reason: string) {
    super(reason);
    this.line = line;
  }
}

/** The documents in a text whose first line has that number. Throws DocumentError. */
export function readYaml(text: string, line: number): readonly unknown[] {
  try {
    return loadAll(text);
  } catch (error) {
    if (!(error instanceof YAMLException)) throw new DocumentError(line, messageOf(error));
    throw new DocumentError(line + (error.mark?.line ?? 0), error.reason);
  }
}
