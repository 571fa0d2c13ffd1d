/** A packet as the rules of iptables look at it. */
import { type Family, familyOf, type IpAddress } from '../net/address.ts';
import { addressBits } from './address-bits.ts';

export type ConnectionState = 'NEW' | 'ESTABLISHED' | 'RELATED' | 'INVALID' | 'UNTRACKED';

/** A packet as the matches see it. Ports are -1 where the protocol has none, likewise type and code of ICMP. */
export interface TracedPacket {
  readonly family: Family;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourceBits: string;
  readonly destinationBits: string;
  /** How addresses become bits: a test that traces millions of packets remembers them. */
  readonly bitsOf: (address: IpAddress) => string;
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp' | 'ipv6-icmp';
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly icmpType: number;
  readonly icmpCode: number;
  readonly state: ConnectionState;
  /** Whether it goes from the server of its connection to the client. */
  readonly isReply: boolean;
  /** How IPVS forwards the connection; undefined where it does not. */
  readonly balanced: 'MASQ' | undefined;
  readonly isSourceLocal: boolean;
  readonly isDestinationLocal: boolean;
  /** '' where there is none. */
  readonly inLink: string;
  readonly outLink: string;
  /** Rules change it on the way. */
  mark: number;
}

/** Ports where the protocol has some, type and code of ICMP. */
export type Transport =
  | { readonly protocol: 'TCP' | 'UDP' | 'SCTP'; readonly sourcePort?: number; readonly port: number }
  | { readonly protocol: 'ICMP'; readonly type: number; readonly code?: number };

const LOWER = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

/** What a packet is before anything is known of its way. The first one of a connection, to and from strangers. */
export function tracedPacket(
  source: IpAddress,
  destination: IpAddress,
  transport: Transport,
  bitsOf: (address: IpAddress) => string = addressBits,
): TracedPacket {
  const family = familyOf(source);
  if (familyOf(destination) !== family) throw new Error(`a packet of two families: ${source} ${destination}`);
  const isIcmp = transport.protocol === 'ICMP';
  return {
    family,
    source,
    destination,
    sourceBits: bitsOf(source),
    destinationBits: bitsOf(destination),
    bitsOf,
    protocol: isIcmp ? (family === 'ipv4' ? 'icmp' : 'ipv6-icmp') : LOWER[transport.protocol],
    sourcePort: isIcmp ? -1 : (transport.sourcePort ?? 40_000),
    destinationPort: isIcmp ? -1 : transport.port,
    icmpType: isIcmp ? transport.type : -1,
    icmpCode: isIcmp ? (transport.code ?? 0) : -1,
    state: 'NEW',
    isReply: false,
    balanced: undefined,
    isSourceLocal: false,
    isDestinationLocal: false,
    inLink: '',
    outLink: '',
    mark: 0,
  };
}

/** The same packet with another end. */
export function addressed(
  packet: TracedPacket,
  { source = packet.source, destination = packet.destination }: { readonly source?: IpAddress; readonly destination?: IpAddress },
): TracedPacket {
  const { bitsOf } = packet;
  return { ...packet, source, destination, sourceBits: bitsOf(source), destinationBits: bitsOf(destination) };
}

const UPPER = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' } as const;

export function bareTransport({ protocol, destinationPort, icmpType }: TracedPacket): Transport {
  return protocol === 'icmp' || protocol === 'ipv6-icmp'
    ? { protocol: 'ICMP', type: icmpType }
    : { protocol: UPPER[protocol], port: destinationPort };
}
