/** What an address is inside of, by bits written out: slow, and plain to see. */
import { addressBits, prefixBits } from '../../daemon/explain/address-bits.ts';
import type { IpAddress } from '../../daemon/net/address.ts';
import type { IpPrefix } from '../../daemon/net/prefix.ts';

export function isWithin(address: IpAddress, prefix: IpPrefix): boolean {
  return address.includes(':') === prefix.includes(':') && addressBits(address).startsWith(prefixBits(prefix));
}

/** Remembers: tests trace millions of packets between few addresses. */
export function rememberedBits(): (address: IpAddress) => string {
  const known = new Map<IpAddress, string>();
  return address => {
    let bits = known.get(address);
    if (bits === undefined) {
      bits = addressBits(address);
      known.set(address, bits);
    }
    return bits;
  };
}
