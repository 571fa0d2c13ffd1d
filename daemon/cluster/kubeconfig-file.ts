/** The text of a kubeconfig to its current context, with messages for people who wrote it by hand. */
import { dirname, resolve } from 'node:path';
import { type Cluster, KubeConfig, type User } from '@kubernetes/client-node';
import { load, YAMLException } from 'js-yaml';
import { FairwayError, messageOf } from '../errors.ts';
import { isRawObject, type RawObject } from './raw-object.ts';

/** Cluster and user of the current context; paths are absolute. */
export interface SelectedContext {
  readonly cluster: Cluster;
  readonly user: User;
  /** `users[].user.tokenFile`, which the official client does not read; '' where absent. */
  readonly tokenFile: string;
}

/** Throws FW_CONFIG_KUBECONFIG. Paths in the text are relative to the folder of `file`. */
export function parseKubeconfig(text: string, file: string): SelectedContext {
  const raw = parseYaml(text, file);
  const config = new KubeConfig();
  try {
    config.loadFromString(text);
  } catch (error) {
    throw wrong(file, `${messageOf(error)}; compare it with the output of "kubectl config view"`, error);
  }
  config.makePathsAbsolute(dirname(file));
  const name = config.getCurrentContext();
  const known =
    config
      .getContexts()
      .map(context => context.name)
      .join(', ') || 'none';
  if (!name) throw wrong(file, `current-context is missing; set it to one of the contexts (there: ${known})`);
  const context = config.getContexts().find(candidate => candidate.name === name);
  if (context === undefined) throw wrong(file, `current-context: there is no context ${JSON.stringify(name)} (there: ${known})`);
  const cluster = config.getClusters().find(candidate => candidate.name === context.cluster);
  if (cluster === undefined) throw dangling(file, name, 'cluster', context.cluster, config.getClusters());
  if (cluster.proxyUrl) {
    throw wrong(
      file,
      `clusters[${cluster.name}].cluster.proxy-url is not supported; remove it and make the server reachable directly`,
    );
  }
  const user = config.getUsers().find(candidate => candidate.name === context.user);
  if (context.user && user === undefined) throw dangling(file, name, 'user', context.user, config.getUsers());
  return { cluster, user: user ?? { name: 'anonymous' }, tokenFile: tokenFileOf(raw, context.user, file) };
}

function parseYaml(text: string, file: string): RawObject {
  let raw: unknown;
  try {
    raw = load(text);
  } catch (error) {
    const line = error instanceof YAMLException && error.mark !== undefined ? `:${error.mark.line + 1}` : '';
    throw wrong(`${file}${line}`, `not YAML: ${error instanceof YAMLException ? error.reason : messageOf(error)}`, error);
  }
  if (!isRawObject(raw) || (raw['kind'] !== undefined && raw['kind'] !== 'Config')) {
    throw wrong(file, 'not a kubeconfig; it begins with "apiVersion: v1" and "kind: Config"');
  }
  return raw;
}

function tokenFileOf(raw: RawObject, userName: string | undefined, file: string): string {
  const users = Array.isArray(raw['users']) ? raw['users'].filter(isRawObject) : [];
  const user = users.find(candidate => candidate['name'] === userName)?.['user'];
  const path = isRawObject(user) ? (user['tokenFile'] ?? user['token-file']) : undefined;
  return typeof path === 'string' && path !== '' ? resolve(dirname(file), path) : '';
}

function dangling(
  file: string,
  context: string,
  field: string,
  name: string,
  there: readonly { readonly name: string }[],
): FairwayError {
  const names = there.map(candidate => candidate.name).join(', ') || 'none';
  return wrong(file, `contexts[${context}].context.${field}: there is no ${field} ${JSON.stringify(name)} (there: ${names})`);
}

function wrong(file: string, message: string, cause?: unknown): FairwayError {
  return new FairwayError('FW_CONFIG_KUBECONFIG', `kubeconfig ${file}: ${message}`, { cause });
}
