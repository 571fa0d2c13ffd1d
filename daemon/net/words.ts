/** Words of a line as shells and the tools of netfilter quote them. */

/** The words of a rule, quotes and escapes resolved. */
export function ruleWords(rule: string): readonly string[] {
  return [...rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1'),
  );
}
