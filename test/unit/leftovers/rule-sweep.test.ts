import assert from 'node:assert/strict';
import type { Command, CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { kubeRoutersMarks, sweepRules } from '../../../daemon/leftovers/rule-sweep.ts';
import { Swept } from '../../../daemon/leftovers/sweeping.ts';

const never = new AbortController().signal;
const THEIRS = '32764:\tfrom all fwmark 0x2a17 lookup 78\n32764:\tfrom all fwmark 0x11 lookup 78\n32765:\tfrom all lookup 79\n';
const OURS = '32764:\tfrom all fwmark 0x1000/0x1000 lookup 78\n';
const OTHERS = '0:\tfrom all lookup 255\n100:\tfrom all fwmark 0x5 lookup 78\n32766:\tfrom all lookup 254\n';

/** A host with these IPv4 rules; gives what is run to change them. */
class Rules implements CommandRunner {
  readonly #rules: string;
  readonly batches: string[] = [];

  constructor(rules: string) {
    this.#rules = rules;
  }

  run({ argv, stdin }: Command): Promise<CommandResult> {
    const text = argv.join(' ');
    if (stdin !== undefined) this.batches.push(stdin);
    const routes = text.endsWith('table 78') ? 'local default dev lo \n' : '';
    const stdout = !argv.includes('-4') ? '' : text.endsWith('rule show') ? this.#rules : routes;
    return Promise.resolve({ status: 0, stdout, stderr: '' });
  }

  lines(command: Command): Promise<CommandResult> {
    return this.run(command);
  }
}

async function swept(rules: string, used: readonly number[] = []): Promise<readonly string[]> {
  const runner = new Rules(rules);
  await sweepRules({ runner, excludedCidrs: [], overlayEncapPort: 5555 }, new Set(used), new Swept(), never);
  return runner.batches.flatMap(batch => batch.trim().split('\n'));
}

describe("kube-router's rules to its routing tables", () => {
  it('are known by their priority and a mark without a mask', async () => {
    assert.deepEqual([...(await kubeRoutersMarks(new Rules(THEIRS + OURS + OTHERS), never))], [0x2a17, 0x11]);
  });

  it('go, with the route of table 78 where nobody else leads there', async () => {
    assert.deepEqual(await swept(THEIRS), [
      'rule del priority 32764 fwmark 0x2a17 lookup 78',
      'rule del priority 32764 fwmark 0x11 lookup 78',
      'rule del priority 32765 lookup 79',
      'route del local default dev lo table 78',
    ]);
  });

  it("leave that route where a rule of ours or another's leads there", async () => {
    for (const other of [OURS, OTHERS]) assert.ok(!(await swept(THEIRS + other)).some(line => line.startsWith('route ')));
  });

  it('stay with a virtual service that is in use', async () => {
    assert.deepEqual(await swept(THEIRS, [0x2a17]), [
      'rule del priority 32764 fwmark 0x11 lookup 78',
      'rule del priority 32765 lookup 79',
    ]);
  });

  it('are not looked for where there are none', async () => {
    assert.deepEqual(await swept(OURS + OTHERS), []);
  });
});
