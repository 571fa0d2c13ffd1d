/** Whether clients outside are told the way to a virtual address, by BGP or on the local network, and why not. */
import { type EndpointSlice, keyOf, type Service } from '../cluster/kinds.ts';
import { policiesOf } from '../cluster/virtual-addresses.ts';
import { familyOf, type IpAddress } from '../net/address.ts';
import { hostPrefix } from '../net/prefix.ts';
import { kernelText } from '../reconcile/kernel-text.ts';
import { TABLES } from '../reconcile/tables.ts';
import type { Step, Verdict } from './explanation.ts';
import { refText, type Scene } from './scene.ts';
import type { MeantService } from './service-steps.ts';

export interface Announcement {
  readonly step: Step;
  /** Undefined where it is announced, or nobody here would. */
  readonly withdrawn: Verdict | undefined;
}

/** Undefined where nothing announces, and for node ports: their address is the node's. What does it by one way need not do it by the other. */
export function announcementOf(address: IpAddress, meant: MeantService, scene: Scene): Announcement | undefined {
  if (meant.through === 'nodePort') return undefined;
  const byBgp = toTheFabric(address, meant, scene);
  if (byBgp !== undefined && byBgp.withdrawn === undefined) return byBgp;
  return onTheLan(address, scene) ?? byBgp;
}

/** Undefined where this node does not answer: which other one does is theirs to say. */
function onTheLan(address: IpAddress, { snapshot, tables }: Scene): Announcement | undefined {
  for (const link of snapshot.host.links.keys()) {
    const key = TABLES.lanAddress.key({ link, address });
    const answer = tables.entry('lanAddress', key);
    if (answer?.actual === undefined) continue;
    const what = `answered for on the local network by ${snapshot.node.name}: ${address} on ${link}`;
    const kernel = kernelText('lanAddress', key, answer.actual);
    return { step: { what, kernel, objects: answer.owners.map(refText), state: 'ok' }, withdrawn: undefined };
  }
  return undefined;
}

/** Undefined without BGP. */
function toTheFabric(address: IpAddress, meant: MeantService, scene: Scene): Announcement | undefined {
  if (scene.tables.entry('bgpServer', 'global') === undefined) return undefined;
  const key = hostPrefix(address);
  const path = scene.tables.entry('bgpPath', key);
  if (path?.actual !== undefined) {
    const kernel = kernelText('bgpPath', key, path.actual);
    const step: Step = { what: `announced to the fabric: ${key}`, kernel, objects: path.owners.map(refText), state: 'ok' };
    return { step, withdrawn: undefined };
  }
  const reason =
    path?.failure === undefined
      ? path === undefined
        ? whyNot(address, meant, scene)
        : 'BGP has not taken it yet'
      : path.failure.error.message;
  const what = `not announced to the fabric: ${key}`;
  return {
    step: { what, note: reason, objects: [`Service ${keyOf(meant.service.meta)}`], state: 'stops' },
    withdrawn: {
      outcome: 'withdrawn',
      reason: `the VIP ${address} is not announced by ${scene.snapshot.node.name} because ${reason}`,
    },
  };
}

function whyNot(address: IpAddress, { service, through }: MeantService, scene: Scene): string {
  const name = keyOf(service.meta);
  const complaint = scene.diagnostics.find(({ object, message }) => object.key === name && message.includes(address));
  if (complaint !== undefined) return complaint.message;
  const annotation = `kube-router.io/service.advertise.${through.toLowerCase()}`;
  const text = service.annotations[annotation];
  if (text !== undefined && !['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text))
    return `Service ${name} has the annotation ${annotation}: '${text}'`;
  if (through === 'loadBalancerIP' && service.type !== 'LoadBalancer')
    return `Service ${name} is of type ${service.type}, not LoadBalancer`;
  const slices = scene.snapshot.endpointSlicesOf.get(name) ?? [];
  if (!hasEndpoint(slices, address, undefined)) return `Service ${name} has no ready endpoint`;
  const { policies } = policiesOf(service);
  const policy = through === 'clusterIP' ? policies.internal : policies.external;
  const { name: node } = scene.snapshot.node;
  if (policy === 'Local' && !hasEndpoint(slices, address, node))
    return `Service ${name} has traffic policy Local and no ready endpoint on ${node}; nodes with one announce it`;
  return withdrawnByRules(service, annotation);
}

function withdrawnByRules(service: Service, annotation: string): string {
  return `neither a flag (--advertise-cluster-ip, --advertise-external-ip, --advertise-loadbalancer-ip) nor the annotation ${annotation} of Service ${keyOf(service.meta)} asks for it`;
}

/** @param node Undefined for anywhere. */
function hasEndpoint(slices: readonly EndpointSlice[], address: IpAddress, node: string | undefined): boolean {
  return slices.some(
    slice =>
      slice.family === familyOf(address) &&
      slice.endpoints.some(
        ({ ready, serving, terminating, nodeName }) =>
          (ready || (serving && terminating)) && (node === undefined || nodeName === node),
      ),
  );
}
