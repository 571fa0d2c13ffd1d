import assert from 'node:assert/strict';
import { describeLab } from './describe-lab.ts';
import { liftIcmpLimits } from './icmp-limits.ts';
import { FAMILIES } from './objects.ts';
import { between, history } from './watch.ts';

const REFUSAL = { tcp: ['--reject-with', 'tcp-reset'], udp: [] };

describeLab('a pair under watch', { needs: 'policy', nodes: 2 }, lab => {
  before(async () => await liftIcmpLimits(lab()));

  for (const transport of ['tcp', 'udp'] as const) {
    for (const family of FAMILIES) {
      it(`shows when the way was shut and when it was open, by ${transport} over ${family}`, async () => {
        const [from, to] = [lab().pod(1, 1), lab().pod(2, 1)];
        const address = to.addresses[family];
        const server = await lab().probe(to).serve(transport, address, 7000, to.name);
        const tool = family === 'ipv4' ? 'iptables' : 'ip6tables';
        const rule = ['FORWARD', '-p', transport, '-d', address, '-j', 'REJECT', ...REFUSAL[transport]];
        // The way is known to every neighbour on it before anything is watched: the first packet waits for discovery.
        assert.equal((await lab().probe(from).connect({ transport, address, port: 7000, timeoutMs: 10_000 })).outcome, 'answer');
        const watch = await lab().watch(from, { transport, address, port: 7000 });
        await watch.more();
        const shutting = await watch.now();
        await lab().expectRun(lab().node(2), [tool, '-w', '-A', ...rule]);
        const shut = await watch.now();
        await watch.more();
        const opening = await watch.now();
        await lab().expectRun(lab().node(2), [tool, '-w', '-D', ...rule]);
        const open = await watch.now();
        await watch.more();
        const flows = await watch.end();
        server.end();
        assert.equal(history(flows), 'answer refused answer');
        assert.equal(history(between(flows, { before: shutting })), 'answer');
        assert.equal(history(between(flows, { after: shut, before: opening })), 'refused');
        assert.equal(history(between(flows, { after: open })), 'answer');
      });
    }
  }

  it('is silent where nothing comes back', async () => {
    const watch = await lab().watch(lab().pod(1, 1), { transport: 'tcp', address: '10.10.1.99', port: 1, timeoutMs: 50 });
    await watch.more(5);
    assert.equal(history(await watch.end()), 'timeout');
  });

  it('says so where too few flows were watched to tell', () => {
    assert.throws(() => history([]), /only 0 flows/);
  });
});
