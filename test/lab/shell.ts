/** A shell in a lab topology: `node test/lab/shell.ts [NAMESPACE]`, node1 unless told. Commands may also come from a pipe. */
import { Lab } from './lab.ts';
import { LabUnavailable } from './place.ts';

const name = process.argv[2] ?? 'node1';
try {
  const lab = await Lab.start({ timeLimitMs: 24 * 3600 * 1000 });
  const hosts = [...lab.nodes, ...lab.pods, lab.ext, lab.router];
  const host = hosts.find(one => one.name === name);
  console.error(lab.description);
  for (const one of hosts)
    console.error(
      `  ${one.name.padEnd(8)} ${one.addresses.ipv4.padEnd(16)} ${one.addresses.ipv6}${one === host ? '  <- here' : ''}`,
    );
  if (host === undefined) throw new Error(`this lab has no ${name}`);
  const terminal = process.stdin.isTTY;
  // script(1) gives the shell a terminal of its own, on the lab's side.
  const shell = lab.startDaemon(host, terminal ? ['script', '-qec', 'bash -i', '/dev/null'] : ['bash'], {
    copyTo: { stdout: process.stdout, stderr: process.stderr },
  });
  if (terminal) process.stdin.setRawMode(true);
  process.stdin.on('data', (bytes: Buffer) => shell.write(bytes)).on('end', () => shell.endInput());
  process.exitCode = await shell.exited;
  if (terminal) process.stdin.setRawMode(false);
  process.stdin.destroy();
  await lab.close();
} catch (error) {
  if (!(error instanceof LabUnavailable)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}
