/**
 * Every bit of the firewall mark (fwmark) that we touch. All others are left as they are, whoever set them.
 *
 * | bits | whose |
 * |---|---|
 * | 0x0001 - 0x1fff | {@link SERVICE_MARKS}: virtual services that are found by mark; kube-router's marks of direct server return lie here too |
 * | 0x2000 | the reference CNI plugin portmap's; never touched |
 * | 0x4000, 0x8000 | kube-proxy's "masquerade" and "drop"; never touched |
 * | 0x10000 | {@link POLICY_ALLOWED} |
 * | 0x20000 | {@link POLICY_BALANCED} |
 */

/**
 * A virtual service of IPVS that is found by mark is found by the whole mark, so that a packet on which other software has set further bits misses
 * it. 0 is no mark; with {@link DIRECT_RETURN} set it is one of direct server return, else one of a Service's clients on this node.
 */
export const SERVICE_MARKS = 0x1fff;
export const DIRECT_RETURN = 0x1000;

/**
 * A policy allows the packet in the direction that is being judged. Set by a policy's chain, read and cleared by the chain of the pod's
 * group: outside of a judgement the bit is clear. kube-router's bit for the same.
 */
export const POLICY_ALLOWED = 0x10000;

/**
 * The packet is judged in OUTPUT, on its way from IPVS to an endpoint: refused with an RST, it would answer the client with the address of the
 * endpoint, which IPVS does not translate back. Set and cleared within OUTPUT. kube-router's bit for "passed the pod's chain".
 */
export const POLICY_BALANCED = 0x20000;

/** Value and mask as `iptables-save` prints them: `0x10000/0x10000`. */
export function markText(value: number, mask: number): string {
  return `0x${value.toString(16)}/0x${mask.toString(16)}`;
}
