import assert from 'node:assert/strict';
import { hookRule } from '../../daemon/kernel/iptables-rule.ts';
import type { Family } from '../../daemon/net/address.ts';
import type { IptablesEntry } from '../../daemon/reconcile/tables.ts';
import { servicesModule } from '../../modules/services/module.ts';
import { SETS } from '../../modules/services/names.ts';
import { cidrs, hostAddress, hostFacts, ip, ips, nodeView, snapshot } from '../fixtures/cluster.ts';
import { servicesOptions } from '../fixtures/services-options.ts';
import { blocksOf, page, rowsOf, sectionsOf } from './pages.ts';

const PATH = 'docs/services.md';

/** Hooks and chains of a family as iptables-save prints them, on the node that the page shows. */
function rulesOf(family: Family): readonly string[] {
  const addresses = ips('192.168.1.11', 'fd00:192:168:1::11');
  const plan = servicesModule(servicesOptions()).plan(
    snapshot({
      node: nodeView({
        primary: { ipv4: ip('192.168.1.11'), ipv6: ip('fd00:192:168:1::11') },
        addresses,
        podCIDRs: cidrs('10.244.1.0/24', 'fd00:10:244:1::/64'),
      }),
      host: hostFacts({ addresses: [hostAddress('eth0', '192.168.1.11/24'), hostAddress('eth0', 'fd00:192:168:1::11/64')] }),
    }),
  );
  return [...plan.fragments.values()]
    .flatMap(({ entries }) => entries)
    .flatMap(entry => (entry.table === 'iptables' && entry.value.family === family ? [entry.value] : []))
    .flatMap(linesOf);
}

function linesOf(entry: IptablesEntry): readonly string[] {
  if (entry.kind === 'hook') return [`-A ${entry.from} ${hookRule(entry)}`];
  return entry.rules.map(rule => `-A ${entry.name} ${rule}`);
}

describe('docs/services.md', () => {
  for (const [name, family] of [
    ['iptables-save', 'ipv4'],
    ['ip6tables-save', 'ipv6'],
  ] as const) {
    it(`shows every rule of ${family} as it is planned, chain by chain in order`, () => {
      const shown =
        blocksOf(page(PATH))
          .find(block => block.name === name)
          ?.text.trimEnd()
          .split('\n') ?? [];
      const byChain = (lines: readonly string[]): ReadonlyMap<string, readonly string[]> =>
        Map.groupBy(lines, line => line.split(' ')[1] ?? '');
      assert.deepEqual([...byChain(shown)].sort(), [...byChain(rulesOf(family))].sort());
    });
  }

  it('names every set with its type', () => {
    const section = sectionsOf(page(PATH)).find(({ title }) => title === 'Sets');
    const shown = rowsOf(section?.prose ?? '').map(([name, type]) => `${name} ${type}`);
    assert.deepEqual(
      shown,
      Object.values(SETS).map(({ name, type }) => `\`${name}\` \`${type}\``),
    );
  });
});
