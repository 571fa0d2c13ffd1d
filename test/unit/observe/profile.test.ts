import assert from 'node:assert/strict';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

const MAIN = join(import.meta.dirname, '../../fakes/profiled-main.ts');

interface ProfileNode {
  readonly callFrame: { readonly functionName: string };
  readonly selfSize?: number;
  readonly children?: readonly ProfileNode[];
}

function flattened(node: ProfileNode): readonly ProfileNode[] {
  return [node, ...(node.children ?? []).flatMap(flattened)];
}

describe('profiles of a process', () => {
  let child: ChildProcessByStdio<Writable, Readable, null>;
  let base = '';

  before(async () => {
    child = spawn(process.execPath, [MAIN], { stdio: ['pipe', 'pipe', 'inherit'] });
    const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
    base = `http://127.0.0.1:${line.trim()}/profile`;
  });

  after(async () => {
    child.stdin.end();
    await once(child, 'close');
  });

  /** Asks for a profile that is none (400) until the answer is that there is one under way (409), or that there is none any more. */
  const until = async (status: 400 | 409): Promise<string> => {
    for (;;) {
      const response = await fetch(`${base}/cpu?seconds=0`);
      const text = await response.text();
      if (response.status === status) return text;
      await pause(5);
    }
  };

  it('of the processor name the function that was busy; meanwhile there is no other, and afterwards there is', async () => {
    const first = fetch(`${base}/cpu?seconds=1`);
    assert.match(await until(409), /one at a time/);
    const response = await first;
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-disposition'), 'attachment; filename="fairway.cpuprofile"');
    const { nodes, samples } = (await response.json()) as {
      readonly nodes: readonly (ProfileNode & { readonly id: number })[];
      readonly samples: readonly number[];
    };
    // How much of the second the process had is the machine's business; of what it had, this function had most. `(idle)` and its like are no functions.
    const names = new Map(nodes.map(({ id, callFrame }) => [id, callFrame.functionName]));
    const counts = new Map<string, number>();
    for (const id of samples) {
      const name = names.get(id) ?? '';
      if (!name.startsWith('(')) counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    const [busiest] = [...counts].sort(([, one], [, other]) => other - one);
    assert.equal(busiest?.[0], 'countPrimes', [...counts].join(' '));
    await until(400);
  });

  it('of what is allocated name the function that keeps it', async () => {
    const response = await fetch(`${base}/heap-sampling?seconds=1`);
    assert.equal(response.headers.get('content-disposition'), 'attachment; filename="fairway.heapprofile"');
    const { head } = (await response.json()) as { readonly head: ProfileNode };
    const keeping = flattened(head).filter(({ callFrame }) => callFrame.functionName === 'keepMore');
    assert.ok(keeping.flatMap(flattened).reduce((sum, { selfSize = 0 }) => sum + selfSize, 0) > 50_000);
  });

  it('of the heap are a snapshot with what is in it, class by class', async () => {
    const response = await fetch(`${base}/heap`);
    assert.equal(response.headers.get('content-disposition'), 'attachment; filename="fairway.heapsnapshot"');
    const { snapshot, nodes, strings } = (await response.json()) as {
      readonly snapshot: { readonly meta: { readonly node_fields: readonly string[] }; readonly node_count: number };
      readonly nodes: readonly number[];
      readonly strings: readonly string[];
    };
    const { node_fields: fields } = snapshot.meta;
    assert.equal(nodes.length, snapshot.node_count * fields.length);
    const keepsake = strings.indexOf('Keepsake');
    let count = 0;
    for (let at = fields.indexOf('name'); at < nodes.length; at += fields.length) if (nodes[at] === keepsake) count++;
    assert.ok(count >= 200, `${count} things named Keepsake`);
  });

  it('end when whoever asked goes away', async () => {
    const gone = new AbortController();
    const first = fetch(`${base}/cpu?seconds=60`, { signal: gone.signal }).catch(() => undefined);
    await until(409);
    gone.abort();
    await first;
    await until(400);
  });

  it('last from a second to a minute', async () => {
    for (const seconds of ['0', '61', 'x', '-1', 'NaN']) {
      const response = await fetch(`${base}/cpu?seconds=${seconds}`);
      assert.equal(response.status, 400, seconds);
      assert.match(await response.text(), /from 1 to 60/);
    }
  });
});
