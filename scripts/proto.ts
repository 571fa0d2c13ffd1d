/**
 * `node scripts/proto.ts`: makes `daemon/bgp/proto` anew from the protocol files of Debian's `golang-github-osrg-gobgp-dev` (GoBGP 3.10), cut to what
 * we call. Their licence notice is kept at the top of what they became.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const TARGET = join(ROOT, 'daemon/bgp/proto');
const PACKAGE = 'golang-github-osrg-gobgp-dev';

/** The files of GoBGP 3.10.0, by their SHA-256. */
const SOURCES = {
  'gobgp.proto': 'a6a174f1919a955600b20871316cd1c7b69247677dc34c31c851c9c26bc30d00',
  'attribute.proto': '70432a89b36fa9b3167f687755a7ed0601eeec29d0109b221764f8b36a1f34e9',
  'capability.proto': 'dc103a749757903db828d64ec9b48d193ff728daca34df56a63d07832b0c32cf',
} as const;

const METHODS = [
  ...['StartBgp', 'StopBgp', 'GetBgp', 'WatchEvent'],
  ...['AddPeer', 'DeletePeer', 'ListPeer', 'UpdatePeer', 'ResetPeer'],
  ...['DeletePath', 'ListPath', 'AddPathStream'],
  ...['AddPolicy', 'DeletePolicy', 'ListPolicy', 'SetPolicyAssignment', 'ListPolicyAssignment'],
  ...['AddDefinedSet', 'DeleteDefinedSet', 'ListDefinedSet'],
];

/** What stands within a `google.protobuf.Any`. */
const PACKED = [
  'IPAddressPrefix',
  'OriginAttribute',
  'NextHopAttribute',
  'CommunitiesAttribute',
  'MpReachNLRIAttribute',
  'AsPathAttribute',
  'MultiExitDiscAttribute',
  'LocalPrefAttribute',
];

/** Runs under Node as it stands: no enums, imports with their ending. */
const OPTIONS =
  'outputServices=grpc-js,esModuleInterop=true,importSuffix=.ts,env=node,forceLong=number,oneof=unions-value,enumsAsLiterals=true,outputJsonMethods=false';

function run(program: string, args: readonly string[], cwd: string): void {
  execFileSync(program, args, { cwd, stdio: 'inherit' });
}

function fetchSources(work: string): void {
  run('apt-get', ['download', PACKAGE], work);
  const archive = readdirSync(work).find(name => name.endsWith('.deb'));
  if (archive === undefined) throw new Error(`apt-get download ${PACKAGE} left no package`);
  run('dpkg', ['-x', archive, 'unpacked'], work);
  const folder = join(work, 'unpacked/usr/share/gocode/src/github.com/osrg/gobgp/api');
  mkdirSync(join(work, 'src'));
  for (const [name, expected] of Object.entries(SOURCES)) {
    const bytes = readFileSync(join(folder, name));
    const found = createHash('sha256').update(bytes).digest('hex');
    if (found !== expected) throw new Error(`${name} is another than that of GoBGP 3.10.0: SHA-256 ${found}`);
    cpSync(join(folder, name), join(work, 'src', name));
  }
  writeFileSync(join(work, 'src/buf.yaml'), 'version: v2\n');
}

function generate(work: string): void {
  const types = [...METHODS.map(method => `apipb.GobgpApi.${method}`), ...PACKED.map(name => `apipb.${name}`)];
  const template = {
    version: 'v2',
    inputs: [{ directory: 'src', types }],
    plugins: [{ local: join(ROOT, 'node_modules/.bin/protoc-gen-ts_proto'), out: 'out', opt: [OPTIONS] }],
  };
  writeFileSync(join(work, 'buf.gen.yaml'), JSON.stringify(template));
  run(join(ROOT, 'node_modules/.bin/buf'), ['generate', '--include-imports'], work);
}

/** The comment that a protocol file begins with. */
function noticeOf(work: string, name: string): string {
  const text = readFileSync(join(work, 'src', name), 'utf8');
  return text.slice(0, text.indexOf('syntax = "proto3"'));
}

const work = mkdtempSync(join(tmpdir(), 'fairway-proto-'));
try {
  fetchSources(work);
  generate(work);
  rmSync(TARGET, { recursive: true, force: true });
  cpSync(join(work, 'out'), TARGET, { recursive: true });
  for (const name of ['gobgp', 'attribute'] as const) {
    const path = join(TARGET, `${name}.ts`);
    writeFileSync(path, noticeOf(work, `${name}.proto`) + readFileSync(path, 'utf8'));
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
