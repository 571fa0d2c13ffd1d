/** What systemd is given, judged by systemd's own tool and held against the code. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MODULES as PROBED } from '../../daemon/kernel/capabilities.ts';
import { MODULES as OF_LINKS } from '../../daemon/kernel/link.ts';
import { startWorld } from '../fakes/daemon.ts';
import { hostAddress, hostFacts, node, service, slice } from '../fixtures/cluster.ts';
import { skipBecause } from '../skip.ts';
import { page } from './pages.ts';

/** With the exposure that `systemd-analyze security` may find at most, in tenths: its own scale has 10.0 for a service without any restriction. */
const UNITS: readonly { readonly name: string; readonly exposure: number }[] = [
  { name: 'fairway.service', exposure: 32 },
  { name: 'fairway-gobgpd.service', exposure: 26 },
  // It runs once and takes everything away, from pods too.
  { name: 'fairway-cleanup.service', exposure: 100 },
];

describe('systemd units', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fairway-units-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  before(function () {
    if (spawnSync('systemd-analyze', ['--version']).status !== 0) skipBecause(this, 'systemd-analyze is not installed');
    // Whether the programs are installed here says nothing of the units.
    for (const { name } of UNITS)
      writeFileSync(join(folder, name), page(`systemd/${name}`).replaceAll(/\/usr\/bin\/(fairway|gobgpd)\b/g, '/bin/true'));
  });

  function analyze(...argv: readonly string[]): { readonly status: number | null; readonly said: string } {
    const { status, stdout, stderr } = spawnSync('systemd-analyze', argv, { cwd: folder, encoding: 'utf8' });
    return { status, said: `${stdout}${stderr}` };
  }

  it('are what systemd understands, without a warning', () => {
    assert.deepEqual(analyze('verify', '--man=no', ...UNITS.map(({ name }) => `./${name}`)), { status: 0, said: '' });
  });

  for (const { name, exposure } of UNITS.filter(unit => unit.exposure < 100))
    it(`confine ${name} as far as its tools allow`, () => {
      const { status, said } = analyze('security', '--no-pager', '--offline=true', `--threshold=${exposure}`, `./${name}`);
      console.log(/Overall exposure level.*/.exec(said)?.[0] ?? said);
      assert.equal(status, 0, said);
    });
});

/** Lines of a configuration file of systemd that are no comments. */
function linesOf(path: string): readonly string[] {
  return page(path)
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'));
}

describe('what a node is given at boot', () => {
  it('are the kernel modules that the daemon would load, since its unit may load none', () => {
    const wanted = new Set([...PROBED, ...Object.values(OF_LINKS).flat()]);
    // br_netfilter brings it.
    wanted.delete('bridge');
    assert.deepEqual([...linesOf('systemd/modules-load.d/fairway.conf')].sort(), [...wanted].sort());
  });

  it('are kernel settings that the daemon sets alike', async () => {
    const { source, clock, tables, daemon } = startWorld(
      {},
      hostFacts({ addresses: [hostAddress('eth0', '192.168.1.1/24'), hostAddress('eth0', 'fd00::1/64')] }),
    );
    source.list('Node', [node(1)]);
    source.list('EndpointSlice', [slice('web', ['10.244.1.5'])]);
    source.list('Service', [service('web')]);
    await clock.advance(1000);
    await daemon.stop();
    for (const line of linesOf('systemd/sysctl.d/50-fairway.conf')) {
      const [key = '', value] = line.split(' = ');
      assert.equal(tables.sysctl.state.get(key.replace(/^-/, '').replaceAll('.', '/'))?.value, value, key);
    }
  });
});
