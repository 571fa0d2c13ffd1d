import assert from 'node:assert/strict';
import { FairwayError } from '../../../daemon/errors.ts';
import { chainPackets } from '../../../daemon/kernel/chain-packets.ts';
import type { CommandRunner } from '../../../daemon/kernel/command.ts';
import { toolOf } from '../../../daemon/kernel/iptables-flavour.ts';

const never = new AbortController().signal;
const TOOLS = { flavour: 'nft', reason: '', byFamily: { ipv4: toolOf('nft', 'ipv4'), ipv6: toolOf('nft', 'ipv6') } } as const;

/** As iptables 1.8.9 prints it. */
const LISTING = `Chain FAIRWAY-DENY (4 references)
    pkts      bytes target     prot opt in     out     source               destination         
      12      720 REJECT     6    --  *      *       0.0.0.0/0            0.0.0.0/0            mark match ! 0x100/0x100 reject-with tcp-reset
       0        0 REJECT     132  --  *      *       0.0.0.0/0            0.0.0.0/0            reject-with icmp-proto-unreachable
 1000000 84000000 REJECT     0    --  *      *       0.0.0.0/0            0.0.0.0/0            reject-with icmp-port-unreachable
`;

/** Tools that print this, by program; one that is not named is not installed. */
function printing(
  outputs: Readonly<Record<string, { readonly status: number; readonly text: string }>>,
  asked: string[] = [],
): CommandRunner {
  return {
    run: () => Promise.reject(new Error('not asked for')),
    lines: ({ argv }, onLine) => {
      asked.push(argv.join(' '));
      const output = outputs[argv[0]];
      if (output === undefined) return Promise.reject(new FairwayError('FW_CAPABILITY_TOOL_MISSING', 'not installed'));
      for (const line of output.text.split('\n')) onLine(line);
      return Promise.resolve({ status: output.status, stdout: '', stderr: '' });
    },
  };
}

describe('the packets that a chain met', () => {
  it('are the sum over its rules, by family', async () => {
    const asked: string[] = [];
    const runner = printing(
      {
        'iptables-nft': { status: 0, text: LISTING },
        'ip6tables-nft': { status: 0, text: LISTING.split('\n').slice(0, 3).join('\n') },
      },
      asked,
    );
    const counts = await chainPackets({ runner, tools: TOOLS, chain: 'FAIRWAY-DENY' }, never);
    assert.deepEqual(
      [...counts],
      [
        ['ipv4', 1_000_012],
        ['ipv6', 12],
      ],
    );
    assert.deepEqual(asked, [
      'iptables-nft -w 1 -t filter -nvxL FAIRWAY-DENY',
      'ip6tables-nft -w 1 -t filter -nvxL FAIRWAY-DENY',
    ]);
  });

  it('are none of a family whose chain is not there, whose tool is missing, or that has no tool', async () => {
    const refused = printing({ 'iptables-nft': { status: 1, text: '' } });
    assert.deepEqual([...(await chainPackets({ runner: refused, tools: TOOLS, chain: 'FAIRWAY-DENY' }, never))], []);
    const onlyIpv4 = { ...TOOLS, byFamily: { ipv4: toolOf('default', 'ipv4') } };
    const runner = printing({ iptables: { status: 0, text: LISTING } });
    assert.deepEqual([...(await chainPackets({ runner, tools: onlyIpv4, chain: 'FAIRWAY-DENY' }, never))], [['ipv4', 1_000_012]]);
  });
});
