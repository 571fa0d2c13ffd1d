/** Whether a predecessor runs on this node: its traces are no leftovers then, and it would make them anew. */
import { access, readdir, readFile, readlink } from 'node:fs/promises';
import { get } from 'node:http';
import type { Predecessor } from '../config/options-commands.ts';
import { TRACES } from './sweep.ts';

/** Milliseconds that the answer of a health page may take. */
const ANSWER_MS = 1000;

/** How that shows: `process 4711`, `it answers on port 10256`; undefined where it does not run. */
export async function runningAs(of: Predecessor, signal: AbortSignal): Promise<string | undefined> {
  const process = await processOf(of);
  if (process !== undefined) return `process ${process}`;
  // Processes of the node are not seen from a pod without hostPID, and k3s has kube-proxy within its own.
  const { healthPort } = TRACES[of];
  return (await answers(of, healthPort, signal)) ? `it answers on port ${healthPort}` : undefined;
}

/** Its process, by the name of its program (proc(5): comm), in our network namespace: a node in a container has processes of other nodes beside it. */
async function processOf(name: string): Promise<number | undefined> {
  const here = await readlink('/proc/self/ns/net');
  for (const entry of await readdir('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const comm = await readFile(`/proc/${entry}/comm`, 'latin1').catch(() => '');
    if (comm.trim() !== name) continue;
    const there = await readlink(`/proc/${entry}/ns/net`).catch(() => undefined);
    if (there === here) return Number(entry);
  }
  return undefined;
}

/**
 * kube-proxy's page tells when it was `lastUpdated` (pkg/proxy/healthcheck/proxy_health.go). kube-router's health port is ours too; only ours has a page
 * of that name, and Go's server says so in these words.
 */
async function answers(of: Predecessor, port: number, signal: AbortSignal): Promise<boolean> {
  switch (of) {
    case 'kube-proxy':
      return (await page(port, '/healthz', signal)).includes('"lastUpdated"');
    case 'kube-router':
      return (await page(port, '/readyz', signal)).startsWith('404 page not found');
  }
}

/** Its text, whatever its status; empty where nobody answers. */
function page(port: number, path: string, signal: AbortSignal): Promise<string> {
  return new Promise(resolve => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
    const request = get({ host: '127.0.0.1', port, path, agent: false, signal: limited }, response => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        if (text.length < 10_000) text += piece;
      });
      response.once('close', () => resolve(text));
    });
    request.once('error', () => resolve(''));
  });
}

/** Whether the host has a link of that name. */
export function hasLink(name: string): Promise<boolean> {
  return access(`/sys/class/net/${name}`).then(
    () => true,
    () => false,
  );
}
