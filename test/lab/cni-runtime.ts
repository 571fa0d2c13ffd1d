/** A container runtime as far as CNI sees one: it reads a configuration and runs the plugins, as the specification says (containernetworking.io, 1.0.0). */

import type { LabHost } from './addresses.ts';
import { LabError } from './agent.ts';
import type { Lab } from './lab.ts';
import type { ProgramResult } from './process.ts';

export type CniCommand = 'ADD' | 'CHECK' | 'DEL';

export interface CniResult {
  readonly interfaces: readonly { readonly name: string; readonly sandbox?: string }[];
  readonly ips: readonly { readonly address: string; readonly gateway?: string }[];
}

/** What a runtime passes on to plugins that say they can do it, by capability. */
export type RuntimeConfig = Readonly<Record<string, unknown>>;

interface Plugin {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
}

interface Configuration {
  readonly cniVersion: string;
  readonly name: string;
  readonly plugins: readonly Plugin[];
}

const PLUGINS = '/usr/lib/cni';
/** The place itself, above the namespaces: it sees /run/netns. */
const PLACE: LabHost = { name: '', addresses: { ipv4: '', ipv6: '' } };

/** A pod made by plugins: a namespace of the lab like others, whose links are the plugins' business. */
export class CniPod implements LabHost {
  readonly name: string;
  readonly addresses: LabHost['addresses'];
  readonly #lab: Lab;
  readonly #node: LabHost;
  readonly #runtimeConfig: RuntimeConfig;
  #result: CniResult | undefined;

  constructor(lab: Lab, node: LabHost, name: string, runtimeConfig: RuntimeConfig) {
    this.#lab = lab;
    this.#node = node;
    this.name = name;
    this.addresses = { ipv4: '', ipv6: '' };
    this.#runtimeConfig = runtimeConfig;
  }

  /** An empty namespace. */
  async make(): Promise<void> {
    await this.#lab.expectRun(PLACE, ['ip', 'netns', 'add', this.name]);
    await this.#lab.expectRun(this, ['ip', 'link', 'set', 'lo', 'up']);
  }

  /** ADD of each plugin in turn, each given what the one before made of it. Rejects with what the plugin said. */
  async add(path: string): Promise<CniResult> {
    const { plugins } = await this.#configuration(path);
    this.#result = undefined;
    for (const plugin of plugins) {
      const { status, stdout, stderr } = await this.#run('ADD', path, plugin);
      if (status !== 0) throw new LabError(`ADD by ${plugin.type} for ${this.name}: ${stdout}${stderr}`);
      this.#result = JSON.parse(stdout) as CniResult;
    }
    if (this.#result === undefined) throw new LabError(`${path} has no plugins`);
    return this.#result;
  }

  /** What each plugin that finds something amiss says of it; a runtime stops at the first. */
  async check(path: string): Promise<ReadonlyMap<string, string>> {
    const complaints = new Map<string, string>();
    for (const plugin of (await this.#configuration(path)).plugins) {
      const { status, stdout, stderr } = await this.#run('CHECK', path, plugin);
      if (status !== 0) complaints.set(plugin.type, `${stdout}${stderr}`);
    }
    return complaints;
  }

  /** DEL of each plugin, last to first. */
  async del(path: string): Promise<void> {
    for (const plugin of (await this.#configuration(path)).plugins.toReversed()) {
      const { status, stdout, stderr } = await this.#run('DEL', path, plugin);
      if (status !== 0) throw new LabError(`DEL by ${plugin.type} for ${this.name}: ${stdout}${stderr}`);
    }
  }

  async #configuration(path: string): Promise<Configuration> {
    const read = JSON.parse(await this.#lab.readFile(this.#node, path)) as Configuration & Plugin;
    return path.endsWith('.conflist') ? read : { cniVersion: read.cniVersion, name: read.name, plugins: [read] };
  }

  async #run(command: CniCommand, path: string, { capabilities = {}, ...plugin }: Plugin): Promise<ProgramResult> {
    const { cniVersion, name } = await this.#configuration(path);
    const passed = Object.entries(this.#runtimeConfig).filter(([capability]) => capabilities[capability] === true);
    const input = {
      ...plugin,
      cniVersion,
      name,
      ...(passed.length === 0 ? {} : { runtimeConfig: Object.fromEntries(passed) }),
      ...(this.#result === undefined ? {} : { prevResult: this.#result }),
    };
    // Leases are kept below /var/lib, which may be this machine's: each node of the lab has one of its own.
    const leases = `/run/lab/${this.#node.name}/var-lib`;
    const script = `mkdir -p ${leases} && mount --bind ${leases} /var/lib && exec ${PLUGINS}/${plugin.type}`;
    return await this.#lab.run(PLACE, ['ip', 'netns', 'exec', this.#node.name, 'sh', '-c', script], {
      directory: '/',
      input: JSON.stringify(input),
      environment: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: this.name,
        CNI_NETNS: `/run/netns/${this.name}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: PLUGINS,
      },
    });
  }
}
