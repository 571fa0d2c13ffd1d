import assert from 'node:assert/strict';
import type { CredentialSource, Credentials } from '../../../daemon/cluster/credentials.ts';
import { RecentCredentials } from '../../../daemon/cluster/recent-credentials.ts';
import { ManualClock } from '../../fakes/clock.ts';

/** Counts how often it is read; each reading is answered by hand. */
class ReadByHand implements CredentialSource {
  readonly readings: PromiseWithResolvers<Credentials>[] = [];
  forgotten = 0;

  current(): Promise<Credentials> {
    const reading = Promise.withResolvers<Credentials>();
    this.readings.push(reading);
    return reading.promise;
  }

  forget(): void {
    this.forgotten++;
  }
}

function credentialsWith(token: string): Credentials {
  const tls = { ca: undefined, cert: undefined, key: undefined, serverName: '', verification: 'required' } as const;
  return { server: new URL('https://127.0.0.1:6443'), tls, headers: { authorization: `Bearer ${token}` }, origin: 'the test' };
}

describe('credentials that were read a moment ago', () => {
  let clock: ManualClock;
  let source: ReadByHand;
  let recent: RecentCredentials;

  beforeEach(() => {
    clock = new ManualClock();
    source = new ReadByHand();
    recent = new RecentCredentials(source, clock);
  });

  it('are read once for all requests of a second, and anew after it', async () => {
    const asked = [recent.current(), recent.current()];
    source.readings[0]?.resolve(credentialsWith('first'));
    const [one, other] = await Promise.all(asked);
    assert.equal(one, other);
    await clock.advance(999);
    assert.equal(await recent.current(), one);
    await clock.advance(1);
    const later = recent.current();
    source.readings[1]?.resolve(credentialsWith('rotated'));
    assert.equal((await later).headers['authorization'], 'Bearer rotated');
    assert.equal(source.readings.length, 2);
  });

  it('are not kept where the server refused them, nor is a reading from before that', async () => {
    const before = recent.current();
    recent.forget();
    assert.equal(source.forgotten, 1);
    const after = recent.current();
    source.readings[0]?.resolve(credentialsWith('refused'));
    source.readings[1]?.resolve(credentialsWith('renewed'));
    await before;
    assert.equal((await after).headers['authorization'], 'Bearer renewed');
    assert.equal(await recent.current(), await after);
  });

  it('are read again at once where they could not be read', async () => {
    const failed = recent.current();
    source.readings[0]?.reject(new Error('half a file'));
    await assert.rejects(failed, /half a file/);
    const again = recent.current();
    source.readings[1]?.resolve(credentialsWith('whole'));
    assert.equal((await again).headers['authorization'], 'Bearer whole');
  });
});
