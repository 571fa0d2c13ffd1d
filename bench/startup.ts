/** The bench of starting: the demo's Services from a folder of manifests, on one node in the lab, phase by phase. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAIRWAY } from '../test/lab/fleet.ts';
import { Lab } from '../test/lab/lab.ts';
import { Station, startDaemon } from './guest.ts';
import { median, milliseconds, plain, printResults } from './results.ts';

const SHOP = readFileSync(join(import.meta.dirname, '..', 'examples', 'shop.yaml'), 'utf8');
const FOLDER = '/run/fairway-manifests';
const FLAGS = [
  '--enable-ipv6',
  '--service-external-ip-range=203.0.113.0/28',
  '--loadbalancer-ip-range=203.0.113.16/28',
  '--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112',
];
const READY_LIMIT_MS = 120_000;

export async function benchStartup({ runs }: { readonly runs: number }): Promise<void> {
  const lab = await Lab.start({ nodes: 3 });
  try {
    const node = lab.node(1);
    const [nodejs = '', bundle = ''] = FAIRWAY;
    await lab.writeFile(node, `${FOLDER}/shop.yaml`, SHOP);
    const station = await Station.start(lab, node);
    const repeated = async (argv: [string, ...string[]]): Promise<number> => {
      const took: number[] = [];
      for (let run = 0; run < runs; run++) took.push((await station.run(...argv)).ms);
      return median(took);
    };
    const bare = await repeated([nodejs, '-e', '0']);
    const loaded = await repeated([nodejs, bundle, '--version']);
    const probed = await repeated([nodejs, bundle, 'check']);
    const spawn = await repeated(['ip', 'link', 'show', 'lo']);
    const options = { flags: [`--manifests=${FOLDER}`, ...FLAGS], limitMs: READY_LIMIT_MS };
    const first: number[] = [];
    const again: number[] = [];
    let processes = '';
    let tables = '';
    for (let run = 0; run < runs; run++) {
      const start = await startDaemon(lab, node, options);
      first.push(start.readyMs);
      tables = [...start.tableMs].map(([table, ms]) => `${table} ${ms}`).join(', ');
      const spawns = (await station.scrape()).by('fairway_spawns_total', 'command');
      processes = [...spawns].map(([command, count]) => `${command} ${count}`).join(', ');
      await start.daemon.stop();
      const restart = await startDaemon(lab, node, options);
      again.push(restart.readyMs);
      await restart.daemon.stop();
      await lab.expectRun(node, [...FAIRWAY, 'cleanup']);
    }
    await station.stop();
    printResults(`startup: the demo's Services on one node (median of ${runs})`, [
      plain('exec to ready, on a bare node', milliseconds(median(first))),
      plain('exec to ready, everything in place', milliseconds(median(again))),
      plain('  bare Node.js', milliseconds(bare)),
      plain('  loading the daemon (the second start of Node.js with a smaller heap included)', milliseconds(loaded - bare)),
      plain('  probing the host', milliseconds(probed - loaded)),
      plain('  then: host facts, manifests, tables', milliseconds(median(first) - probed)),
      plain('  milliseconds in the tools that write', '', tables),
      plain('processes', '', processes),
      plain('one process (ip link show lo)', milliseconds(spawn)),
    ]);
  } finally {
    await lab.close();
  }
}
