/** `fairway snapshot`: what a bug report needs, in one file without secrets. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../errors.ts';
import type { CommandRunner } from '../kernel/command.ts';
import { processRunner } from '../kernel/process-runner.ts';
import { systemClock } from '../net/clock.ts';
import { readBundle, writeBundle } from './bundle.ts';
import { ask, bytesOf, controlSocketOf } from './control.ts';
import type { Invocation } from './invocation.ts';

/** What the host's own tools say, each in their words. Nothing that could hold a password: no process lists, no files of others, no environment. */
const TOOLS: readonly (readonly [string, ...string[]])[] = [
  ['uname', '-a'],
  ['ip', '-s', 'link'],
  ['ip', 'address'],
  ['ip', 'rule'],
  ['ip', '-6', 'rule'],
  ['ip', 'route', 'show', 'table', 'all'],
  ['ip', '-6', 'route', 'show', 'table', 'all'],
  ['ip', 'neighbor'],
  ['bridge', '-d', 'link'],
  ['iptables-save', '-c'],
  ['ip6tables-save', '-c'],
  ['ipset', 'save'],
  ['ipvsadm', '-Ln', '--stats'],
  ['ipvsadm', '-Lcn'],
  ['conntrack', '-S'],
  ['iptables', '--version'],
  ['ipset', '--version'],
  ['ipvsadm', '--version'],
  ['ip', '-V'],
  ['gobgpd', '--version'],
];

/** Exit status 0 with the name of the file on standard output; FW_DAEMON_ABSENT where no daemon tells what it knows. */
export async function snapshot({ config, nodeName, operands, environment }: Invocation): Promise<number> {
  const clock = systemClock();
  const told = await bytesOf(await ask(controlSocketOf(config, nodeName), '/snapshot'));
  const bundle = readBundle(told, 'the daemon');
  const tools = await outputs(processRunner({ environment, clock, onSpawn: () => undefined }));
  const day = new Date(clock.now()).toISOString().slice(0, 19).replaceAll(':', '');
  const path = operands[0] ?? join(process.cwd(), `fairway-${nodeName}-${day}.json.gz`);
  await writeFile(path, writeBundle({ ...bundle, tools }), { mode: 0o600 });
  process.stdout.write(`${path}\n`);
  return 0;
}

async function outputs(runner: CommandRunner): Promise<ReadonlyMap<string, string>> {
  const signal = new AbortController().signal;
  const tools = new Map<string, string>();
  for (const argv of TOOLS) {
    const text = await runner
      .run({ argv }, signal)
      .then(({ status, stdout, stderr }) => (status === 0 ? stdout : `exit status ${status}\n${stdout}${stderr}`), messageOf);
    tools.set(argv.join(' '), text);
  }
  return tools;
}
