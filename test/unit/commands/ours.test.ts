import assert from 'node:assert/strict';
import { withoutSuccessors } from '../../../daemon/commands/ours.ts';
import type { Predecessor } from '../../../daemon/config/options-commands.ts';
import { mustParseAddress } from '../../../daemon/net/address.ts';
import type { Drivers } from '../../../daemon/reconcile/reconciler.ts';
import { fakeTables } from '../../fakes/tables.ts';

const never = new AbortController().signal;
const VIP = mustParseAddress('10.96.0.1');
const bare = { scheduler: 'rr', schedulerFlags: [], persistenceSeconds: 0, destinations: [] } as const;

/** What a cleanup finds that leaves alone what these have taken over. */
async function found(...running: readonly Predecessor[]): Promise<readonly string[]> {
  const tables = fakeTables();
  tables.virtualServer.state.set('server', { ...bare, listener: { by: 'address', protocol: 'TCP', address: VIP, port: 80 } });
  tables.virtualServer.state.set('marked', { ...bare, listener: { by: 'mark', mark: 5, family: 'ipv4' } });
  tables.link.state.set('kube-dummy-if', { name: 'kube-dummy-if', type: 'dummy' });
  tables.address.state.set('address', { link: 'kube-dummy-if', address: VIP });
  tables.ipset.state.set('kube-router-svip', {
    kind: 'set',
    name: 'kube-router-svip',
    type: 'hash:ip',
    family: 'ipv4',
    maxElements: 65_536,
  });
  const without: Drivers = withoutSuccessors(tables, new Set(running));
  const keys = await Promise.all(
    (['virtualServer', 'link', 'address', 'ipset'] as const).map(async table => [
      ...(await without[table].read(new Map(), never)).keys(),
    ]),
  );
  return keys.flat();
}

describe('a cleanup where somebody has taken over', () => {
  it('finds all of ours where nobody runs', async () => {
    assert.deepEqual(await found(), ['server', 'marked', 'kube-dummy-if', 'address', 'kube-router-svip']);
  });

  it('leaves virtual services to kube-proxy in its IPVS mode', async () => {
    assert.deepEqual(await found('kube-proxy'), ['marked', 'kube-dummy-if', 'address', 'kube-router-svip']);
  });

  it('leaves to kube-router what both use by the same names', async () => {
    assert.deepEqual(await found('kube-router'), ['marked']);
  });
});
