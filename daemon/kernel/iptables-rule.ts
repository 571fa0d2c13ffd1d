/**
 * Rule text. Rules are written as `iptables-save` prints them, so that text equality is rule equality. The order within a rule is
 * `-s`, `-d`, `-i`, `-o`, `-p`, then the matches in the order they were given, then the target. Both flavours (legacy and nft) of
 * iptables 1.8 print the same. What they print for the usual wishes:
 *
 * | wish | canonical text |
 * |---|---|
 * | source, destination | `-s 10.244.1.0/24 -d 10.0.0.1/32` (always with a length), `! -s 10.244.1.0/24` |
 * | links | `-i eth0`, `! -i eth0 -o eth+` |
 * | destination in a set | `-m set --match-set kube-router-svip dst`, two dimensions `dst,dst`, three `dst,dst,src` |
 * | not in a set | `-m set ! --match-set kube-router-local-ips dst` |
 * | ports | `-p tcp -m tcp --dport 80`, `-p udp -m udp --sport 53 --dport 53`, `-p sctp -m sctp --dport 30000:32767` |
 * | several ports | `-p tcp -m multiport --dports 80,443,1000:2000`: up to 15 numbers, a range is two; also of udp and sctp, but never without `-p` |
 * | every port | `-p tcp`; `--dport 0:65535` prints as `-p tcp -m tcp`, `--dport 1:65535` as it is |
 * | ICMP (8 echo request, 0 reply, 3 unreachable, 11 time exceeded) | `-p icmp -m icmp --icmp-type 8`, `--icmp-type 3/4`: numbers, never names |
 * | ICMPv6 (1 to 4 errors, 128 and 129 echo, 133 to 136 discovery) | `-p ipv6-icmp -m icmp6 --icmpv6-type 135` |
 * | IPVS, client to server, masqueraded | `-m ipvs --vdir ORIGINAL --vmethod MASQ` (no `--ipvs`, direction first) |
 * | any packet of IPVS | `-m ipvs --ipvs`, `-m ipvs ! --ipvs` |
 * | mark | `-m mark --mark 0x10000/0x10000`, `-m mark ! --mark 0x1234`: lower-case hexadecimal, no full mask |
 * | connection state | `-m conntrack --ctstate RELATED,ESTABLISHED` (that order; also `INVALID`, `DNAT`), `-m conntrack --ctdir REPLY` |
 * | local destination, source | `-m addrtype --dst-type LOCAL`, `-m addrtype ! --dst-type LOCAL`, `-m addrtype --src-type LOCAL` |
 * | rate | `-m limit --limit 10/min --limit-burst 10`; the default burst of 5 is not printed |
 * | comment | `-m comment --comment "x y"`, `--comment "default/web.1 ingress[0]"`, `--comment word`: quoted unless all of `A-Za-z0-9_-`, a backslash before `"`, `'` and `\`; cut after 255 bytes |
 * | reject | `-j REJECT --reject-with icmp-port-unreachable`, v6 `icmp6-port-unreachable`, with `-p tcp` also `tcp-reset` |
 * | masquerade | `-j MASQUERADE --random-fully`, `-j SNAT --to-source 192.168.1.1 --random-fully` |
 * | set a mark, clear it | `-j MARK --set-xmark 0x1234/0xffff`, a whole one `0x1234/0xffffffff`; `-j MARK --set-xmark 0x0/0x10000` |
 * | log | `-j NFLOG --nflog-prefix "DROP by policy a/b" --nflog-group 100` (prefix first, quoted as comments are, cut after 63 bytes) |
 * | segment size | `-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1440` |
 * | our own chain | `-j FAIRWAY-SERVICES`, without coming back `-g FAIRWAY-SERVICES` |
 */
import { ruleWords } from '../net/words.ts';

/**
 * What two texts of the same rule have in common where tool versions differ in print: quotes around plain words, the length of a
 * host address, `--ipvs` beside another option of its match.
 */
export function ruleIdentity(rule: string): string {
  const words = ruleWords(rule);
  const hasIpvsDetail = words.some(word => IPVS_DETAILS.has(word));
  const kept = words.map((word, index) => {
    const option = words[index - 1];
    return (option === '-s' || option === '-d') && !word.includes('/') ? `${word}/${word.includes(':') ? 128 : 32}` : word;
  });
  return kept.filter((word, index) => !(hasIpvsDetail && word === '--ipvs' && kept[index - 1] !== '!')).join('\n');
}

const IPVS_DETAILS: ReadonlySet<string> = new Set(['--vproto', '--vaddr', '--vport', '--vdir', '--vmethod', '--vportctl']);

/** A jump from a built-in chain to one of ours. */
export interface HookRule {
  readonly to: string;
  readonly order: number;
  /** Match part as printed, without our comment; '' for every packet. */
  readonly match: string;
}

/** The order of a hook that does not say its own. */
export const DEFAULT_HOOK_ORDER = 10;

/**
 * The text of a hook after `-A CHAIN `. Its order goes along as a comment: so that the kernel itself tells it after a restart, and
 * hooks of later versions find their place among those of earlier ones. {@link DEFAULT_HOOK_ORDER} goes without: every
 * packet passes such a rule, and with the nft flavour a comment costs 80 ns.
 */
export function hookRule(hook: { readonly to: string; readonly order: number; readonly match: string }): string {
  const comment = hook.order === DEFAULT_HOOK_ORDER ? '' : `-m comment --comment fairway-${hook.order} `;
  return `${hook.match === '' ? '' : `${hook.match} `}${comment}-j ${hook.to}`;
}

/** Reads back {@link hookRule}; undefined where the rule does not end in a jump to one of our chains. */
export function parseHookRule(rule: string, ownsChain: (name: string) => boolean): HookRule | undefined {
  const [, before, to] = /^(.*?)(?:^| )-[jg] (\S+)$/.exec(rule) ?? [];
  if (before === undefined || to === undefined || !ownsChain(to)) return undefined;
  const [comment, order] = /(?:^| )-m comment --comment "?fairway-(-?[0-9]+)"?(?= |$)/.exec(before) ?? [];
  if (comment === undefined) return { to, order: DEFAULT_HOOK_ORDER, match: before };
  return { to, order: Number(order), match: before.replace(comment, '').trimStart() };
}
