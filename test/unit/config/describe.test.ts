import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { COMMAND_NAMES } from '../../../daemon/config/commands.ts';
import { flagsPage, helpText } from '../../../daemon/config/describe.ts';
import { ENVIRONMENT } from '../../../daemon/config/environment.ts';
import { FLAG_NAMES } from '../../../daemon/config/options.ts';
import { ALL_BUILT } from './command-line.ts';

const PAGE = new URL('../../../docs/flags.md', import.meta.url);

/** The part of the help under a heading. */
function groupOf(help: string, heading: string): string {
  const part = help.split('\n\n').find(section => section.startsWith(`${heading}:`));
  assert.ok(part !== undefined, `no group ${heading}`);
  return part;
}

describe('--help', () => {
  it('lists every flag once, every command and every variable', () => {
    const help = helpText(120);
    for (const flag of FLAG_NAMES) assert.equal(help.match(new RegExp(`^ .{5}--${flag}(?= |$)`, 'gm'))?.length, 1, flag);
    for (const command of COMMAND_NAMES) assert.match(groupOf(help, 'Commands'), new RegExp(`^  ${command}\\b`, 'm'));
    for (const { name } of ENVIRONMENT) assert.match(groupOf(help, 'Environment'), new RegExp(`^  ${name}\\b`, 'm'));
  });

  it('groups flags by module', () => {
    const help = helpText(120, ALL_BUILT);
    assert.match(groupOf(help, 'Every module'), /--kubeconfig path/);
    assert.match(groupOf(help, 'Pod routing'), /--bgp-holdtime duration/);
    assert.match(groupOf(help, 'Service load balancing'), /--ipvs-permit-all/);
    assert.match(groupOf(help, 'Network policy'), /--netpol-deny-with reject\|drop/);
    assert.match(groupOf(help, 'Load-balancer addresses'), /--loadbalancer-default-class/);
  });

  it('says which modules and flags are not built yet', () => {
    const help = helpText(200, new Set(['services']));
    assert.match(help, /^Pod routing \(not built yet\):$/m);
    assert.match(help, /^Service load balancing:$/m);
    assert.match(helpText(200, new Set(['routing'])), /--disable-source-dest-check .*Not built yet\./);
  });

  it('shows defaults, letters, and which flags have no effect', () => {
    const help = helpText(200);
    assert.match(help, /^ {2}-v, --v level/m);
    assert.match(help, /--health-port uint16 .*\(default 20244\)$/m);
    assert.match(help, /--service-cluster-ip-range CIDRs .*\(default 10\.96\.0\.0\/12\)$/m);
    assert.match(help, /--hairpin-mode .*Accepted without effect: that works for every Service without it\.$/m);
  });

  it('says what --ipvs-permit-all really does', () => {
    assert.match(helpText(200), /--ipvs-permit-all +true INSTALLS the firewall/);
  });

  for (const columns of [60, 80, 100, 120, 200]) {
    it(`fits a terminal of ${columns} columns`, () => {
      assert.deepEqual(
        helpText(columns)
          .split('\n')
          .filter(line => line.length > columns),
        [],
      );
    });
  }

  it('ends with one newline and has no blanks at line ends', () => {
    assert.match(helpText(80), /[^\n]\n$/);
    assert.doesNotMatch(helpText(80), / $/m);
  });
});

describe('docs/flags.md', () => {
  it('is what the table of options says', () => {
    if (process.env['UPDATE'] === '1') writeFileSync(PAGE, flagsPage());
    assert.equal(
      readFileSync(PAGE, 'utf8'),
      flagsPage(),
      "docs/flags.md is out of date; renew it with: UPDATE=1 node node_modules/mocha/bin/mocha.js 'test/unit/config/describe.test.ts'",
    );
  });
});
