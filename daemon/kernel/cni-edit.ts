/** The text of a CNI configuration file: what becomes of it for this node's pods. Pure: text in, text out. */
import { FairwayError, messageOf } from '../errors.ts';
import type { Family } from '../net/address.ts';
import { type IpPrefix, parsePrefix, prefixFamily, prefixLength } from '../net/prefix.ts';
import type { CniConfig } from '../reconcile/routing-tables.ts';

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * kube-router's `mynet`, with pods that reach themselves through a Service, and a bridge that takes on the gateway's address of another pod CIDR:
 * the plugin starts no pod otherwise while the former one is there. `manifests/cni/10-kuberouter.conflist` shows it with all plugins.
 */
const BRIDGE: JsonObject = {
  type: 'bridge',
  bridge: 'kube-bridge',
  isDefaultGateway: true,
  forceAddress: true,
  hairpinMode: true,
  ipam: { type: 'host-local' },
};

/** What may follow the bridge in a list, each where it is installed. */
const CHAINED: readonly (JsonObject & { readonly type: string })[] = [
  { type: 'portmap', snat: true, capabilities: { portMappings: true } },
  { type: 'bandwidth', capabilities: { bandwidth: true } },
];

/** The plugins that a new list would name behind the bridge. */
export const CHAINED_PLUGINS: readonly string[] = CHAINED.map(({ type }) => type);

const DEFAULT_ROUTES: Readonly<Record<Family, string>> = { ipv4: '0.0.0.0/0', ipv6: '::/0' };

/** Keys of a range (host-local), which an older form of the file has in `ipam` itself, beside one `subnet`. */
const RANGE_KEYS = ['subnet', 'rangeStart', 'rangeEnd', 'gateway'];

/**
 * A file where there was none. A plugin outside a list is version 0.4.0: the last whose specification knows such files (1.0.0 has lists only),
 * and the first with CHECK.
 */
export function newConfig(wanted: CniConfig, installed: ReadonlySet<string>): string {
  const chained = CHAINED.filter(({ type }) => installed.has(type));
  const value = isList(wanted.path)
    ? { cniVersion: '1.0.0', name: 'mynet', plugins: [BRIDGE, ...chained] }
    : { cniVersion: '0.4.0', name: 'mynet', ...BRIDGE };
  return editedConfig(`${JSON.stringify(value, null, 2)}\n`, wanted);
}

/**
 * The text with what is wanted in it; the very text where it says so already. Throws a FairwayError, with the remedy, for a file that we
 * cannot be sure to understand.
 */
export function editedConfig(text: string, wanted: CniConfig): string {
  const before = parsed(text, wanted.path);
  const after = isList(wanted.path) ? editedList(before, wanted) : editedPlugin(before, wanted);
  if (JSON.stringify(after) === JSON.stringify(before)) return text;
  const indent = /\n([ \t]+)"/.exec(text)?.[1] ?? '';
  return `${JSON.stringify(after, null, indent)}${text.endsWith('\n') ? '\n' : ''}`;
}

/** As the CNI library tells them apart. */
function isList(path: string): boolean {
  return path.endsWith('.conflist');
}

function parsed(text: string, path: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (thrown) {
    throw unusable(path, `is no JSON (${messageOf(thrown)})`, 'repair it, or remove it and it is made anew');
  }
  if (!isObject(value)) throw unusable(path, 'holds no JSON object', 'repair it, or remove it and it is made anew');
  return value;
}

function editedList(list: JsonObject, wanted: CniConfig): JsonObject {
  const { plugins } = list;
  const index = isArray(plugins) ? plugins.findIndex(plugin => isObject(plugin) && plugin['type'] === 'bridge') : -1;
  const bridge: unknown = isArray(plugins) ? plugins[index] : undefined;
  if (!isArray(plugins) || !isObject(bridge))
    throw unusable(
      wanted.path,
      'has no plugin of type bridge',
      'add one to its plugins, or set --enable-cni=false and see to it yourself',
    );
  return { ...list, plugins: plugins.with(index, editedPlugin(bridge, wanted)) };
}

function editedPlugin(plugin: JsonObject, { path, podCIDRs, mtu }: CniConfig): JsonObject {
  if (plugin['type'] !== 'bridge')
    throw unusable(path, 'is not of type bridge', 'make it so, or set --enable-cni=false and see to it yourself');
  const { ipam } = plugin;
  if (!isObject(ipam) || ipam['type'] !== 'host-local')
    throw unusable(
      path,
      'leaves addresses to another plugin than host-local',
      'set "ipam": {"type": "host-local"}, or --enable-cni=false',
    );
  const withRanges = editedRanges(ipam, podCIDRs, path);
  // The plugin gives a default route in each family itself where it is asked to.
  const edited = plugin['isDefaultGateway'] === true ? withRanges : editedRoutes(withRanges, podCIDRs);
  return { ...plugin, ...(mtu === undefined ? {} : { mtu }), ipam: edited };
}

/** In the order of the pod CIDRs, since the first address of a pod is the one that Kubernetes shows. */
function editedRanges(ipam: JsonObject, podCIDRs: readonly IpPrefix[], path: string): JsonObject {
  const sets = ipam['ranges'] ?? [];
  if (!isArray(sets) || !sets.every(set => isArray(set)))
    throw unusable(path, 'has ipam.ranges that are no list of lists', 'repair them, or remove them and they are made anew');
  const isOldForm = ipam['subnet'] !== undefined;
  const keys = Object.entries(ipam);
  const old = isOldForm ? [Object.fromEntries(keys.filter(([key]) => RANGE_KEYS.includes(key)))] : [];
  const there = [...old, ...sets.flat()].filter(isObject);
  const ranges = podCIDRs.map(subnet => {
    const same = there.filter(range => typeof range['subnet'] === 'string' && parsePrefix(range['subnet']) === subnet);
    return same.length === 0 ? [{ subnet }] : same.map(range => ({ ...range, subnet }));
  });
  const rest = isOldForm ? Object.fromEntries(keys.filter(([key]) => !RANGE_KEYS.includes(key))) : ipam;
  return { ...rest, ranges };
}

/** A file that leads one family of its pods out by default leads the others as well. */
function editedRoutes(ipam: JsonObject, podCIDRs: readonly IpPrefix[]): JsonObject {
  const { routes } = ipam;
  if (!isArray(routes)) return ipam;
  const led = new Set(routes.map(defaultFamily).filter(family => family !== undefined));
  if (led.size === 0) return ipam;
  const families = new Set(podCIDRs.map(prefixFamily));
  const missing = [...families].filter(family => !led.has(family));
  return missing.length === 0
    ? ipam
    : { ...ipam, routes: [...routes, ...missing.map(family => ({ dst: DEFAULT_ROUTES[family] }))] };
}

/** The family that a route is the default of. */
function defaultFamily(route: unknown): Family | undefined {
  const destination = isObject(route) && typeof route['dst'] === 'string' ? parsePrefix(route['dst']) : undefined;
  return destination !== undefined && prefixLength(destination) === 0 ? prefixFamily(destination) : undefined;
}

/** JSON lists are of anything. */
function isArray(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function unusable(path: string, problem: string, remedy: string): FairwayError {
  return new FairwayError('FW_COMMAND_REFUSED', `the CNI configuration ${path} ${problem}: ${remedy}`);
}
