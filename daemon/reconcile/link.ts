/** The entries of the table of links: network devices that we make. */
import type { IpAddress } from '../net/address.ts';

/** A network device we make. Its name identifies it; one of the name with other attributes is brought to these, in place where the kernel can. */
export type Link =
  | { readonly name: string; readonly type: 'dummy' }
  /** The bridge that pods are attached to. It is made where CNI has not; its addresses are CNI's; it is never deleted while it has ports. */
  | { readonly name: string; readonly type: 'bridge'; readonly mtu: number | undefined }
  /** A tunnel to one node: IP in IP, of one family outside and inside (ip-link(8): `ipip`, or `ip6tnl` in mode ip6ip6). */
  | {
      readonly name: string;
      readonly type: 'ipip' | 'ip6tnl';
      readonly local: IpAddress;
      readonly remote: IpAddress;
      /** The UDP port that GUE packets go to; undefined without UDP around. */
      readonly guePort: number | undefined;
      readonly mtu: number;
    }
  /** VXLAN with the generic protocol extension: the routes say where to (`external`), and IP packets go in without an Ethernet header. */
  | { readonly name: string; readonly type: 'vxlan'; readonly port: number; readonly mtu: number };

/** Whether a link of that name needs no change. */
export function sameLink(actual: Link, desired: Link): boolean {
  switch (desired.type) {
    case 'dummy':
      return actual.type === 'dummy';
    case 'bridge':
      return actual.type === 'bridge' && (desired.mtu === undefined || actual.mtu === desired.mtu);
    case 'ipip':
    case 'ip6tnl':
      return (
        actual.type === desired.type &&
        actual.local === desired.local &&
        actual.remote === desired.remote &&
        actual.guePort === desired.guePort &&
        actual.mtu === desired.mtu
      );
    case 'vxlan':
      return actual.type === 'vxlan' && actual.port === desired.port && actual.mtu === desired.mtu;
  }
}
