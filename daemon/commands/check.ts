/** `fairway check`: whether this host has what the daemon needs, with a remedy for each that it lacks. Changes nothing that stays. */
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ApiTransport } from '../cluster/transport.ts';
import { isEnabled } from '../config/config.ts';
import { isInCluster } from '../config/environment.ts';
import type { ModuleName } from '../config/modules.ts';
import { systemClock } from '../net/clock.ts';
import { wallNow } from '../net/wall-clock.ts';
import { NO_BGP } from './bgp-access.ts';
import { loadBalancerExaminers, resourcesRead, rightsWanted } from './check-load-balancer.ts';
import { type ApiOptions, apiExaminer } from './examine/api.ts';
import { clockExaminer } from './examine/clock.ts';
import { facilitiesExaminer } from './examine/facilities.ts';
import { type Examiner, type FindingGroup, findingsJson, findingsText, verdictOf } from './examine/finding.ts';
import { flavoursExaminer } from './examine/flavours.ts';
import { linksExaminer } from './examine/links.ts';
import { permissionsExaminer } from './examine/permissions.ts';
import { portsExaminer, type WantedPort } from './examine/ports.ts';
import { settingsExaminer } from './examine/settings.ts';
import { toolsExaminer } from './examine/tools.ts';
import { type Host, openHost } from './host.ts';
import type { Invocation } from './invocation.ts';
import { enabledModules } from './modules.ts';
import { RUN_FOLDER } from './run-folder.ts';
import { openTransport } from './source.ts';

/** Exit status 0 when nothing is missing (warnings may be), 1 when something is. */
export async function check(invocation: Invocation, others: readonly Examiner[] = []): Promise<number> {
  const { signal } = new AbortController();
  const { config, environment, nodeName } = invocation;
  const clock = systemClock();
  const host = await openHost(
    { config, environment, nodeName, clock, bgp: NO_BGP, sharedSetsOf: [], onSpawn: () => undefined },
    signal,
  );
  const groups: FindingGroup[] = [];
  for (const examiner of [...(await examiners(invocation, host)), ...others])
    groups.push({ title: examiner.title, findings: await examiner.examine(signal) });
  process.stdout.write(config.output === 'json' ? findingsJson(groups) : findingsText(groups));
  return verdictOf(groups) === 'missing' ? 1 : 0;
}

/** In the order in which one thing needs the other. */
async function examiners(invocation: Invocation, { runner, abilities }: Host): Promise<readonly Examiner[]> {
  const { config, explicit } = invocation;
  const { iptables, reports } = abilities.probe;
  const enabled = (module: ModuleName): boolean => isEnabled(module, config);
  const text = (path: string): Promise<string> => readFile(path, 'utf8');
  const { cniConfFile } = config.environment;
  const folders = [
    { path: RUN_FOLDER, holds: 'what outlives the daemon (sockets, what drains)' },
    ...(enabled('routing') && config.enableCni ? [{ path: dirname(cniConfFile), holds: 'the CNI file' }] : []),
  ];
  let serverTime: number | undefined;
  const api = apiOf(invocation, at => {
    serverTime = at;
  });
  return [
    toolsExaminer({ runner, iptables, isEnabled: enabled }),
    permissionsExaminer({ userId: process.geteuid?.() ?? -1, readFile: text, folders }),
    facilitiesExaminer({ reports, isEnabled: enabled, needsIpv6: () => explicit.has('enable-ipv6') && config.enableIpv6 }),
    flavoursExaminer({ runner, iptables, readFile: text }),
    settingsExaminer({ readFile: text, isEnabled: enabled }),
    linksExaminer({ runner, cniMtu: () => mtuIn(text(cniConfFile)) }),
    portsExaminer({
      runner,
      wanted: wantedPorts(invocation),
      nodePorts: [config.serviceNodePortRange.first, config.serviceNodePortRange.last],
    }),
    ...(api === undefined ? [] : [apiExaminer(await apiOptions(invocation, api))]),
    ...loadBalancerExaminers({ config, nodeName: invocation.nodeName, runner, clock: systemClock(), open: api?.open }),
    clockExaminer({ now: wallNow, serverTime: () => serverTime }),
  ];
}

function wantedPorts({ config }: Invocation): readonly WantedPort[] {
  const { bgpPort, healthPort, metricsPort } = config;
  const wanted: readonly (WantedPort & { readonly isWanted: boolean })[] = [
    { port: bgpPort, flag: '--bgp-port', use: 'no BGP session comes up', isWanted: isEnabled('routing', config) },
    { port: healthPort, flag: '--health-port', use: 'probes are answered by it', isWanted: healthPort !== 0 },
    { port: metricsPort, flag: '--metrics-port', use: 'there are no metrics', isWanted: metricsPort !== 0 },
  ];
  return wanted.filter(({ isWanted }) => isWanted);
}

type Api = Pick<ApiOptions, 'open' | 'remarks'>;

/** Undefined where no API server is named, by a flag or by the pod we run in. */
function apiOf({ config, environment }: Invocation, onServerTime: (at: number) => void): Api | undefined {
  const isNamed = config.kubeconfig + config.master !== '' || isInCluster(environment);
  if (config.manifests !== '' || !isNamed) return undefined;
  const clock = systemClock();
  const remarks: string[] = [];
  const onRemark = (message: string): void => {
    remarks.push(message);
  };
  const open = async (): Promise<ApiTransport> => {
    const transport = await openTransport({ config, environment, clock, onRemark });
    return {
      close: () => {
        transport.close();
      },
      request: async request => {
        const response = await transport.request(request);
        if (response.date !== '') onServerTime(Date.parse(response.date));
        return response;
      },
    };
  };
  return { open, remarks: () => remarks };
}

async function apiOptions(invocation: Invocation, api: Api): Promise<ApiOptions> {
  const { config } = invocation;
  const reads = resourcesRead(await enabledModules(invocation), config);
  return { ...api, reads, writes: rightsWanted(config), clock: systemClock() };
}

/** Of a plugin, or of the first of a list that names one. */
async function mtuIn(text: Promise<string>): Promise<number | undefined> {
  const [, mtu] = /"mtu"\s*:\s*(\d+)/.exec(await text.catch(() => '')) ?? [];
  return mtu === undefined ? undefined : Number(mtu);
}
