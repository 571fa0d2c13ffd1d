/**
 * `npm run image [-- --base IMAGE]`: builds the container image into `dist/fairway-VERSION.oci.tar`, for `podman load`, `docker load`, `ctr images import`
 * and `skopeo copy`. Without `--base` no registry is asked: the base is made of Debian packages from where this machine has its own.
 */
import { execFileSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildImage, imageName, sizeOf } from './image/build.ts';
import { ToolFailed } from './image/command.ts';
import { cacheFolder } from './image/storage.ts';

const root = resolve(import.meta.dirname, '..');
const { values } = parseArgs({ options: { base: { type: 'string' } } });
const began = performance.now();
const seconds = (): string => ((performance.now() - began) / 1000).toFixed(1);
const archive = join(root, 'dist', `${(await imageName()).replace(':', '-')}.oci.tar`);
try {
  execFileSync(process.execPath, [join(root, 'scripts/build.ts')], { stdio: 'inherit' });
  await buildImage({
    cache: cacheFolder(process.env),
    archive,
    onProgress: line => console.log(`${seconds().padStart(6)} s  ${line}`),
    ...(values.base === undefined ? {} : { base: values.base }),
  });
  console.log(`${archive}: ${await sizeOf(archive)} MB, ${await imageName()}, ${seconds()} s`);
} catch (thrown) {
  if (!(thrown instanceof ToolFailed)) throw thrown;
  console.error(thrown.message);
  process.exitCode = 1;
}
