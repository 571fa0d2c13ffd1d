/** A container on a node of the lab, by crun(1), as the kubelet has one started for a privileged pod in the host's network. */
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';
import type { LabProcess, ProgramResult } from './process.ts';
import type { UnpackedImage } from './unpacked-image.ts';

/** A file or folder of the node's in the container; a path that ends in `/` is a folder that is made where it is not there. */
export interface Mount {
  readonly from: string;
  readonly to: string;
  readonly options?: readonly string[];
}

export interface ContainerOptions {
  readonly name: string;
  readonly image: UnpackedImage;
  /** In place of the image's entry point. */
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  /** `securityContext` of a pod: privileged, or with all capabilities dropped. */
  readonly privileges: 'all' | 'none';
  /** `readOnlyRootFilesystem`. */
  readonly root: 'read-only' | 'writable';
}

const FOLDER = '/run/containers';

/**
 * The lab's kernel may be without control groups, and crun looks for them even where it is told to use none: an empty file system of the type
 * that it expects will do. The mount namespace is this program's own.
 */
const WITHOUT_CGROUPS = 'mount -t tmpfs none /sys/fs && mkdir /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup';
const CRUN = `crun --root ${FOLDER}/crun --cgroup-manager=disabled`;

/** All of Linux 6.1's; crun leaves out what a kernel does not know. */
const CAPABILITIES =
  'AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM'
    .split(' ')
    .map(name => `CAP_${name}`);

export class Container {
  readonly process: LabProcess;
  readonly #lab: Lab;
  readonly #host: LabHost;
  readonly #name: string;

  private constructor(lab: Lab, host: LabHost, name: string) {
    this.#lab = lab;
    this.#host = host;
    this.#name = name;
    this.process = lab.startDaemon(host, ['sh', '-ec', startScript(name)]);
  }

  static async start(lab: Lab, host: LabHost, options: ContainerOptions): Promise<Container> {
    const folder = `${FOLDER}/${options.name}`;
    await lab.writeFile(host, `${folder}/config.json`, JSON.stringify(configuration(options, `${folder}/root`)));
    await lab.writeFile(host, `${folder}/image`, options.image.root);
    const folders = options.mounts.map(({ from }) => from).filter(path => path.endsWith('/'));
    await lab.expectRun(host, ['mkdir', '-p', `${folder}/root`, `${folder}/work`, `${folder}/written`, ...folders]);
    return new Container(lab, host, options.name);
  }

  /** `kubectl exec` */
  async exec(argv: readonly string[]): Promise<ProgramResult> {
    const script = `${WITHOUT_CGROUPS}; exec ${CRUN} exec "$@"`;
    return await this.#lab.run(this.#host, ['sh', '-ec', script, 'sh', this.#name, ...argv]);
  }

  /** What the kubelet does first to end a pod; gives the exit status. */
  async stop(): Promise<number> {
    await this.#signal('TERM');
    return await this.process.exited;
  }

  /** Ends it at once, if it is still there. */
  async kill(): Promise<void> {
    if (!this.process.running) return;
    await this.#signal('KILL');
    await this.process.exited;
  }

  async #signal(name: string): Promise<void> {
    await this.#lab.expectRun(this.#host, ['sh', '-ec', `${WITHOUT_CGROUPS}; exec ${CRUN} kill ${this.#name} ${name}`]);
  }

  /** Paths below the root that the container wrote, mount points included. */
  async written(): Promise<readonly string[]> {
    const found = await this.#lab.expectRun(this.#host, [
      'find',
      `${FOLDER}/${this.#name}/written`,
      '-mindepth',
      '1',
      '-printf',
      '/%P\\n',
    ]);
    return found
      .split('\n')
      .filter(line => line !== '')
      .sort();
  }
}

/** The root is the image under a layer of the container's own, as in a runtime. */
function startScript(name: string): string {
  const folder = `${FOLDER}/${name}`;
  return [
    WITHOUT_CGROUPS,
    `mount -t overlay -o "lowerdir=$(cat ${folder}/image),upperdir=${folder}/written,workdir=${folder}/work" overlay ${folder}/root`,
    `exec ${CRUN} run --no-new-keyring --bundle ${folder} ${name}`,
  ].join('\n');
}

/** runtime-spec's config.json. */
function configuration(options: ContainerOptions, path: string): unknown {
  const { image, command, args = [], environment = {}, mounts, root, privileges } = options;
  const capabilities = privileges === 'all' ? CAPABILITIES : [];
  const given = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const bound = mounts.map(({ from, to, options = [] }) => ({
    destination: to,
    type: 'bind',
    source: from,
    options: ['rbind', ...options],
  }));
  return {
    ociVersion: '1.0.0',
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: [...(command ?? image.entrypoint), ...args],
      env: [...image.environment, ...given],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      noNewPrivileges: privileges === 'none',
    },
    root: { path, readonly: root === 'read-only' },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=65536k'] },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666'],
      },
      { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev'] },
      ...bound,
    ],
    // Those of a pod with hostNetwork: the node's network and name.
    linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }] },
  };
}
