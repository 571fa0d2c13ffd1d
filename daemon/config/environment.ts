/** The environment variables that configure the daemon. */

interface Variable {
  readonly name: string;
  readonly help: string;
}

const VARIABLES = {
  nodeName: { name: 'NODE_NAME', help: 'Name of this Node object, where --hostname-override is empty.' },
  cniConfFile: {
    name: 'KUBE_ROUTER_CNI_CONF_FILE',
    help: 'CNI configuration file to manage (default /etc/cni/net.d/10-kuberouter.conf).',
  },
  podName: { name: 'POD_NAME', help: 'Name of our own pod: who we are in the election of the load-balancer allocator.' },
  podNamespace: { name: 'POD_NAMESPACE', help: 'Namespace of our own pod, where the Lease of that election is kept.' },
} as const satisfies Record<string, Variable>;

/** For the help, in the order of the table. */
export const ENVIRONMENT: readonly Variable[] = Object.values(VARIABLES);

/** An unset or empty variable is undefined, or its default. */
export interface Environment {
  readonly nodeName: string | undefined;
  readonly cniConfFile: string;
  readonly podName: string | undefined;
  readonly podNamespace: string | undefined;
}

/** A process environment. */
export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

export function readEnvironment(variables: EnvironmentVariables): Environment {
  const read = (key: keyof typeof VARIABLES): string | undefined => variables[VARIABLES[key].name] || undefined;
  return {
    nodeName: read('nodeName'),
    cniConfFile: read('cniConfFile') ?? '/etc/cni/net.d/10-kuberouter.conf',
    podName: read('podName'),
    podNamespace: read('podNamespace'),
  };
}

/** True inside a pod, where the API server's address comes from the environment. */
export function isInCluster(variables: EnvironmentVariables): boolean {
  return (variables['KUBERNETES_SERVICE_HOST'] ?? '') !== '';
}
