/** The external BGP peers that a Node names in its annotations: one of YAML, or kube-router's five older ones of comma lists. */
import { dump, JSON_SCHEMA, loadAll } from 'js-yaml';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { isPeerAsn, PEER_ASNS, parseUint32 } from '../net/as-number.ts';
import { isPort } from '../net/port.ts';
import { Secret } from '../net/secret.ts';

export interface AnnotatedPeer {
  readonly address: IpAddress;
  readonly asn: number;
  /** 179 unless told. */
  readonly port: number;
  /** Empty for none. */
  readonly password: Secret;
  readonly localAddress: IpAddress | undefined;
}

export interface AnnotatedPeers {
  readonly peers: readonly AnnotatedPeer[];
  /** One sentence an entry that is left out, or a key that has no effect; no password stands in it. */
  readonly problems: readonly string[];
}

const YAML = 'kube-router.io/peers';
const LISTS = {
  ips: 'kube-router.io/peer.ips',
  asns: 'kube-router.io/peer.asns',
  ports: 'kube-router.io/peer.ports',
  passwords: 'kube-router.io/peer.passwords',
  localIps: 'kube-router.io/peer.localips',
} as const;
const BGP_PORT = 179;

/** What an entry says, as text and whatever it is. */
interface RawPeer {
  readonly ip: unknown;
  readonly asn: unknown;
  readonly port: unknown;
  readonly password: unknown;
  readonly localIp: unknown;
}

/** Where the YAML form is given the others are not looked at, as in kube-router. An entry that cannot be used stops no other. */
export function peersOfAnnotations(annotations: Readonly<Record<string, string>>): AnnotatedPeers {
  const yaml = annotations[YAML];
  if (yaml !== undefined) return peersOfYaml(yaml);
  return annotations[LISTS.ips] === undefined ? { peers: [], problems: [] } : peersOfLists(annotations);
}

/** In base64, `hidden`: what stands in place of each password. */
const HIDDEN = Buffer.from('hidden').toString('base64');

/** The same annotations, fit for a bug report: where there was a password there still is one, and it is `hidden`. */
export function withoutPasswords(annotations: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const { [YAML]: yaml, [LISTS.passwords]: list } = annotations;
  return {
    ...annotations,
    ...(yaml === undefined ? {} : { [YAML]: withoutYamlPasswords(yaml) }),
    ...(list === undefined ? {} : { [LISTS.passwords]: list.replace(/[^,\s][^,]*/g, HIDDEN) }),
  };
}

function withoutYamlPasswords(text: string): string {
  try {
    const hide = (key: string, value: unknown): unknown => (key === 'password' && value !== '' ? HIDDEN : value);
    const documents = loadAll(text, { schema: JSON_SCHEMA });
    const hidden = documents.map((document): unknown => JSON.parse(JSON.stringify(document ?? null), hide));
    return hidden.map(document => dump(document)).join('---\n');
  } catch {
    // What cannot be read may hold anything.
    return '[not YAML, hidden]';
  }
}

function peersOfYaml(text: string): AnnotatedPeers {
  let documents: readonly unknown[];
  try {
    documents = loadAll(text, { schema: JSON_SCHEMA });
  } catch {
    // What the parser says quotes the text, and with it passwords.
    return { peers: [], problems: [`${YAML} is not YAML: no peer of it is used`] };
  }
  // An annotation of comments alone has none.
  const [document, ...others] = documents;
  if (others.length > 0) return { peers: [], problems: [`${YAML} is more than one YAML document: no peer of it is used`] };
  if (document === null || document === undefined) return { peers: [], problems: [] };
  if (!Array.isArray(document)) return { peers: [], problems: [`${YAML} is not a list of peers: begin each with "- remoteip:"`] };
  const items: readonly unknown[] = document;
  return gather(
    items.map((item, index) => {
      const where = `${YAML}, entry ${index + 1}`;
      if (!isRecord(item)) return { where, problem: 'is not a map of remoteip, remoteasn and so on' };
      const raw: RawPeer = {
        ip: item['remoteip'],
        asn: item['remoteasn'],
        port: item['port'],
        password: item['password'],
        localIp: item['localip'],
      };
      const bfd = item['bfd'];
      const isBfd = isRecord(bfd) && bfd['enabled'] === true;
      return {
        where,
        raw,
        remarks: isBfd ? [`${where}: bfd has no effect: gobgpd 3 has none; the hold time finds a dead peer`] : [],
      };
    }),
  );
}

