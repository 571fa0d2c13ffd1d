import assert from 'node:assert/strict';
import type { CommandResult, CommandRunner } from '../../../daemon/kernel/command.ts';
import { fouDriver } from '../../../daemon/kernel/fou.ts';
import { type FouPort, fouPortKey } from '../../../daemon/reconcile/routing-tables.ts';

const never = new AbortController().signal;
const port: FouPort = { family: 'ipv6', port: 5555 };
const key = fouPortKey(port.family, port.port);

/** A runner that answers as a machine that is not this one, and notes what it was asked. */
function answering(result: CommandResult, asked: string[] = []): CommandRunner {
  return {
    async run({ argv }) {
      asked.push(argv.join(' '));
      return result;
    },
    lines: () => assert.fail('nothing is read in lines'),
  };
}

describe('GUE ports', () => {
  it('are rendered with the family of outer packets', () => {
    const ports = fouDriver({ runner: answering({ status: 0, stdout: '', stderr: '' }), configuredPort: 5555 });
    const v4: FouPort = { family: 'ipv4', port: 5556 };
    assert.equal(
      ports.render([
        { op: 'create', key, to: port },
        { op: 'create', key: 'v4', to: v4 },
        { op: 'delete', key, from: port },
      ]),
      'fou add port 5555 gue -6\nfou add port 5556 gue\nfou del port 5555 -6\n',
    );
  });

  it('on a kernel without FoU are none, and cannot be made: modules are asked for, then the error names the remedy', async () => {
    const asked: string[] = [];
    // As iproute2 6.1 says it on a kernel 6.18 without the module.
    const stderr = 'RTNETLINK answers: No such file or directory\nError talking to the kernel\n';
    const ports = fouDriver({ runner: answering({ status: 1, stdout: '', stderr }, asked), configuredPort: 5555 });
    assert.deepEqual(await ports.read(new Map([[key, port]]), never), new Map());
    const { failed } = await ports.apply([{ op: 'create', key, to: port }], never);
    const { code, message } = failed.get(key) ?? assert.fail();
    assert.equal(code, 'FW_CAPABILITY_KERNEL');
    assert.match(message, /^create of GUE port 5555 \(ipv6\) was refused: .*modprobe -a fou fou6.*CONFIG_NET_FOU/);
    assert.deepEqual(
      asked.filter(command => command.startsWith('modprobe')),
      ['modprobe -a -q fou fou6'],
    );
  });

  it('bound to an address, or of another kind of tunnel, are not ours', async () => {
    const stdout = '[{"port":5555,"ipproto":4,"family":"inet"},{"port":5555,"gue":null,"family":"inet6","local":"fd00::1"}]\n';
    const ports = fouDriver({ runner: answering({ status: 0, stdout, stderr: '' }), configuredPort: 5555 });
    assert.deepEqual(await ports.read(new Map(), never), new Map());
  });

  it('that ip prints as no list are unreadable, which is no empty list', async () => {
    const ports = fouDriver({ runner: answering({ status: 0, stdout: 'port 5555 gue\n', stderr: '' }), configuredPort: 5555 });
    await assert.rejects(ports.read(new Map(), never), { code: 'FW_READ_UNPARSABLE' });
  });
});
