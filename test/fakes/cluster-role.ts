/**
 * What RBAC lets somebody do who has one ClusterRole, request by request
 * (https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb).
 */

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

export class ClusterRole {
  /** What was asked for and not granted: `get /secrets`, `update coordination.k8s.io/leases`. */
  readonly denied: string[] = [];
  readonly #granted: ReadonlySet<string>;

  constructor(rules: readonly PolicyRule[]) {
    this.#granted = new Set(
      rules.flatMap(({ apiGroups, resources, verbs }) =>
        apiGroups.flatMap(group => resources.flatMap(resource => verbs.map(verb => `${verb} ${group}/${resource}`))),
      ),
    );
  }

  /** Whether the request may be made. What names no resource, such as /version, everybody may ask. */
  allows(method: string, url: URL): boolean {
    const wanted = wantedBy(method, url);
    if (wanted === undefined || this.#granted.has(wanted)) return true;
    this.denied.push(wanted);
    return false;
  }
}

/** `VERB GROUP/RESOURCE` of a request; undefined where it is about no resource. */
function wantedBy(method: string, url: URL): string | undefined {
  const [, group = '', path = ''] = /^\/(?:api|apis\/([^/]+))\/v[^/]+\/(.+)$/.exec(url.pathname) ?? [];
  if (path === '') return undefined;
  const parts = path.split('/');
  // A namespace is before the resource in the path, or is the resource itself.
  const [resource = '', name, subresource] = parts[0] === 'namespaces' && parts.length > 2 ? parts.slice(2) : parts;
  const full = subresource === undefined ? resource : `${resource}/${subresource}`;
  return `${verbOf(method, name, url)} ${group}/${full}`;
}

function verbOf(method: string, name: string | undefined, url: URL): string {
  if (method === 'GET' && name !== undefined) return 'get';
  if (method === 'GET') return url.searchParams.get('watch') === 'true' ? 'watch' : 'list';
  if (method === 'DELETE' && name === undefined) return 'deletecollection';
  const verbs: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
  return verbs[method] ?? method.toLowerCase();
}
