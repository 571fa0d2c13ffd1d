/** Where the API server keeps the kinds that are watched. */
import type { Kind } from './kinds.ts';

export interface Resource {
  /** API group; '' for core. */
  readonly group: string;
  /** Plural name, as in RBAC rules. */
  readonly name: string;
  readonly path: string;
  /** Label selector sent with every list and watch; '' for none. */
  readonly labelSelector: string;
  /** Field selector, likewise. */
  readonly fieldSelector: string;
}

/** The namespace of the kubelets' heartbeats. */
export const NODE_LEASES = 'kube-node-lease';

/**
 * Slices of headless Services are never balanced, and the controller labels them. The label of another service proxy is no reason to
 * leave a slice out: its values `kube-router` and `fairway` are ours, and a selector cannot say "absent or one of these". Services
 * are watched whole: the label is not on them.
 */
export const RESOURCES: Readonly<Record<Kind, Resource>> = {
  Service: { group: '', name: 'services', path: '/api/v1/services', labelSelector: '', fieldSelector: '' },
  EndpointSlice: {
    group: 'discovery.k8s.io',
    name: 'endpointslices',
    path: '/apis/discovery.k8s.io/v1/endpointslices',
    labelSelector: '!service.kubernetes.io/headless',
    fieldSelector: '',
  },
  // Finished pods keep no address; one that finishes is told as deleted.
  Pod: {
    group: '',
    name: 'pods',
    path: '/api/v1/pods',
    labelSelector: '',
    fieldSelector: 'status.phase!=Succeeded,status.phase!=Failed',
  },
  Namespace: { group: '', name: 'namespaces', path: '/api/v1/namespaces', labelSelector: '', fieldSelector: '' },
  NetworkPolicy: {
    group: 'networking.k8s.io',
    name: 'networkpolicies',
    path: '/apis/networking.k8s.io/v1/networkpolicies',
    labelSelector: '',
    fieldSelector: '',
  },
  Node: { group: '', name: 'nodes', path: '/api/v1/nodes', labelSelector: '', fieldSelector: '' },
  // Which one is asked for is configuration: see `resourceOf`.
  ConfigMap: { group: '', name: 'configmaps', path: '/api/v1/configmaps', labelSelector: '', fieldSelector: '' },
  Lease: {
    group: 'coordination.k8s.io',
    name: 'leases',
    path: `/apis/coordination.k8s.io/v1/namespaces/${NODE_LEASES}/leases`,
    labelSelector: '',
    fieldSelector: '',
  },
};

/** A namespace and a name in it. */
export interface ObjectPlace {
  readonly namespace: string;
  readonly name: string;
}

/** Of ConfigMaps the one that is asked for, so that the right to read that one is enough. */
export function resourceOf(kind: Kind, configMap: ObjectPlace | undefined): Resource {
  if (kind !== 'ConfigMap' || configMap === undefined) return RESOURCES[kind];
  const { namespace, name } = configMap;
  return {
    ...RESOURCES.ConfigMap,
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps`,
    fieldSelector: `metadata.name=${name}`,
  };
}

/** How the log counts the objects of a kind. */
export const COUNTED_AS: Readonly<Record<Kind, string>> = {
  Service: 'services',
  EndpointSlice: 'endpointSlices',
  Node: 'nodes',
  Pod: 'pods',
  Namespace: 'namespaces',
  NetworkPolicy: 'networkPolicies',
  ConfigMap: 'addressPools',
  Lease: 'leases',
};
