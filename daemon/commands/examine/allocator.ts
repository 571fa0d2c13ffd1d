/** What the allocator of load-balancer addresses needs: a name in the election, and the rights that `manifests/components/load-balancer` gives. */
import { LEASE_NAME } from '../../allocation/lease-place.ts';
import { type Examiner, ok } from './finding.ts';
import type { Right } from './write-rights.ts';

const CORE = { group: '', namespace: '', name: '' } as const;
const LEASES = { group: 'coordination.k8s.io', resource: 'leases', isVital: true } as const;

/** @param namespace in which the Lease of the election is kept */
export function allocatorRights(namespace: string): readonly Right[] {
  return [
    { ...CORE, resource: 'services', verbs: ['get'], use: 'no address is written', isVital: true },
    { ...CORE, resource: 'services/status', verbs: ['update'], use: 'no address is written', isVital: true },
    {
      ...CORE,
      resource: 'events',
      verbs: ['create', 'patch'],
      use: 'Services do not tell why they get no address',
      isVital: false,
    },
    // RBAC cannot allow to create an object of one name only.
    { ...LEASES, namespace, name: '', verbs: ['create'], use: 'no allocator can be elected where there was none before' },
    { ...LEASES, namespace, name: LEASE_NAME, verbs: ['get', 'update'], use: 'it cannot be elected' },
  ];
}

/** @param nodeName who we are where nobody gave the name of a pod */
export function electionExaminer({
  podName,
  nodeName,
}: {
  readonly podName: string | undefined;
  readonly nodeName: string;
}): Examiner {
  const finding =
    podName === undefined
      ? ok('POD_NAME', `not set: in the election of the allocator we are ${nodeName}, which no other may be`)
      : ok('POD_NAME', `in the election of the allocator we are ${podName}`);
  return { title: 'Allocator', examine: () => Promise.resolve([finding]) };
}
