/** All that predecessors and we put on a node, of both flavours of iptables and of nftables. */
import type { LabNode } from '../addresses.ts';
import { footprint } from '../fleet.ts';
import type { Lab } from '../lab.ts';
import { routingFootprint } from '../routing-state.ts';

/** Sorted by command; without what comes and goes by itself. */
export async function wholeNode(lab: Lab, node: LabNode): Promise<string> {
  const saves = ['iptables', 'ip6tables'].flatMap(tool => ['nft', 'legacy'].map(flavour => `${tool}-${flavour}-save`));
  const rules = await Promise.all(
    saves.map(async tool => {
      const text = await lab.expectRun(node, [tool]);
      return [
        `$ ${tool}`,
        ...text
          .split('\n')
          .filter(line => /^(-A |:\S+ - )/.test(line))
          .sort(),
      ].join('\n');
    }),
  );
  const tables = await lab.expectRun(node, ['nft', 'list', 'tables']);
  // A table of iptables that was looked at once stays, empty.
  const own = tables.split('\n').filter(line => line !== '' && !/^table ip6? (filter|nat|mangle|raw)$/.test(line));
  const rest = await footprint(lab, node);
  const withoutRules = rest.slice(rest.indexOf('$ ipset')).replaceAll(/^(Size in memory|References|Header).*\n/gm, '');
  return [...rules, '$ nft list tables', ...own, withoutRules, await routingFootprint(lab, node)]
    .join('\n')
    .replaceAll(/\[\d+:\d+\]/g, '');
}
