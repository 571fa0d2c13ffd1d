/** This host, opened for a command: the runner of tools, what the host can do, and one driver per table. */
import { readFile, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { countedPaths, type PathChange } from '../bgp/counted-paths.ts';
import { bgpPathDriver, bgpPeerDriver, bgpPolicyDriver, bgpServerDriver } from '../bgp/tables.ts';
import type { OptionValues } from '../config/options.ts';
import { bridgePortDriver } from '../kernel/bridge-port.ts';
import { type FacilityReport, type HostProbe, isProbeSet, PROBE_LINK, probeHost } from '../kernel/capabilities.ts';
import { cniConfigDriver } from '../kernel/cni-config.ts';
import { cniFiles, PLUGIN_FOLDERS } from '../kernel/cni-files.ts';
import type { Command, CommandRunner } from '../kernel/command.ts';
import { fouDriver } from '../kernel/fou.ts';
import { HostAbilities } from '../kernel/host-abilities.ts';
import { followHostFacts, type HostFactsOptions, type HostFactsSource } from '../kernel/host-facts.ts';
import { addressDriver } from '../kernel/ip.ts';
import { ipsetDriver } from '../kernel/ipset.ts';
import { iptablesDriver } from '../kernel/iptables.ts';
import { type IptablesTools, PROBE_CHAIN, toolOf } from '../kernel/iptables-flavour.ts';
import { isPodRoutingLink, linkDriver } from '../kernel/link.ts';
import { markDeliveryDriver } from '../kernel/mark-delivery.ts';
import { type PortGate, portGate } from '../kernel/port-gate.ts';
import { processRunner } from '../kernel/process-runner.ts';
import { routeDriver } from '../kernel/route.ts';
import { ruleDriver } from '../kernel/rule.ts';
import { sysctlDriver } from '../kernel/sysctl.ts';
import { unicastRouteDriver } from '../kernel/unicast-route.ts';
import { KUBE_PROXY } from '../leftovers/kube-proxy.ts';
import type { Clock } from '../net/clock.ts';
import type { Drivers } from '../reconcile/reconciler.ts';
import { isOverlayLink } from '../reconcile/routing-tables.ts';
import type { BgpAccess } from './bgp-access.ts';
import { type LanDriver, lanDriver } from './lan-driver.ts';
import { runFolderOf } from './run-folder.ts';
import {
  elsewhere,
  type ServiceDriverOptions,
  type ServiceDrivers,
  type ServiceHooks,
  serviceDrivers,
} from './service-drivers.ts';

/** Links, chains and sets that are ours by name, whichever process of ours made them. */
const OWN_LINKS: ReadonlySet<string> = new Set(['kube-dummy-if']);
const OWN_SETS = /^(inet6:)?fairway-/;
const OWN_CHAINS = 'FAIRWAY-';
/** Sets with kube-router's names are ours where the module that fills them is enabled; otherwise a kube-router beside us may need them. */
const SHARED_SETS: Readonly<Record<string, readonly string[]>> = {
  services: ['kube-router-svip', 'kube-router-svip-prt', 'kube-router-local-ips'],
  policy: ['kube-router-local-pods'],
  routing: ['kube-router-pod-subnets', 'kube-router-node-ips'],
};

export interface Host {
  readonly runner: CommandRunner;
  /** As far as is known now. */
  readonly abilities: HostAbilities;
  /** Looks again at what the host lacked; returns what is there now. */
  readonly lookAgain: (signal: AbortSignal) => Promise<readonly FacilityReport[]>;
  readonly drivers: Drivers;
  /** Our chains in the rule set of the iptables flavour that is not used now: an earlier run may have used it. */
  readonly otherIptables: Drivers['iptables'];
  /** Of the port that BGP listens on. */
  readonly bgpGate: PortGate;
  /** What an address on a link of the host is to us. */
  readonly standingOf: LanDriver['standingOf'];
  /** Tells the local network once more what this node answers for. */
  readonly announceAgain: LanDriver['announceAgain'];
  /** Whether this node learns no more which node is to answer for an address. */
  readonly blind: LanDriver['blind'];
  /** Ends what drivers do by themselves. */
  readonly closeDrivers: ServiceDrivers['close'];
  readonly draining: ServiceDrivers['draining'];
}

export interface HostOptions {
  readonly config: ServiceDriverOptions['config'] & Pick<OptionValues, 'overlayEncapPort' | 'bgpPort'>;
  readonly nodeName: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly bgp: BgpAccess;
  /** Modules whose sets with kube-router's names are ours. */
  readonly sharedSetsOf: readonly string[];
  readonly onSpawn: (argv: readonly string[]) => void;
  /** Who measures tools and counts paths; nobody unless told. */
  readonly measures?: HostMeasures;
  /** Hears the names of iptables chains that are not ours, whenever rule sets are read. */
  readonly onForeignChain?: (name: string) => void;
  /** Undefined for a command that is no daemon. */
  readonly services?: ServiceHooks;
  /** Likewise, and where nothing hands out load-balancer addresses. */
  readonly serviceStatus?: Drivers['serviceStatus'] | undefined;
  /** An announced address was left to another host, or is to be had again. */
  readonly onLanMoved?: () => void;
}

export interface HostMeasures {
  /** A tool ended, after so many milliseconds. */
  readonly ran: (command: Command, milliseconds: number) => void;
  readonly advertised: (changes: readonly PathChange[]) => void;
}

/** Probes the host (a few processes) and opens the drivers; changes nothing that stays. */
export async function openHost(options: HostOptions, signal: AbortSignal): Promise<Host> {
  const { config, environment, clock, bgp, sharedSetsOf, onSpawn, measures, onForeignChain } = options;
  const sharedSets = new Set(sharedSetsOf.flatMap(module => SHARED_SETS[module] ?? []));
  const runner = processRunner({ environment, clock, onSpawn, ...(measures === undefined ? {} : { onEnd: measures.ran }) });
  const files = {
    readFile: (path: string): Promise<string> => readFile(path, 'utf8'),
    writeFile: (path: string, text: string): Promise<void> => writeFile(path, text),
  };
  const abilities = new HostAbilities(await probeHost({ runner, files, onChain: onForeignChain }, signal));
  const iptablesOf = (tools: IptablesTools): Drivers['iptables'] =>
    iptablesDriver({ runner, tools, ownsChain: name => name.startsWith(OWN_CHAINS) && name !== PROBE_CHAIN, onForeignChain });
  const bgpGate = portGate({
    runner,
    tools: abilities.iptables,
    clock,
    port: config.bgpPort,
    reason: 'fairway: gobgpd does not know its neighbours yet',
  });
  const speaking = { ...bgp, gate: bgpGate };
  const runFolder = runFolderOf(options.nodeName);
  const {
    close: closeServices,
    draining,
    ...ofServices
  } = serviceDrivers({
    config,
    runner,
    clock,
    runFolder,
    hooks: options.services,
  });
  const lan = await lanDriver({
    runner,
    clock,
    runFolder,
    log: options.services?.log,
    onMoved: options.onLanMoved ?? (() => undefined),
  });
  const ip = { runner, ownLinks: OWN_LINKS };
  return {
    runner,
    abilities,
    lookAgain: async again => abilities.learn(await probeHost({ runner, files }, again)),
    bgpGate,
    standingOf: lan.standingOf,
    announceAgain: lan.announceAgain,
    blind: lan.blind,
    closeDrivers: async () => {
      await Promise.all([closeServices(), lan.close()]);
    },
    draining,
    otherIptables: iptablesOf(otherFlavour(abilities.iptables)),
    drivers: {
      sysctl: sysctlDriver({ files }),
      link: linkDriver({
        runner,
        owns: (name, type) =>
          type === 'dummy' ? OWN_LINKS.has(name) : sharedSetsOf.includes('routing') && isPodRoutingLink(name, type),
      }),
      address: addressDriver(ip),
      route: routeDriver(ip),
      ipset: ipsetDriver({
        runner,
        owns: name => !isProbeSet(name) && (OWN_SETS.test(name) || sharedSets.has(name.replace(/^inet6:/, ''))),
      }),
      iptables: iptablesOf(abilities.iptables),
      bridgePort: bridgePortDriver({ runner }),
      markDelivery: markDeliveryDriver({ runner }),
      ...ofServices,
      fouPort: fouDriver({ runner, configuredPort: config.overlayEncapPort }),
      unicastRoute: unicastRouteDriver({ runner }),
      rule: ruleDriver({ runner }),
      lanAddress: lan.lanAddress,
      serviceStatus: options.serviceStatus ?? elsewhere(),
      cniConfig: cniConfigDriver({ files: cniFiles({ pluginFolders: PLUGIN_FOLDERS }) }),
      bgpServer: bgpServerDriver(speaking),
      bgpPolicy: bgpPolicyDriver(speaking),
      bgpPath: countedPaths(bgpPathDriver(speaking), measures?.advertised ?? (() => undefined)),
      bgpPeer: bgpPeerDriver(speaking),
    },
  };
}

/** The host's addresses and links, now and whenever they change. */
export function followHost(
  { runner, abilities, standingOf }: Host,
  hooks: Pick<HostFactsOptions, 'clock' | 'onChange' | 'onDisturbance' | 'onTrouble'>,
  signal: AbortSignal,
): Promise<HostFactsSource> {
  const capabilities = (): HostProbe['capabilities'] => abilities.probe.capabilities;
  // Virtual addresses that kube-proxy left are no reason to keep them off our own link: it takes them over before that one goes.
  const isOwnLink = (name: string): boolean =>
    OWN_LINKS.has(name) || name === PROBE_LINK || name === KUBE_PROXY.dummy || isOverlayLink(name);
  return followHostFacts({ runner, hostname: hostname(), capabilities, isOwnLink, standingOf, ...hooks }, signal);
}

function otherFlavour(tools: IptablesTools): IptablesTools {
  const flavour = tools.flavour === 'legacy' ? 'nft' : 'legacy';
  return {
    flavour,
    reason: 'left by an earlier run',
    byFamily: { ipv4: toolOf(flavour, 'ipv4'), ipv6: toolOf(flavour, 'ipv6') },
  };
}
