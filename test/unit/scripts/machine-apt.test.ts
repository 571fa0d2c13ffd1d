import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { packagesOf } from '../../../scripts/image/base.ts';
import { sourcesOf, transferOptions } from '../../../scripts/image/machine-apt.ts';

describe('an image is made of packages', () => {
  it("from the suite's entries of the machine, in the form that they have, and from no other software's", () => {
    const oneLine = [
      '# deb cdrom:[Debian 12] bookworm main',
      'deb http://archive.example/debian bookworm main contrib',
      'deb-src http://archive.example/debian bookworm main',
      'deb [signed-by=/usr/share/keyrings/x.gpg] http://archive.example/security bookworm-security main',
      'deb http://archive.example/debian trixie main',
      'deb [arch=amd64] http://other.example/apt bookworm stable',
    ].join('\n');
    assert.equal(
      sourcesOf(oneLine, 'bookworm'),
      'deb http://archive.example/debian bookworm main contrib\ndeb [signed-by=/usr/share/keyrings/x.gpg] http://archive.example/security bookworm-security main\n',
    );
    const stanza = 'Types: deb\nURIs: http://archive.example/debian\nSuites: bookworm bookworm-updates\nComponents: main';
    const stanzas = [
      `# made by an installer\n${stanza}`,
      'Types: deb\nURIs: http://other.example/apt\nSuites: nodistro\nComponents: main',
      `Enabled: no\n${stanza}`,
    ];
    assert.equal(sourcesOf(stanzas.join('\n\n'), 'bookworm'), `${stanza}\n`);
    assert.equal(sourcesOf('', 'bookworm'), '');
  });

  it('by the proxy that the machine uses', () => {
    const dump = [
      'APT::Architecture "amd64";',
      'Acquire "";',
      'Acquire::http "";',
      'Acquire::http::Proxy "http://proxy.example:3128";',
      'Acquire::Check-Valid-Until "false";',
      'Acquire::Languages "none";',
    ].join('\n');
    assert.deepEqual(transferOptions(dump), [
      'Acquire::http::Proxy "http://proxy.example:3128";',
      'Acquire::Check-Valid-Until "false";',
    ]);
  });

  it('that Containerfile names', async () => {
    const packages = packagesOf(await readFile(resolve(import.meta.dirname, '../../../Containerfile'), 'utf8'));
    for (const name of ['gobgpd', 'ipset', 'iptables', 'ipvsadm']) assert.ok(packages.includes(name), name);
    assert.throws(() => packagesOf('FROM scratch'), /ARG PACKAGES/);
  });
});
