/** What a neighbour may say by mistake or on purpose, and no node may do. */

export interface HostileRoute {
  readonly title: string;
  readonly prefix: string;
  /** Its own address unless told. */
  readonly nextHop?: string;
  /** GoBGP takes the route for withdrawn as it comes (RFC 7606); the others are ours to refuse. */
  readonly refusedBy?: 'GoBGP';
}

/** Of node1 of the lab, which hears them. */
export const HOSTILE_ROUTES: readonly HostileRoute[] = [
  { title: 'our own pod CIDR', prefix: '10.244.1.0/24' },
  { title: 'a part of our own pod CIDR', prefix: '10.244.1.128/25' },
  { title: 'one of our own pods', prefix: '10.244.1.11/32' },
  { title: 'our own pod CIDR', prefix: 'fd00:10:244:1::/64' },
  { title: 'a part of our own pod CIDR', prefix: 'fd00:10:244:1::8000/113' },
  { title: 'a default route', prefix: '0.0.0.0/0' },
  { title: 'a default route', prefix: '::/0' },
  { title: 'loopback', prefix: '127.0.0.0/8' },
  { title: 'a part of loopback', prefix: '127.0.0.53/32' },
  { title: 'this network', prefix: '0.0.0.0/8' },
  { title: 'link-local', prefix: '169.254.0.0/16' },
  { title: 'the metadata address of clouds', prefix: '169.254.169.254/32' },
  { title: 'what is reserved', prefix: '240.0.0.0/4' },
  { title: 'loopback', prefix: '::1/128' },
  { title: 'link-local', prefix: 'fe80::/10' },
  { title: 'multicast', prefix: 'ff00::/8' },
  { title: 'our own address', prefix: '192.168.1.11/32' },
  { title: 'the address of another node', prefix: '192.168.1.12/32' },
  { title: 'the address of another node', prefix: 'fd00:192:168:1::12/128' },
  { title: 'a part of the network of the nodes, with nodes in it', prefix: '192.168.1.8/29' },
  { title: 'the network of the nodes', prefix: '192.168.1.0/24' },
  { title: 'a part of the network of the nodes, with nodes in it', prefix: 'fd00:192:168:1::/65' },
  { title: 'a next hop that is us', prefix: '10.66.1.0/24', nextHop: '192.168.1.11' },
  { title: 'a next hop that is us, on another link', prefix: '10.66.2.0/24', nextHop: '10.244.1.1' },
  { title: 'a next hop that is loopback', prefix: '10.66.3.0/24', nextHop: '127.0.0.1', refusedBy: 'GoBGP' },
  { title: 'a next hop that is multicast', prefix: '10.66.4.0/24', nextHop: '224.0.0.5', refusedBy: 'GoBGP' },
  { title: 'a next hop that is no network of ours', prefix: '10.66.5.0/24', nextHop: '198.51.100.1' },
  { title: 'a next hop that is us', prefix: 'fd00:66:1::/64', nextHop: 'fd00:192:168:1::11' },
  { title: 'a next hop that is loopback', prefix: 'fd00:66:2::/64', nextHop: '::1' },
];

/** Told from the start: no command of ExaBGP's tells them as unicast. */
export const MULTICAST_PREFIXES: readonly string[] = ['224.0.0.0/4', '239.1.0.0/16'];

export interface MalformedAttribute {
  readonly title: string;
  /** Type, flags and value, as ExaBGP takes them. */
  readonly attribute: string;
}

/** RFC 7606 says for each what becomes of the route or of the session. */
export const MALFORMED_ATTRIBUTES: readonly MalformedAttribute[] = [
  { title: 'an optional attribute that nobody knows', attribute: '[ 0x63 0xc0 0x1234 ]' },
  { title: 'MED of two bytes', attribute: '[ 0x04 0x80 0x0001 ]' },
  { title: 'communities of three bytes', attribute: '[ 0x08 0xc0 0x010203 ]' },
  { title: 'a cluster list from an external peer', attribute: '[ 0x0a 0x80 0x0102 ]' },
  { title: 'an ORIGIN that does not exist', attribute: '[ 0x01 0x40 0x09 ]' },
  { title: 'a well-known attribute that nobody knows', attribute: '[ 0x64 0x40 0x01 ]' },
  { title: 'an AS_PATH that ends too early', attribute: '[ 0x02 0x40 0x0205 ]' },
];
