/**
 * Whether we may write what the enabled modules write to the API server. Nothing is written to find out: the server is asked by a
 * SelfSubjectAccessReview (authorization.k8s.io/v1), which everybody whom it knows may do.
 */
import { statusOf } from '../../cluster/api-status.ts';
import { isRawObject } from '../../cluster/raw-object.ts';
import type { ApiResponse, ApiTransport } from '../../cluster/transport.ts';
import { messageOf } from '../../errors.ts';
import { type Finding, missing, ok, warning } from './finding.ts';

/** What one rule of a role allows. */
export interface Right {
  /** API group; '' for core. */
  readonly group: string;
  /** As in RBAC rules: `services/status`. */
  readonly resource: string;
  readonly verbs: readonly string[];
  /** '' for objects of all namespaces. */
  readonly namespace: string;
  /** '' for objects of any name. */
  readonly name: string;
  /** What does not work without it. */
  readonly use: string;
  /** True where what is enabled does nothing without it. */
  readonly isVital: boolean;
}

const PATH = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews';

export async function examineRights(
  transport: ApiTransport,
  rights: readonly Right[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  return Promise.all(rights.map(right => examineRight(transport, right, signal)));
}

async function examineRight(transport: ApiTransport, right: Right, signal: AbortSignal): Promise<Finding> {
  try {
    const allowed = await Promise.all(right.verbs.map(verb => isAllowed(transport, right, verb, signal)));
    const lacking = right.verbs.filter((_, index) => allowed[index] !== true);
    if (lacking.length === 0) return ok(right.resource, `we may ${right.verbs.join(', ')}${placeOf(right)}`);
    return (right.isVital ? missing : warning)(right.resource, refusalText(right, lacking));
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return warning(right.resource, `whether we may write it cannot be asked: ${messageOf(thrown)}`);
  }
}

function refusalText(right: Right, lacking: readonly string[]): string {
  const { group, resource, name, namespace, use } = right;
  const quoted = (words: readonly string[]): string => words.map(word => `"${word}"`).join(', ');
  const names = name === '' ? '' : `, resourceNames: ["${name}"]`;
  const rule = `apiGroups: ["${group}"], resources: ["${resource}"]${names}, verbs: [${quoted(lacking)}]`;
  const role = namespace === '' ? 'its ClusterRole' : `a Role of it in the namespace ${namespace}`;
  return `${use}: our identity lacks ${quoted(lacking)} of "${resource}"${placeOf(right)}; add to ${role} the rule ${rule}`;
}

function placeOf({ name, namespace }: Right): string {
  return `${name === '' ? '' : ` ${name}`}${namespace === '' ? '' : ` in ${namespace}`}`;
}

async function isAllowed(transport: ApiTransport, right: Right, verb: string, signal: AbortSignal): Promise<boolean> {
  const { group, namespace, name } = right;
  const [resource = '', subresource = ''] = right.resource.split('/');
  const review = {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    spec: { resourceAttributes: { group, resource, subresource, verb, namespace, name } },
  };
  const response = await transport.request({ method: 'POST', path: PATH, body: JSON.stringify(review), signal });
  if (response.status !== 201 && response.status !== 200) {
    const { code, message } = await statusOf(response);
    throw new Error(`${code} ${message}`.trim());
  }
  const answer: unknown = JSON.parse(await textOf(response));
  return isRawObject(answer) && isRawObject(answer['status']) && answer['status']['allowed'] === true;
}

async function textOf({ body }: ApiResponse): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces).toString('utf8');
}
