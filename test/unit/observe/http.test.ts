import assert from 'node:assert/strict';
import type { Health } from '../../../daemon/observe/health.ts';
import { type HttpListener, healthPages, listenHttp } from '../../../daemon/observe/http.ts';
import { freePort } from '../../fakes/free-port.ts';

const WELL: Health = { isLive: true, isNodeLeaving: false, modules: new Map([['services', { state: 'ok' }]]) };

describe('the health pages', () => {
  let listener: HttpListener | undefined;
  let health = WELL;
  let port = 0;

  before(async () => {
    port = await freePort();
    listener = await listenHttp(
      '127.0.0.1',
      port,
      healthPages(() => health),
    );
  });

  after(() => listener?.close());

  /** Status and text of /healthz, /livez, /readyz. */
  const answers = async (of: Partial<Health>): Promise<readonly (readonly [number, string])[]> => {
    health = { ...WELL, ...of };
    const pages = ['healthz', 'livez', 'readyz'];
    const responses = await Promise.all(pages.map(page => fetch(`http://127.0.0.1:${port}/${page}`)));
    return Promise.all(responses.map(async response => [response.status, await response.text()] as const));
  };

  it('say OK, and which module is how', async () => {
    assert.deepEqual(await answers({}), [
      [200, 'OK\n'],
      [200, 'OK\n'],
      [200, 'loop: ok\nservices: ok\n'],
    ]);
    const starting = await answers({ modules: new Map([['services', { state: 'starting' }]]) });
    assert.deepEqual(
      starting.map(([status]) => status),
      [200, 200, 503],
    );
  });

  it('of a node that is about to leave the cluster turn load balancers away, and no probe of the pod', async () => {
    assert.deepEqual(await answers({ isNodeLeaving: true }), [
      [503, 'This node is about to be deleted: load balancers are to send it nothing new. The daemon works.\n'],
      [200, 'OK\n'],
      [200, 'loop: ok\nservices: ok\n'],
    ]);
  });

  it('of a loop that is wedged say so, whether the node leaves or not', async () => {
    for (const isNodeLeaving of [false, true]) {
      const wedged = await answers({ isLive: false, isNodeLeaving });
      assert.deepEqual(wedged.slice(0, 2), [
        [500, 'Unhealthy\n'],
        [500, 'Unhealthy\n'],
      ]);
    }
  });
});