function peersOfLists(annotations: Readonly<Record<string, string>>): AnnotatedPeers {
  const lists = {
    ips: listOf(annotations[LISTS.ips]),
    asns: listOf(annotations[LISTS.asns]),
    ports: listOf(annotations[LISTS.ports]),
    passwords: listOf(annotations[LISTS.passwords]),
    localIps: listOf(annotations[LISTS.localIps]),
  };
  for (const name of ['asns', 'ports', 'passwords', 'localIps'] as const) {
    const { length } = lists[name];
    if (length === lists.ips.length || (name !== 'asns' && length === 0)) continue;
    const problem = `${LISTS[name]} has ${length} entries and ${LISTS.ips} ${lists.ips.length}: no peer of them is used; give one entry per peer, in the same order`;
    return { peers: [], problems: [problem] };
  }
  return gather(
    lists.ips.map((ip, index) => ({
      where: `${LISTS.ips}, entry ${index + 1}`,
      raw: {
        ip,
        asn: lists.asns[index],
        port: lists.ports[index] || undefined,
        password: lists.passwords[index] || undefined,
        localIp: lists.localIps[index] || undefined,
      },
      remarks: [],
    })),
  );
}

type Candidate =
  | { readonly where: string; readonly problem: string }
  | { readonly where: string; readonly raw: RawPeer; readonly remarks: readonly string[] };

function gather(candidates: readonly Candidate[]): AnnotatedPeers {
  const peers = new Map<IpAddress, AnnotatedPeer>();
  const problems: string[] = [];
  for (const candidate of candidates) {
    const peer = 'raw' in candidate ? peerOf(candidate.raw) : candidate.problem;
    if (typeof peer === 'string') problems.push(`${candidate.where} ${peer}; the entry is left out`);
    else if (peers.has(peer.address)) problems.push(`${candidate.where} names ${peer.address} once more; the first entry stands`);
    else {
      peers.set(peer.address, peer);
      if ('remarks' in candidate) problems.push(...candidate.remarks);
    }
  }
  return { peers: [...peers.values()], problems };
}

/** The peer, or what is wrong with it. */
function peerOf({ ip, asn, port, password, localIp }: RawPeer): AnnotatedPeer | string {
  const address = typeof ip === 'string' ? parseAddress(ip.trim()) : undefined;
  if (address === undefined) return `has no usable peer address (${shown(ip)})`;
  const number = typeof asn === 'number' ? asn : typeof asn === 'string' ? parseUint32(asn) : undefined;
  if (number === undefined || !isPeerAsn(number)) return `has no usable AS number (${shown(asn)}): use ${PEER_ASNS}`;
  const portNumber = port === undefined || port === null ? BGP_PORT : typeof port === 'string' ? Number(port) : port;
  if (!isPort(portNumber)) return `has no usable port (${shown(port)}): use 1 to 65535`;
  const secret = secretOf(password);
  if (secret === undefined) return 'has a password that is not text in base64: printf %s PASSWORD | base64';
  const isLocalGiven = localIp !== undefined && localIp !== null && localIp !== '';
  const localAddress = isLocalGiven ? (typeof localIp === 'string' ? parseAddress(localIp.trim()) : undefined) : undefined;
  if (isLocalGiven && localAddress === undefined) return `has no usable local address (${shown(localIp)})`;
  if (localAddress !== undefined && localAddress.includes(':') !== address.includes(':'))
    return `has the local address ${localAddress}, which is of another family than ${address}`;
  return { address, asn: number, port: portNumber, password: secret, localAddress };
}

function secretOf(password: unknown): Secret | undefined {
  if (password === undefined || password === null || password === '') return new Secret('');
  return typeof password === 'string' ? Secret.ofBase64(password.trim()) : undefined;
}

function shown(value: unknown): string {
  return value === undefined ? 'none given' : JSON.stringify(value);
}

function listOf(text: string | undefined): readonly string[] {
  return text === undefined || text.trim() === '' ? [] : text.split(',').map(item => item.trim());
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
