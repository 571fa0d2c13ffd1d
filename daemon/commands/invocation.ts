/** What every command is given: the command line, read and checked. */
import type { CommandName } from '../config/commands.ts';
import type { Config } from '../config/config.ts';
import type { FlagName } from '../config/options.ts';
import type { ConfigWarning } from '../config/warnings.ts';

export interface Invocation {
  readonly command: CommandName;
  /** The words after it. */
  readonly operands: readonly string[];
  readonly config: Config;
  /** Flags that were given, as opposed to defaulted. */
  readonly explicit: ReadonlySet<FlagName>;
  readonly warnings: readonly ConfigWarning[];
  /** metadata.name of this node's Node object. */
  readonly nodeName: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}
