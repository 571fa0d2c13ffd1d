/**
 * As a program, runs the driver of the CNI file on the machine it is on, as one round of the daemon does:
 *
 *   node test/lab/cni-keep.ts PATH MTU POD_CIDR...
 *
 * Prints what it did: `kept`, `created` or `updated`. Ends with status 1, and the reason, where the file is not as wanted afterwards.
 */
import { cniConfigDriver } from '../../daemon/kernel/cni-config.ts';
import { cniFiles, PLUGIN_FOLDERS } from '../../daemon/kernel/cni-files.ts';
import { mustParsePrefix } from '../../daemon/net/prefix.ts';
import type { CniConfig } from '../../daemon/reconcile/routing-tables.ts';
import { TABLES } from '../../daemon/reconcile/tables.ts';

const [path = '', mtu = '', ...podCIDRs] = process.argv.slice(2);
const wanted: CniConfig = { path, mtu: Number(mtu), podCIDRs: podCIDRs.map(mustParsePrefix), needs: [] };
const key = TABLES.cniConfig.key(wanted);
const expected = new Map([[key, wanted]]);
const { signal } = new AbortController();
const driver = cniConfigDriver({ files: cniFiles({ pluginFolders: PLUGIN_FOLDERS }) });

const before = (await driver.read(expected, signal)).get(key);
if (before !== wanted) {
  const change =
    before === undefined
      ? ({ op: 'create', key, to: wanted } as const)
      : ({ op: 'update', key, from: before, to: wanted } as const);
  const { failed } = await driver.apply([change], signal);
  const after = (await driver.read(expected, signal)).get(key);
  if (after !== wanted) throw failed.get(key) ?? new Error(`${path} is not as wanted although nothing failed`);
}
process.stdout.write(before === wanted ? 'kept\n' : before === undefined ? 'created\n' : 'updated\n');
