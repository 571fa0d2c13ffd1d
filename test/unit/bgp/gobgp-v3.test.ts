import assert from 'node:assert/strict';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { gobgpV3 } from '../../../daemon/bgp/gobgp-v3.ts';
import { GobgpApiService } from '../../../daemon/bgp/proto/gobgp.ts';
import { mustParsePrefix } from '../../../daemon/net/prefix.ts';
import { ManualClock } from '../../fakes/clock.ts';
import { address } from '../../fixtures/bgp.ts';

const never = new AbortController().signal;

/** Takes calls and answers none. */
async function silentServer(): Promise<{ readonly endpoint: string; readonly end: () => void }> {
  const server = new Server();
  const names = Object.keys(GobgpApiService);
  server.addService(GobgpApiService, Object.fromEntries(names.map(name => [name, () => undefined])));
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  return { endpoint: `127.0.0.1:${port}`, end: () => server.forceShutdown() };
}

describe('a gobgpd that takes calls and does not answer', () => {
  it('is unreachable after a while, for questions, lists and many paths at once', async () => {
    const { endpoint, end } = await silentServer();
    const clock = new ManualClock();
    const speaker = gobgpV3({ endpoint, clock });
    try {
      const path = { prefix: mustParsePrefix('10.1.0.0/24'), nextHop: address('192.0.2.1'), audience: 'everyone' } as const;
      const calls = [speaker.server(never), speaker.peers(never), speaker.addPaths([path], never)];
      const rejected = Promise.all(
        calls.map(call => assert.rejects(call, { code: 'FW_BGP_UNREACHABLE', message: /does not answer \(no answer in time\)/ })),
      );
      await clock.advance(60_000);
      await rejected;
    } finally {
      speaker.close();
      end();
    }
  });

  it('is waited for no longer where the caller gives up', async () => {
    const { endpoint, end } = await silentServer();
    const speaker = gobgpV3({ endpoint, clock: new ManualClock() });
    const giving = new AbortController();
    try {
      const events = { changed: () => undefined, session: () => undefined };
      const [asked, listed, watched] = [
        assert.rejects(speaker.server(giving.signal), /enough/),
        assert.rejects(speaker.peers(giving.signal), /enough/),
        speaker.watch(events, giving.signal),
      ];
      giving.abort(new Error('enough'));
      await Promise.all([asked, listed, watched]);
      await assert.rejects(speaker.server(giving.signal), /enough/);
    } finally {
      speaker.close();
      end();
    }
  });

  it('is unreachable at once where nobody listens', async () => {
    const { endpoint, end } = await silentServer();
    end();
    const speaker = gobgpV3({ endpoint, clock: new ManualClock() });
    await assert.rejects(speaker.server(never), { code: 'FW_BGP_UNREACHABLE' });
    speaker.close();
  });
});
