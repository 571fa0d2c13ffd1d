/** What a node's kernel holds, read from /proc: without a process. */
import type { LabHost } from './addresses.ts';
import type { Lab } from './lab.ts';

/** IPv4 virtual servers of a node, as `TCP 10.96.0.1:80`. */
export async function virtualServers(lab: Lab, node: LabHost): Promise<ReadonlySet<string>> {
  const table = await lab.readFile(node, '/proc/net/ip_vs');
  const lines = table.matchAll(/^(TCP|UDP|SCTP) +([0-9A-F]{8}):([0-9A-F]{4}) /gm);
  return new Set(
    [...lines].map(([, protocol = '', address = '', port = '']) => {
      const bytes = [...Buffer.from(address, 'hex')];
      return `${protocol} ${bytes.join('.')}:${Number.parseInt(port, 16)}`;
    }),
  );
}

/** IPv4 addresses of a node's own, as the kernel's routing sees them. */
export async function localAddresses(lab: Lab, node: LabHost): Promise<ReadonlySet<string>> {
  const trie = await lab.readFile(node, '/proc/net/fib_trie');
  return new Set([...trie.matchAll(/\|-- (\S+)\n +\/32 host LOCAL/g)].map(([, address = '']) => address));
}

/** The destinations of an IPv4 virtual server for TCP with their weights, sorted: `10.244.2.11:8080 1`. None where it is not there. */
export async function weights(lab: Lab, node: LabHost, address: string, port = 80): Promise<readonly string[]> {
  const { stdout } = await lab.run(node, ['ipvsadm', '-Ln', '-t', `${address}:${port}`]);
  return [...stdout.matchAll(/-> (\d\S+) +\S+ +(\d+) /g)].map(([, destination, weight]) => `${destination} ${weight}`).sort();
}
