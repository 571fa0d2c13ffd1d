/**
 * A fake container runtime as a program: `node test/fakes/cri-main.ts SOCKET CONFIG.json`. The file is read anew at each call: a list of
 * `{"id": "a1", "ips": ["10.244.1.5"], "netns": "/run/netns/pod-a"}`, the oldest first. Says `listening` once it does.
 */
import { readFileSync } from 'node:fs';
import { type FakeSandbox, startFakeRuntime } from './cri.ts';

const [socket, config] = process.argv.slice(2);
if (socket === undefined || config === undefined) {
  console.error('usage: cri-main.ts SOCKET CONFIG.json');
  process.exitCode = 2;
} else {
  await startFakeRuntime(socket, () => JSON.parse(readFileSync(config, 'utf8')) as readonly FakeSandbox[]);
  console.log('listening');
}
