/** A real gobgpd on an address of 127.0.0.0/8: one to be driven by our adapter, or a neighbour with a configuration of its own that its own CLI reads. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { until } from '../lab/until.ts';

const run = promisify(execFile);

/** Not a port of anyone's. */
export const BGP_PORT = 11790;

/** A path as a neighbour has it. */
export interface SeenPath {
  readonly nextHop: string;
  readonly asPath: readonly number[];
  readonly communities: readonly number[];
  readonly isStale: boolean;
}

interface RibAttribute {
  readonly type: number;
  readonly nexthop?: string;
  readonly communities?: readonly number[];
  readonly as_paths?: readonly { readonly asns: readonly number[] }[];
}

export class Gobgpd {
  readonly #folder = mkdtempSync(join(tmpdir(), 'fairway-gobgpd-'));
  #child: ChildProcess | undefined;

  get endpoint(): string {
    return `unix://${join(this.#folder, 'api.sock')}`;
  }

  /** Without a configuration it waits to be told all. */
  async start(configuration = ''): Promise<void> {
    const file = join(this.#folder, 'gobgpd.toml');
    const socket = join(this.#folder, 'api.sock');
    writeFileSync(file, configuration);
    rmSync(socket, { force: true });
    const args = [`--api-hosts=${this.endpoint}`, '--pprof-disable', ...(configuration === '' ? [] : ['-f', file])];
    this.#child = spawn('gobgpd', args, { stdio: 'ignore' });
    await until('gobgpd answers', async () => existsSync(socket), Boolean, 10_000);
  }

  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  /** Also what it left on disk. */
  async end(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async cli(...args: readonly string[]): Promise<string> {
    const { stdout } = await run('gobgp', ['--target', this.endpoint, ...args], { maxBuffer: 1 << 28 });
    return stdout;
  }

  /** The best path to each prefix. */
  async rib(family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<Readonly<Record<string, SeenPath>>> {
    const text = await this.cli('global', 'rib', '-a', family, '-j');
    const found = JSON.parse(text) as Record<string, { attrs: readonly RibAttribute[]; stale?: boolean }[]> | null;
    return Object.fromEntries(
      Object.entries(found ?? {}).flatMap(([prefix, [path]]) => (path === undefined ? [] : [[prefix, seenPath(path)]])),
    );
  }
}

function seenPath({ attrs, stale }: { readonly attrs: readonly RibAttribute[]; readonly stale?: boolean }): SeenPath {
  const of = (...types: readonly number[]): RibAttribute | undefined => attrs.find(({ type }) => types.includes(type));
  return {
    nextHop: of(3, 14)?.nexthop ?? '',
    asPath: (of(2)?.as_paths ?? []).flatMap(({ asns }) => asns),
    communities: of(8)?.communities ?? [],
    isStale: stale ?? false,
  };
}

export interface NeighborSettings {
  readonly address: string;
  readonly asn: number;
  /** Of the speaker under test. */
  readonly speaker: { readonly address: string; readonly asn: number };
  readonly families?: readonly ('ipv4' | 'ipv6')[];
  readonly password?: string;
  readonly gracefulRestart?: boolean;
  /** Whether it waits to be called. */
  readonly passive?: boolean;
  readonly port?: number;
  readonly speakerPort?: number;
}

/** The configuration of a neighbour, in GoBGP's own words. */
export function neighborConfiguration(settings: NeighborSettings): string {
  const { address, asn, speaker, families = ['ipv4'], password = '', gracefulRestart = false, passive = false } = settings;
  const routerId = `192.0.2.${Math.abs(asn + (Number(address.split('.').at(-1)) || 77)) % 250}`;
  return `
[global.config]
  as = ${asn}
  router-id = "${routerId}"
  port = ${settings.port ?? BGP_PORT}
  local-address-list = ["${address}"]
[[neighbors]]
  [neighbors.config]
    neighbor-address = "${speaker.address}"
    peer-as = ${speaker.asn}
    auth-password = "${password}"
  [neighbors.transport.config]
    local-address = "${address}"
    remote-port = ${settings.speakerPort ?? BGP_PORT}
    passive-mode = ${passive}
  [neighbors.ebgp-multihop.config]
    enabled = true
    multihop-ttl = 10
  [neighbors.timers.config]
    connect-retry = 5
  [neighbors.graceful-restart.config]
    enabled = ${gracefulRestart}
    restart-time = 120
${families
  .map(
    family => `  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "${family}-unicast"
    [neighbors.afi-safis.mp-graceful-restart.config]
      enabled = ${gracefulRestart}
`,
  )
  .join('')}`;
}
