/** The heartbeats of a cluster's kubelets, which a test can stop: what tells the living nodes that one is dead. */
import type { LabHost } from './addresses.ts';
import type { ApiObject } from './objects.ts';

/** A Lease is renewed so often; a node that has not renewed for as many seconds as it says is silent. Kubelets do 10 s and 40 s. */
const RENEWED_EVERY_MS = 1000;
export const LEASE_SECONDS = 4;

export class Kubelets {
  readonly #beating: Set<LabHost>;
  readonly #put: (lease: ApiObject) => void;
  readonly #timer: ReturnType<typeof setInterval>;

  /** All beat from now on. */
  constructor(nodes: readonly LabHost[], put: (lease: ApiObject) => void) {
    this.#beating = new Set(nodes);
    this.#put = put;
    for (const node of nodes) this.#renew(node);
    this.#timer = setInterval(() => {
      for (const node of this.#beating) this.#renew(node);
    }, RENEWED_EVERY_MS);
    this.#timer.unref();
  }

  /** Of a node that is dead or cut off. */
  silence(node: LabHost): void {
    this.#beating.delete(node);
  }

  revive(node: LabHost): void {
    this.#renew(node);
    this.#beating.add(node);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #renew(node: LabHost): void {
    this.#put({
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: node.name, namespace: 'kube-node-lease' },
      spec: {
        holderIdentity: node.name,
        leaseDurationSeconds: LEASE_SECONDS,
        renewTime: new Date().toISOString().replace('Z', '000Z'),
      },
    });
  }
}
