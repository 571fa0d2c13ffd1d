/**
 * The fake API server as a process, for daemons in network namespaces.
 *
 *     node test/fakes/api-server-main.ts --dir DIR [--host ADDRESS] [--port N] [--protocol h2|http/1.1|plain] [--token T]
 *
 * The first line on stdout is `{"ready":true,"url":...,"kubeconfig":...}`. Each line on stdin is one command, answered by one line,
 * `{"ok":true,"revision":N}` or `{"ok":false,"error":...}`:
 *
 *     {"op":"put","object":{...}}  {"op":"put","objects":[...]}  {"op":"load","file":"objects.json"}   (a JSON array or a v1 List)
 *     {"op":"delete","kind":"Service","namespace":"a","name":"b"}  {"op":"compact"}
 *     {"op":"freeze"}  {"op":"thaw"}  {"op":"cut","how":"reset|fin"}  {"op":"end","resource":"services","how":"clean|reset"}
 *     {"op":"behave","behaviour":{"watchList":422,"bookmarkMs":1000,"token":"..."},"forbidden":["watch nodes"]}
 *     {"op":"answer","match":"watch services","answer":{"status":429,"headers":{"retry-after":"2"}}}
 *     {"op":"fault","match":"update services/status","fault":"hang|lost"}
 *     {"op":"get","kind":"Service","namespace":"a","name":"b"}  ->  {"ok":true,"object":{...}}   (null where there is none)
 *     {"op":"list","resource":"events"}  ->  {"ok":true,"objects":[...]}
 *     {"op":"requests"}  ->  {"ok":true,"requests":[{"verb","resource","object","query"}],"connections":N}
 *     {"op":"role","rules":[{"apiGroups":[""],"resources":["services"],"verbs":["list"]}]}   (RBAC grants this and nothing else)
 *
 * It ends with stdin, or on SIGTERM.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { type Behaviour, type CannedAnswer, FakeApiServer, type Fault } from './api-server.ts';
import { ClusterRole, type PolicyRule } from './cluster-role.ts';
import type { ApiObject, ResourceName } from './object-store.ts';

/** The fields that the commands above use; what a command lacks is a mistake of the test and fails there. */
interface Command {
  readonly op: string;
  readonly object?: ApiObject;
  readonly objects?: readonly ApiObject[];
  readonly file?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name?: string;
  readonly resource?: ResourceName;
  readonly how?: string;
  readonly behaviour?: Partial<Omit<Behaviour, 'forbidden' | 'role'>>;
  readonly forbidden?: readonly string[];
  readonly match?: string;
  readonly answer?: CannedAnswer;
  readonly fault?: Fault;
  readonly rules?: readonly PolicyRule[];
}

function obey(fake: FakeApiServer, command: Command): object {
  switch (command.op) {
    case 'put':
      fake.put(...(command.objects ?? []), ...(command.object === undefined ? [] : [command.object]));
      return {};
    case 'load':
      fake.put(...objectsOf(JSON.parse(readFileSync(command.file ?? '', 'utf8')) as Listed));
      return {};
    case 'delete':
      fake.delete(command.kind ?? '', command.namespace ?? '', command.name ?? '');
      return {};
    case 'compact':
      fake.store.compact();
      return {};
    case 'freeze':
      fake.relay.freeze();
      return {};
    case 'thaw':
      fake.relay.thaw();
      return {};
    case 'cut':
      fake.relay.cut(command.how === 'fin' ? 'fin' : 'reset');
      return {};
    case 'end':
      fake.endWatches(command.resource ?? 'services', command.how === 'reset' ? 'reset' : 'clean');
      return {};
    case 'behave':
      Object.assign(fake.behaviour, command.behaviour);
      if (command.forbidden !== undefined) fake.behaviour.forbidden = new Set(command.forbidden);
      return {};
    case 'answer':
      fake.answerNext(command.match ?? '', command.answer ?? { status: 500 });
      return {};
    case 'fault':
      fake.faultNext(command.match ?? '', command.fault ?? 'hang');
      return {};
    case 'role':
      fake.behaviour.role = command.rules === undefined ? undefined : new ClusterRole(command.rules);
      return {};
    case 'get':
      return { object: fake.store.get(command.kind ?? '', command.namespace ?? '', command.name ?? '') ?? null };
    case 'list':
      return { objects: fake.store.list(command.resource ?? 'services').map(({ json }) => JSON.parse(json) as ApiObject) };
    case 'requests': {
      const requests = fake.requests.map(({ verb, resource, object, query }) => ({
        verb,
        resource,
        object,
        query: Object.fromEntries(query),
      }));
      return { requests, connections: fake.relay.accepted };
    }
    default:
      throw new TypeError(`no such command: ${JSON.stringify(command.op)}`);
  }
}

type Listed = readonly ApiObject[] | { readonly items: readonly ApiObject[] };

function objectsOf(parsed: Listed): readonly ApiObject[] {
  return 'items' in parsed ? parsed.items : parsed;
}

function answer(object: object): void {
  process.stdout.write(`${JSON.stringify(object)}\n`);
}

const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    protocol: { type: 'string', default: 'h2' },
    token: { type: 'string', default: 'token-of-the-test' },
  },
});
if (values.dir === undefined) throw new TypeError('--dir DIR is missing');
const { dir: directory, host, token, port } = values;
const protocol = values.protocol === 'plain' || values.protocol === 'http/1.1' ? values.protocol : 'h2';
const fake = await FakeApiServer.start({ directory, host, port: Number(port), token, protocol });
answer({ ready: true, url: fake.url, kubeconfig: fake.writeKubeconfig() });
process.once('SIGTERM', () => process.exit(0));
for await (const text of createInterface({ input: process.stdin })) {
  try {
    const result = obey(fake, JSON.parse(text) as Command);
    answer({ ok: true, revision: fake.store.revision, ...result });
  } catch (error) {
    answer({ ok: false, error: String(error) });
  }
}
fake.stop();
process.exit(0);
