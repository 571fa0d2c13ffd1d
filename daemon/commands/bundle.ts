/** What `fairway snapshot` writes and `fairway plan --snapshot` reads: the cluster, the host and the tables as a daemon knew them, and what the tools said. */
import { gunzipSync, gzipSync } from 'node:zlib';
import { withoutPasswords } from '../cluster/peer-annotations.ts';
import type { Snapshot } from '../cluster/snapshot.ts';
import type { Config } from '../config/config.ts';
import { FairwayError, messageOf } from '../errors.ts';
import { fromPortable, HIDDEN_SECRET, toPortable } from '../net/portable.ts';
import type { StatusReport } from '../observe/status.ts';
import type { TableName } from '../reconcile/tables.ts';
import type { TablesView } from '../reconcile/view.ts';

const FORMAT = 'fairway snapshot 1';

/** What the daemon itself tells. No secret in it. */
export interface DaemonBundle {
  readonly format: typeof FORMAT;
  readonly config: Config;
  /** Flags that were given. */
  readonly explicit: readonly string[];
  readonly snapshot: Snapshot;
  /** Entries believed to be there. */
  readonly tables: ReadonlyMap<TableName, ReadonlyMap<string, unknown>>;
  readonly status: StatusReport;
  /** The last lines of the log. */
  readonly log: readonly string[];
}

/** With what the host's tools print, by command line. */
export interface Bundle extends DaemonBundle {
  readonly tools: ReadonlyMap<string, string>;
}

export interface BundleParts {
  readonly config: Config;
  readonly explicit: Iterable<string>;
  readonly snapshot: Snapshot;
  readonly tables: TablesView;
  readonly status: StatusReport;
  readonly log: readonly string[];
}

export function daemonBundle({ config, explicit, snapshot, tables, status, log }: BundleParts): DaemonBundle {
  const actual = tables.tables.map(table => {
    const entries = [...tables.entries(table)].flatMap(view =>
      view.actual === undefined ? [] : [[view.key, view.actual] as const],
    );
    return [table, new Map<string, unknown>(entries)] as const;
  });
  const nodes = [...snapshot.nodes].map(
    ([name, node]) => [name, { ...node, annotations: withoutPasswords(node.annotations) }] as const,
  );
  return {
    format: FORMAT,
    config: withoutSecrets(config),
    explicit: [...explicit],
    snapshot: { ...snapshot, nodes: new Map(nodes) },
    tables: new Map(actual),
    status,
    log,
  };
}

/** Where a file of passwords is named, what it holds counts as given. */
function withoutSecrets(config: Config): Config {
  const { peerRouterPasswordsFile, peerRouterPasswords, peerRouterIps } = config;
  if (peerRouterPasswordsFile === '' || peerRouterPasswords.length > 0) return config;
  return { ...config, peerRouterPasswordsFile: '', peerRouterPasswords: peerRouterIps.map(() => HIDDEN_SECRET) };
}

/** Compressed (gzip, RFC 1952). */
export function writeBundle(bundle: DaemonBundle | Bundle): Buffer {
  return gzipSync(toPortable(bundle));
}

/** Rejects what is no bundle, or of a version that this one cannot read. */
export function readBundle(bytes: Buffer, path: string): Bundle {
  let content: unknown;
  try {
    content = fromPortable(gunzipSync(bytes).toString('utf8'));
  } catch (thrown) {
    throw new FairwayError(
      'FW_CONFIG_INVALID',
      `--snapshot=${path} is no file that fairway snapshot wrote: ${messageOf(thrown)}`,
    );
  }
  if (typeof content !== 'object' || content === null || !('format' in content) || content.format !== FORMAT)
    throw new FairwayError(
      'FW_CONFIG_INVALID',
      `--snapshot=${path} is not of the form "${FORMAT}": read it with the version that wrote it`,
    );
  return content as Bundle;
}
