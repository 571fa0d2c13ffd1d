import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Kind } from '../../daemon/cluster/kinds.ts';
import type { Snapshot } from '../../daemon/cluster/snapshot.ts';
import type { Fragment, OwnerKey } from '../../daemon/reconcile/fragment.ts';
import { policyModule } from '../../modules/policy/module.ts';
import { arbitraryPools, POOLS_KEY } from '../fixtures/address-pools.ts';
import {
  arbitraryCluster,
  arbitraryCrowd,
  arbitraryCrowdEvent,
  arbitraryEvent,
  arbitraryOptions,
  type PolicyEvent,
  PolicyScene,
  subjectOf,
} from '../fixtures/policy-scene.ts';
import { propertyRun } from '../fixtures/property-run.ts';

const arbitraryPoolsEvent: fc.Arbitrary<PolicyEvent> = arbitraryPools.map(pools =>
  pools === undefined ? { remove: 'ConfigMap', key: POOLS_KEY } : { put: pools },
);

type Fragments = ReadonlyMap<OwnerKey, Fragment>;

/** Entries have no order among each other across fragments; those of one fragment have, in both ways of planning. */
function byOwner(fragments: Fragments): readonly (readonly [OwnerKey, Fragment])[] {
  return [...fragments].sort(([a], [b]) => (a < b ? -1 : 1));
}

function isDeepEqual(a: unknown, b: unknown): boolean {
  try {
    assert.deepEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

/** Fragments that are other objects than before, with the same content: each would be compared in vain. */
function rebuilt(before: Fragments, after: Fragments): readonly OwnerKey[] {
  return [...after].flatMap(([owner, fragment]) => {
    const former = before.get(owner);
    return former !== undefined && former !== fragment && isDeepEqual(former, fragment) ? [owner] : [];
  });
}

/** What is looked at in any case: the object's own, and of a policy the groups that it is in. */
function isOwnFragment(owner: OwnerKey, event: PolicyEvent): boolean {
  return owner.endsWith(` ${subjectOf(event)}`) || (owner.startsWith('PolicyGroup ') && kindOf(event) === 'NetworkPolicy');
}

function kindOf(event: PolicyEvent): Kind {
  if ('put' in event) return event.put.kind;
  return 'remove' in event ? event.remove : event.relabel;
}

function addressesOf({ pods }: Snapshot, key: string): readonly string[] {
  return pods.get(key)?.addresses ?? [];
}

/** Policies that are rendered and what their rules choose pods by: a pod that is the first of a policy brings both. */
function rulesIn(fragments: Fragments): readonly OwnerKey[] {
  return [...fragments.keys()].filter(owner => /^(NetworkPolicy|Selection) /.test(owner)).sort();
}

/** Of pods that shared no address with this one, before or after, the fragment is the very object it was. */
function assertOtherPodsUntouched(key: string, before: Snapshot, after: Snapshot, from: Fragments, to: Fragments): void {
  const touched = new Set([...addressesOf(before, key), ...addressesOf(after, key)]);
  for (const [other] of before.pods) {
    if (other === key || addressesOf(after, other).some(address => touched.has(address))) continue;
    assert.equal(to.get(`Pod ${other}`), from.get(`Pod ${other}`), `Pod ${other} after an event of ${key}`);
  }
}

describe('planning network policy event by event', function () {
  const run = propertyRun(this.title, 150);
  // Hundreds of random cases; a busy machine takes its time.
  this.timeout(60_000 + run.numRuns * 250);

  it('gives after any history what planning from nothing gives, and leaves what an event does not touch as it was', () => {
    fc.assert(
      fc.property(
        arbitraryOptions,
        fc.oneof(arbitraryCluster, arbitraryCrowd),
        fc.array(
          fc.oneof(
            { weight: 6, arbitrary: arbitraryEvent },
            { weight: 2, arbitrary: arbitraryCrowdEvent },
            { weight: 1, arbitrary: arbitraryPoolsEvent },
          ),
          { minLength: 1, maxLength: 20, size: 'max' },
        ),
        (options, objects, events) => {
          const scene = new PolicyScene(objects);
          const module = policyModule(options);
          let former = module.plan(scene.snapshot()).fragments;
          for (const event of events) {
            scene.happen(event);
            const snapshot = scene.snapshot();
            const formerOwners = byOwner(former);
            const { fragments } = module.plan(snapshot);
            assert.deepEqual(byOwner(fragments), byOwner(policyModule(options).plan(snapshot).fragments));
            assert.deepEqual(byOwner(former), formerOwners, 'a plan that was handed out changed');
            const others = rebuilt(former, fragments).filter(owner => !isOwnFragment(owner, event));
            assert.deepEqual(others, [], `built anew after ${JSON.stringify(event)}`);
            assert.equal(module.plan(snapshot).fragments, fragments, 'the same snapshot gives the same plan');
            former = fragments;
          }
        },
      ),
      { ...run, plugins: [fc.unbiased()] },
    );
  });

  it('an event of one pod changes the fragment of no other pod, unless they dispute an address or it brings rules', () => {
    let looked = 0;
    fc.assert(
      fc.property(
        arbitraryOptions,
        arbitraryCluster,
        fc.array(
          arbitraryEvent.filter(event => kindOf(event) === 'Pod'),
          { minLength: 1, maxLength: 10 },
        ),
        (options, objects, events) => {
          const scene = new PolicyScene(objects);
          const module = policyModule(options);
          let before = scene.snapshot();
          let former = module.plan(before).fragments;
          for (const event of events) {
            scene.happen(event);
            const after = scene.snapshot();
            const { fragments } = module.plan(after);
            if (isDeepEqual(rulesIn(former), rulesIn(fragments))) {
              assertOtherPodsUntouched(subjectOf(event), before, after, former, fragments);
              looked++;
            }
            [before, former] = [after, fragments];
          }
        },
      ),
      { ...run, plugins: [fc.unbiased()] },
    );
    assert.ok(looked > run.numRuns, `${looked} events without a change of rules`);
  });
});
