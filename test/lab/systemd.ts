/** systemd as the first process of a node, as on a machine: its units, its watchdog and its sandbox are the real ones. */
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import type { ProgramResult } from './process.ts';
import { until } from './until.ts';

/** Milliseconds; a guest shares its CPU. */
const BOOT_LIMIT_MS = 60_000;

export class Systemd {
  readonly #lab: Lab;
  readonly #node: LabHost;
  /** Of systemd, as the guest counts: for who enters its namespaces. */
  readonly #pid: string;

  private constructor(lab: Lab, node: LabHost, pid: string) {
    this.#lab = lab;
    this.#node = node;
    this.#pid = pid;
  }

  /**
   * Boots to basic.target: no service of this machine's own, whose root the guest shares, is started. Only in a guest: units that are enabled are disabled in its
   * overlay first. It believes to be in a container (https://systemd.io/CONTAINER_INTERFACE), so it leaves the guest's devices alone.
   */
  static async boot(lab: Lab, node: LabHost): Promise<Systemd> {
    if (lab.place !== 'guest') throw new Error('systemd is booted in a guest only: it writes to /etc');
    const prepare = [
      'rm -rf /etc/systemd/system/*.wants',
      // A boot empties /tmp, where this test may live.
      'ln -sf /dev/null /etc/tmpfiles.d/tmp.conf',
      // This machine's own ideas of what packages may start, and what is done after their installation.
      'rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/*',
      'mount -t cgroup2 none /sys/fs/cgroup',
    ];
    await lab.expectRun(node, ['sh', '-c', prepare.join(' && ')]);
    const argv = ['unshare', '--pid', '--mount', '--fork', '--mount-proc', '/lib/systemd/systemd', '--unit=basic.target'];
    lab.startDaemon(node, argv, { environment: { container: 'lab' }, directory: '/' });
    const find = async (): Promise<string> => (await lab.run(node, ['pgrep', '--exact', 'systemd'])).stdout.trim();
    const pid = await until('systemd runs', find, found => /^\d+$/.test(found), BOOT_LIMIT_MS);
    const systemd = new Systemd(lab, node, pid);
    const state = async (): Promise<string> => (await systemd.run('systemctl', 'is-system-running')).stdout.trim();
    await until('systemd has booted', state, seen => seen === 'running' || seen === 'degraded', BOOT_LIMIT_MS);
    return systemd;
  }

  /** A program among the processes of this systemd, to its end. */
  async run(...argv: readonly string[]): Promise<ProgramResult> {
    const entered = [
      'nsenter',
      `--target=${this.#pid}`,
      '--pid',
      '--mount',
      '--',
      'env',
      'DEBIAN_FRONTEND=noninteractive',
      ...argv,
    ];
    return await this.#lab.run(this.#node, entered, { directory: '/' });
  }

  /** As `run`, but rejects with what it said unless the exit status is 0; what it printed. */
  async expect(...argv: readonly string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...argv);
    if (status !== 0) throw new Error(`${argv.join(' ')}: status ${status}\n${stderr}${stdout}`);
    return stdout.trimEnd();
  }

  /** Properties of a unit (`systemctl show`). */
  async show(unit: string, ...names: readonly string[]): Promise<Readonly<Record<string, string>>> {
    const text = await this.expect('systemctl', 'show', unit, `--property=${names.join(',')}`);
    return Object.fromEntries(
      text.split('\n').map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    );
  }
}
