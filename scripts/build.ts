/**
 * Builds `dist/fairway.js`: the daemon and everything it needs in one ESM file, for Node.js 22.19 and later.
 *
 * The file also starts on the older Node.js of a Debian release, where it hands over to the pinned one; see `launch.mjs`. So nothing of the
 * bundle may be linked before the launcher has run: built-in modules are required, not imported.
 */

import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build, type Plugin } from 'esbuild';

const root = resolve(import.meta.dirname, '..');

/** `import ... from 'node:x'` becomes a `require` at the point of evaluation. */
const builtinsByRequire: Plugin = {
  name: 'builtins-by-require',
  setup(bundler) {
    const names = builtinModules
      .filter(name => !name.startsWith('_') && !name.startsWith('node:'))
      .map(name => name.replace('/', '\\/'));
    bundler.onResolve({ filter: new RegExp(`^(node:.*|${names.join('|')})$`) }, ({ path, kind }) =>
      kind === 'require-call'
        ? { path, external: true }
        : { path: path.replace(/^node:/, ''), namespace: 'builtin', sideEffects: false },
    );
    bundler.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require('node:${path}')`,
      loader: 'js',
    }));
  },
};

/**
 * The Kubernetes client's package.json does not say that its 2,700 model files have no side effects, and all of them would be kept for
 * one KubeConfig. A twin of the package that says so, with the same files behind a link, is much faster than asking a plugin per import.
 */
async function kubernetesClientWithoutSideEffects(): Promise<string> {
  const original = join(root, 'node_modules', '@kubernetes', 'client-node');
  const cache = join(root, 'node_modules', '.cache');
  await mkdir(cache, { recursive: true });
  // Its own: builds may run side by side.
  const twin = await mkdtemp(join(cache, 'fairway-build-'));
  const manifest = JSON.parse(await readFile(join(original, 'package.json'), 'utf8')) as Record<string, unknown>;
  await writeFile(join(twin, 'package.json'), JSON.stringify({ ...manifest, sideEffects: false }));
  await symlink(join(original, 'dist'), join(twin, 'dist'));
  return twin;
}

const { values } = parseArgs({
  options: {
    entry: { type: 'string', default: join(root, 'daemon', 'main.ts') },
    outfile: { type: 'string', default: join(root, 'dist', 'fairway.js') },
    sourcemap: { type: 'boolean', default: false },
    version: { type: 'string' },
  },
});
if (!existsSync(values.entry)) {
  console.error(`${values.entry} does not exist: nothing to build`);
  process.exit(66);
}
const version = values.version ?? (JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }).version;
const started = performance.now();
const kubernetesClient = await kubernetesClientWithoutSideEffects();
const result = await build({
  absWorkingDir: root,
  entryPoints: [values.entry],
  outfile: values.outfile,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node22',
  mainFields: ['module', 'main'],
  // A third less text to parse at every start; the names in a stack trace stay.
  minifyWhitespace: true,
  keepNames: true,
  legalComments: 'none',
  sourcemap: values.sourcemap ? 'linked' : false,
  metafile: true,
  preserveSymlinks: true,
  alias: { '@kubernetes/client-node': kubernetesClient },
  define: { __FAIRWAY_VERSION__: JSON.stringify(version) },
  banner: { js: await readFile(join(import.meta.dirname, 'launch.mjs'), 'utf8') },
  plugins: [builtinsByRequire],
  logLevel: 'warning',
}).catch(() => undefined);
await rm(kubernetesClient, { recursive: true, force: true });
// esbuild has said where and why.
if (result === undefined) process.exit(1);
await chmod(values.outfile, 0o755);

const linked = Object.values(result.metafile.outputs).flatMap(output =>
  output.imports.filter(({ kind }) => kind === 'import-statement'),
);
if (linked.length > 0) {
  console.error(`The launcher would not run first: the bundle imports ${linked.map(({ path }) => path).join(', ')}`);
  process.exit(1);
}
const { size } = await stat(values.outfile);
const seconds = ((performance.now() - started) / 1000).toFixed(1);
console.log(
  `${values.outfile}: ${(size / 1e6).toFixed(2)} MB, ${Object.keys(result.metafile.inputs).length} files, ${seconds} s`,
);
