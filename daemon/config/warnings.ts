/** What a valid configuration asks for and will not get, or should not ask for. */
import { formatAddressRange, parseAddressRange, rangesOverlap } from '../net/address-range.ts';
import { isEnabled, RUN_FLAGS } from './config.ts';
import { isModule, MODULE_NAMES, MODULES, type ModuleName } from './modules.ts';
import { FLAG_NAMES, type FlagName, type OptionValues, optionOf } from './options.ts';

export interface ConfigWarning {
  /** The flag it is about. */
  readonly flag: FlagName;
  readonly reason: 'not-built' | 'module-off' | 'without-effect' | 'caution';
  /** One sentence that names the flag. */
  readonly message: string;
}

export interface WarningInput {
  readonly values: OptionValues;
  readonly explicit: ReadonlySet<FlagName>;
  readonly built: ReadonlySet<ModuleName>;
}

/** Modules first, then flags in the order of the table. */
export function warningsOf(input: WarningInput): readonly ConfigWarning[] {
  return [
    ...missingModules(input),
    ...FLAG_NAMES.filter(flag => input.explicit.has(flag)).flatMap(flag => flagWarnings(flag, input)),
    ...pairs(input),
  ];
}

/** Modules that are asked for, by flag or by default, and are not in this build. */
function missingModules({ values, explicit, built }: WarningInput): readonly ConfigWarning[] {
  return MODULE_NAMES.filter(module => isEnabled(module, values) && !built.has(module)).map(module => {
    const flag = RUN_FLAGS[module];
    const asked = explicit.has(flag) ? `--${flag} is on` : `--${flag} is on by default`;
    return {
      flag,
      reason: 'not-built',
      message: `${asked}, but this build does not have that module yet: it leaves ${MODULES[module].provides} to others (--${flag}=false silences this)`,
    };
  });
}

function flagWarnings(flag: FlagName, { values, built }: WarningInput): readonly ConfigWarning[] {
  const option = optionOf(flag);
  const warning = (reason: ConfigWarning['reason'], message: string): ConfigWarning => ({
    flag,
    reason,
    message: `--${flag} ${message}`,
  });
  const warnings: ConfigWarning[] = [];
  if (option.caution !== undefined) warnings.push(warning('caution', `is unsafe: ${option.caution}`));
  if (option.withoutEffect !== undefined)
    return [...warnings, warning('without-effect', `has no effect: ${option.withoutEffect}`)];
  const modules = option.groups.filter(isModule);
  const present = modules.filter(module => built.has(module));
  if (option.planned || (modules.length > 0 && present.length === 0)) {
    return [...warnings, warning('not-built', 'has no effect yet: what it configures is not built')];
  }
  if (modules.length > 0 && !present.some(module => isEnabled(module, values))) {
    const switches = present.map(module => `--${RUN_FLAGS[module]}`);
    const off = switches.length === 1 ? 'is off' : 'are off';
    return [
      ...warnings,
      warning(
        'module-off',
        `has no effect: ${[switches.slice(0, -1).join(', '), ...switches.slice(-1)].filter(part => part !== '').join(' and ')} ${off}`,
      ),
    ];
  }
  return warnings;
}

/** Pairs of flags that work, but hardly as meant. */
function pairs(input: WarningInput): readonly ConfigWarning[] {
  return [...unreadPasswordsFile(input), ...balancerAmongClusterIPs(input)];
}

function unreadPasswordsFile({ values, built }: WarningInput): readonly ConfigWarning[] {
  const isRead = values.runRouter && built.has('routing');
  if (!isRead || values.peerRouterPasswords.length === 0 || values.peerRouterPasswordsFile === '') return [];
  const message = '--peer-router-passwords-file is not read: --peer-router-passwords is given';
  return [{ flag: 'peer-router-passwords-file', reason: 'without-effect', message }];
}

/** The API server hands ClusterIPs out of that range, sooner or later the very address that a load balancer has. */
function balancerAmongClusterIPs({ values }: WarningInput): readonly ConfigWarning[] {
  const clusterRanges = values.serviceClusterIpRange.flatMap(prefix => parseAddressRange(prefix) ?? []);
  return values.loadbalancerIpRange.flatMap(range => {
    const shared = clusterRanges.find(other => rangesOverlap(range, other));
    if (shared === undefined) return [];
    const effect = values.strictExternalIpValidation
      ? 'addresses in both are not served as load-balancer IPs'
      : 'an address in both may be a ClusterIP and a load-balancer IP at once';
    const overlap = `has ${formatAddressRange(range)}, which overlaps with ${formatAddressRange(shared)} of --service-cluster-ip-range`;
    const message = `--loadbalancer-ip-range ${overlap}: ${effect}; choose a range outside`;
    return [{ flag: 'loadbalancer-ip-range', reason: 'caution', message }];
  });
}
