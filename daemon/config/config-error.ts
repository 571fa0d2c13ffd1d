/** What is wrong with the configuration, one fault at a time. */

export interface ConfigError {
  /** What is at fault: a flag with its dashes, a command, a word of the command line. */
  readonly subject: string;
  /** The text that was given; absent where there was none or it is a secret. */
  readonly value?: string;
  /** Completes a sentence that begins with the subject. */
  readonly problem: string;
  readonly remedy: string;
}

/** Exit status for a configuration that cannot be used: EX_CONFIG of sysexits.h. */
export const EX_CONFIG = 78;

/** One line: `--bgp-port=0 is outside 1 to 65535; use a number from 1 to 65535`. */
export function formatConfigError({ subject, value, problem, remedy }: ConfigError): string {
  return `${subject}${value === undefined ? '' : `=${quoted(value)}`} ${problem}; ${remedy}`;
}

/** A value as a shell would take it, control characters made visible. */
function quoted(value: string): string {
  return /^[\w.,:/@%+-]+$/.test(value) ? value : JSON.stringify(value);
}
