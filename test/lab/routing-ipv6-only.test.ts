import assert from 'node:assert/strict';
import type { LabNode } from './addresses.ts';
import { describeRouting } from './describe-routing.ts';
import { type ApiObject, nodeObject } from './objects.ts';
import { bgpNeighbours, routesTo } from './routing-state.ts';

/** As a cluster without IPv4 has it. */
function ipv6Only(node: LabNode): ApiObject {
  return {
    ...nodeObject(node),
    spec: { podCIDRs: [node.podCidrs.ipv6] },
    status: { addresses: [{ type: 'InternalIP', address: node.addresses.ipv6 }] },
  };
}

const options = {
  flags: ['--enable-ipv4=false', '--service-cluster-ip-range=fd00:10:96::/112'],
  objects: lab => lab.nodes.map(ipv6Only),
} as const satisfies Parameters<typeof describeRouting>[1];

describeRouting('a cluster without IPv4', options, suite => {
  it('pods of three nodes reach each other, whether a node is given its router id or generates one', async function () {
    this.timeout(120_000);
    const { lab } = suite();
    const [one, ...others] = lab.nodes;
    assert.ok(one !== undefined);
    await Promise.all([suite().start(['--router-id=192.0.2.1'], [one]), suite().start(['--router-id=generate'], others)]);
    await suite().reached(suite().pairs(), 60_000, ['ipv6']);
  });

  it('sessions are between IPv6 addresses, and no route to pods is of IPv4', async () => {
    const { lab } = suite();
    for (const node of lab.nodes) {
      const others = lab.nodes.filter(other => other !== node);
      const addresses = others.map(other => other.addresses.ipv6).sort();
      assert.deepEqual(await bgpNeighbours(lab, node, 'ipv6'), addresses);
      assert.deepEqual(await bgpNeighbours(lab, node, 'ipv4'), []);
      for (const { podCidrs } of others) {
        assert.equal((await routesTo(lab, node, podCidrs.ipv6)).length, 1);
        assert.deepEqual(await routesTo(lab, node, podCidrs.ipv4), []);
      }
    }
  });
});
