/** What there is to say about one option. */
import type { ModuleName, OptionGroup } from './modules.ts';
import type { ValueType } from './value-types.ts';

export interface Option<T> {
  readonly type: ValueType<T>;
  readonly default: T;
  /** Who reads it; `--help` lists it under the first. */
  readonly groups: readonly [OptionGroup, ...ModuleName[]];
  /** What it does here, with units. */
  readonly help: string;
  /** One letter, as in `-v`. */
  readonly shorthand?: string;
  /** Set where the option is accepted and changes nothing: why. */
  readonly withoutEffect?: string;
  /** Set where the option itself is still to be built though its module exists. */
  readonly planned?: true;
  /** Said at start when the flag is given: a danger of using it at all. */
  readonly caution?: string;
}

type Remarks = Pick<Option<unknown>, 'shorthand' | 'withoutEffect' | 'planned' | 'caution'>;

/** One line of the table: who reads it, type, default, help, and what else there is to say. */
export function option<T>(
  groups: Option<T>['groups'] | OptionGroup,
  type: ValueType<T>,
  fallback: NoInfer<T>,
  help: string,
  remarks: Remarks = {},
): Option<T> {
  return { type, default: fallback, groups: typeof groups === 'string' ? [groups] : groups, help, ...remarks };
}
