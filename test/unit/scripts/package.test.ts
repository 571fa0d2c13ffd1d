import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { skipBecause } from '../../skip.ts';

const ROOT = resolve(import.meta.dirname, '..', '..', '..');
/** 2026-01-01T00:00:00Z: before any file that is built. */
const EPOCH = '1767225600';

function text(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8' });
}

describe('the Debian package', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'fairway-package-test-'));
  const debs: string[] = [];

  before(function () {
    try {
      text('dpkg-deb', '--version');
    } catch {
      skipBecause(this, 'dpkg-deb is not installed');
    }
    for (const umask of ['022', '077']) {
      const outdir = join(folder, umask);
      const build = `umask ${umask} && exec "$0" scripts/package.ts --version=1.2.3-rc.1 --compression=none --outdir="$1"`;
      execFileSync('sh', ['-c', build, process.execPath, outdir], {
        cwd: ROOT,
        env: { ...process.env, SOURCE_DATE_EPOCH: EPOCH },
      });
      debs.push(join(outdir, `fairway_1.2.3~rc.1_${text('dpkg', '--print-architecture').trim()}.deb`));
    }
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const first = (): string => debs[0] ?? assert.fail('no package');

  it('is the same bytes from the same sources, whoever builds it and when', () => {
    const [one, other] = debs.map(file => createHash('sha256').update(readFileSync(file)).digest('hex'));
    assert.equal(one, other);
  });

  it('belongs to root, has the time of its sources, and can be read by all but for the configuration', () => {
    const lines = text('env', 'TZ=UTC', 'dpkg-deb', '--contents', first()).trim().split('\n');
    const odd = lines.filter(line => !/^(drwxr-xr-x|-rw-r--r--|-rwxr-xr-x) root\/root +\d+ 2026-01-01 00:00 /.test(line));
    assert.deepEqual(
      odd.map(line => line.replace(/ +\d+ .* /, ' ')),
      ['-rw-r----- root/root ./etc/fairway/fairway.env'],
    );
  });

  it('names its version as Debian sorts it, and keeps the configuration of who upgrades', () => {
    assert.equal(text('dpkg-deb', '--field', first(), 'Version').trim(), '1.2.3~rc.1');
    assert.equal(text('dpkg-deb', '--info', first(), 'conffiles').trim(), '/etc/fairway/fairway.env');
  });

  it('runs by its launcher alone, and hands over to its own Node.js when another starts it', function () {
    const root = join(folder, 'root');
    execFileSync('dpkg-deb', ['--extract', first(), root]);
    // The launcher names its folders as they are once installed.
    const launcher = readFileSync(join(root, 'usr/bin/fairway'), 'utf8').replaceAll('/usr/lib/', `${root}/usr/lib/`);
    assert.equal(text('sh', '-c', launcher, 'fairway', '--version'), 'fairway 1.2.3-rc.1\n');
    const old = ['/usr/bin/node', '/usr/local/bin/node'].find(path => {
      try {
        return /^v(1\d|20|21)\./.test(text(path, '--version'));
      } catch {
        return false;
      }
    });
    if (old === undefined) skipBecause(this, 'there is no older Node.js here that could start it');
    assert.equal(text(old, join(root, 'usr/lib/fairway/fairway.js'), '--version'), 'fairway 1.2.3-rc.1\n');
  });
});
