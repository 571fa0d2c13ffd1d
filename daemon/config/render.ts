/** A configuration as command line again. */
import { FLAG_NAMES, keyOf, type OptionValues, optionOf } from './options.ts';

/**
 * The arguments that give these values, defaults left out. Holds passwords in clear: for handing to a process, never for printing.
 * A list of one blank password is the empty list, as on the command line.
 */
export function renderArguments(values: OptionValues): readonly string[] {
  return differences(values).map(({ flag, text }) => `--${flag}=${text}`);
}

/** The same for logs and bug reports: passwords are `[hidden]`. */
export function printableArguments(values: OptionValues): readonly string[] {
  return differences(values).map(({ flag, text }) => `--${flag}=${optionOf(flag).type.secret ? '[hidden]' : text}`);
}

function differences(values: OptionValues): readonly { readonly flag: (typeof FLAG_NAMES)[number]; readonly text: string }[] {
  return FLAG_NAMES.flatMap(flag => {
    const { type, default: fallback } = optionOf(flag);
    const text = type.format(values[keyOf(flag)]);
    return text === type.format(fallback) ? [] : [{ flag, text }];
  });
}
