/** The status of Services, written to the API server: read, then put with the version that was read, so that nobody's change is lost. */
import { type ApiObjects, ApiRefusal, type ObjectPlace, refusedWith, type WriteOptions } from '../cluster/api-objects.ts';
import { isRawObject, type RawObject } from '../cluster/raw-object.ts';
import { RequestWithheld } from '../cluster/transport.ts';
import { versionOf } from '../cluster/watch-event.ts';
import { asFairwayError } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import type { StatusOrder, StatusOutcome, StatusPort } from './status-port.ts';

/** Times that somebody else may have been faster before it is put off. */
const TRIES = 5;
/** By which the server's books tell our writing from others'. */
const FIELD_MANAGER = 'fairway';

/**
 * Milliseconds for each request, less than what is left of a Lease when its holder stops counting itself elected: what was sent as the leader has arrived
 * or is given up before another one may be elected.
 */
const REQUEST_MS = 3000;

export class ApiStatusPort implements StatusPort {
  readonly #objects: ApiObjects;

  constructor(objects: ApiObjects) {
    this.#objects = objects;
  }

  async write(order: StatusOrder, mayWrite: () => boolean, signal: AbortSignal): Promise<StatusOutcome> {
    for (let tries = 1; ; tries++) {
      const outcome = await this.#once(order, mayWrite, signal);
      const isLate = outcome.kind === 'refused' && refusedWith(outcome.error) === 409;
      if (!isLate || tries === TRIES) return outcome;
    }
  }

  async #once(order: StatusOrder, mayWrite: () => boolean, signal: AbortSignal): Promise<StatusOutcome> {
    if (!mayWrite()) return { kind: 'withheld' };
    const place: ObjectPlace = { group: '', resource: 'services', subresource: '', namespace: order.namespace, name: order.name };
    const options: WriteOptions = { signal, deadlineMs: REQUEST_MS };
    let service: RawObject;
    try {
      service = await this.#objects.get(place, options);
    } catch (thrown) {
      return refused(thrown, signal);
    }
    if (uidOf(service) !== order.uid) return { kind: 'gone' };
    const ingress = ingressAfter(service, order);
    if (ingress === undefined) return { kind: 'unchanged', version: versionOf(service) };
    const status = { ...fieldsOf(service['status']), loadBalancer: { ...loadBalancerOf(service), ingress } };
    const guarded = { ...options, mayBeSent: mayWrite, fieldManager: FIELD_MANAGER };
    try {
      const written = await this.#objects.replace({ ...place, subresource: 'status' }, { ...service, status }, guarded);
      return { kind: 'written', version: versionOf(written) };
    } catch (thrown) {
      const isCertain = thrown instanceof RequestWithheld || (thrown instanceof ApiRefusal && thrown.isCertain);
      if (isCertain) return refused(thrown, signal);
      if (signal.aborted) throw thrown;
      return { kind: 'unknown', error: asFairwayError(thrown, 'FW_API_UNREACHABLE'), version: versionOf(service) };
    }
  }
}

/** Nothing was written. */
function refused(thrown: unknown, signal: AbortSignal): StatusOutcome {
  if (thrown instanceof RequestWithheld) return { kind: 'withheld' };
  if (refusedWith(thrown) === 404) return { kind: 'gone' };
  if (signal.aborted) throw thrown;
  const error = asFairwayError(thrown, 'FW_API_UNREACHABLE');
  return { kind: 'refused', error, retryAfterMs: error instanceof ApiRefusal ? error.retryAfterMs : 0 };
}

/**
 * What `status.loadBalancer.ingress` is to be; undefined where it may stay. Ours come first, in their order, each entry as it stands there (its `ports`
 * and `ipMode` with it); what others wrote, and host names, stays behind them.
 */
function ingressAfter(service: RawObject, { addresses, found }: StatusOrder): readonly RawObject[] | undefined {
  // The API server refuses addresses of a Service of another type, and takes away those that it had.
  if (fieldsOf(service['spec'])['type'] !== 'LoadBalancer' && addresses.length > 0) return undefined;
  const written = loadBalancerOf(service)['ingress'];
  const entries = Array.isArray(written) ? written.filter(isRawObject) : [];
  const isOurs = (address: IpAddress | undefined): boolean =>
    address !== undefined && (addresses.includes(address) || found.includes(address));
  const ours = entries.filter(entry => isOurs(addressOf(entry)));
  const others = entries.filter(entry => !isOurs(addressOf(entry)));
  const isAsWanted = ours.length === addresses.length && ours.every((entry, index) => addressOf(entry) === addresses[index]);
  if (isAsWanted) return undefined;
  // Another controller was faster than the plan knew. What stands in a list that we wrote would look like ours from then on, and be taken away.
  const isNew = addresses.some(address => !ours.some(entry => addressOf(entry) === address));
  if (isNew && others.some(({ ip }) => ip !== undefined)) return undefined;
  const wanted = addresses.map(address => ours.find(entry => addressOf(entry) === address) ?? { ip: address });
  return [...wanted, ...others];
}

function addressOf({ ip }: RawObject): IpAddress | undefined {
  return typeof ip === 'string' ? parseAddress(ip) : undefined;
}

function loadBalancerOf(service: RawObject): RawObject {
  return fieldsOf(fieldsOf(service['status'])['loadBalancer']);
}

function uidOf(service: RawObject): unknown {
  return fieldsOf(service['metadata'])['uid'];
}

function fieldsOf(value: unknown): RawObject {
  return isRawObject(value) ? value : {};
}
