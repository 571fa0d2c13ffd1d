/** Rule sets for the bench of the data path. Ours are planned by the module and written by the drivers, as texts for the tools. */
import type { ClusterObject, Kind } from '../daemon/cluster/kinds.ts';
import { NodeViewer } from '../daemon/cluster/node-view.ts';
import { Projector } from '../daemon/cluster/project.ts';
import type { HostFacts, Snapshot } from '../daemon/cluster/snapshot.ts';
import { Store } from '../daemon/cluster/store.ts';
import type { CommandRunner } from '../daemon/kernel/command.ts';
import { ipsetDriver } from '../daemon/kernel/ipset.ts';
import { iptablesDriver } from '../daemon/kernel/iptables.ts';
import { mustParseAddress } from '../daemon/net/address.ts';
import { instantOf } from '../daemon/net/instant.ts';
import type { TableDriver } from '../daemon/reconcile/driver.ts';
import { policyModule } from '../modules/policy/module.ts';
import { fakeTables } from '../test/fakes/tables.ts';
import { ALL_CAPABILITIES, hostLinks } from '../test/fixtures/cluster.ts';
import { NODE_ADDRESS, NODE_NAME, type PolicyClusterSize, policyClusterObjects } from './policy-cluster.ts';
import { benchReconciler } from './reconciler.ts';

/** Texts for `ipset restore` and `iptables-restore`; both are all that is there. */
export interface RuleSet {
  readonly ipset: string;
  readonly iptables: string;
}

const FILTER = '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n';

export const BARE: RuleSet = { ipset: '', iptables: `${FILTER}COMMIT\n` };

/** What stateful filtering costs at the least. */
export const ONE_CONNTRACK_RULE: RuleSet = {
  ipset: '',
  iptables: `${FILTER}-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n`,
};

export function filterTable(chains: readonly string[], rules: readonly string[]): string {
  return [`${FILTER}${chains.map(chain => `:${chain} - [0:0]`).join('\n')}`, ...rules, 'COMMIT', ''].join('\n');
}

const KINDS: readonly Kind[] = ['Pod', 'Namespace', 'NetworkPolicy', 'Node', 'Service'];

const HOST: HostFacts = {
  hostname: NODE_NAME,
  addresses: [{ link: 'eth0', address: mustParseAddress(NODE_ADDRESS), prefixLength: 24 }],
  links: hostLinks('lo', 'eth0', 'kube-bridge'),
  capabilities: { ...ALL_CAPABILITIES, ipv6: false },
};

/** What the daemon of node1 would know of the cluster. */
export function snapshotOf(size: PolicyClusterSize): Snapshot {
  const projector = new Projector();
  const store = new Store({ kinds: KINDS, nodeViewer: new NodeViewer(NODE_NAME), onChange: () => undefined });
  for (const raw of policyClusterObjects(size)) store.upsert(...projected(projector, raw));
  return store.snapshot(instantOf(0), HOST);
}

function projected(projector: Projector, raw: { readonly kind: string }): [ClusterObject, []] {
  const kind = KINDS.find(known => known === raw.kind);
  if (kind === undefined) throw new TypeError(`policy reads no ${raw.kind}`);
  const { object, complaints } = projector.project(kind, raw);
  if (object === undefined || complaints.length > 0) {
    throw new TypeError(`the bench makes no good ${kind}: ${complaints.map(({ message }) => message).join('; ')}`);
  }
  return [object, []];
}

/** The module's plan for node1 as the drivers write it to a kernel that has nothing. */
export async function fairwayRules(snapshot: Snapshot): Promise<RuleSet> {
  const reconciler = benchReconciler(
    policyModule({
      families: { ipv4: 'on', ipv6: 'off' },
      defaultDeny: false,
      denyWith: 'reject',
      serviceRanges: [],
      followsPools: false,
      strictExternalIpValidation: true,
      nodePorts: { first: 30_000, last: 32_767 },
    }),
    {
      ...fakeTables(),
      ipset: onBareKernel(ipsetDriver({ runner: NO_RUNNER, owns: () => true })),
      iptables: onBareKernel(
        iptablesDriver({
          runner: NO_RUNNER,
          tools: { flavour: 'default', reason: 'for rendering only', byFamily: {} },
          ownsChain: () => true,
        }),
      ),
    },
  );
  reconciler.plan(snapshot);
  const examined = await reconciler.examine(new AbortController().signal);
  const scriptOf = (name: string): string => examined.find(({ table }) => table === name)?.script ?? '';
  return { ipset: scriptOf('ipset'), iptables: scriptOf('iptables') };
}

const NO_RUNNER: CommandRunner = {
  run: () => Promise.reject(new Error('a rendering starts no tool')),
  lines: () => Promise.reject(new Error('a rendering starts no tool')),
};

function onBareKernel<T>(driver: TableDriver<T>): TableDriver<T> {
  return {
    read: () => Promise.resolve(new Map()),
    apply: (changes, signal) => driver.apply(changes, signal),
    render: changes => driver.render(changes),
  };
}
