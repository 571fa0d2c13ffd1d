/**
 * What the host can do, looked at again while something is lacking: a module that is loaded or a package that is installed later, or a lock that somebody
 * held at our start, needs no restart. What was there once counts as there: a look that fails for want of memory must not take rules away.
 */
import type { Clock } from '../net/clock.ts';
import { pause } from '../net/pause.ts';
import type { FacilityReport, HostProbe } from './capabilities.ts';
import type { IptablesTools } from './iptables-flavour.ts';

export class HostAbilities {
  #probe: HostProbe;
  /** As they are now, whenever they are asked. */
  readonly iptables: IptablesTools;

  constructor(probe: HostProbe) {
    this.#probe = probe;
    const tools = (): IptablesTools => this.#probe.iptables;
    this.iptables = {
      get flavour() {
        return tools().flavour;
      },
      get reason() {
        return tools().reason;
      },
      get byFamily() {
        return tools().byFamily;
      },
    };
  }

  /** The object is another only where something came to be there. */
  get probe(): HostProbe {
    return this.#probe;
  }

  /** Returns what is there now and was not. */
  learn(later: HostProbe): readonly FacilityReport[] {
    const lacked = new Set(this.#probe.reports.filter(({ ok }) => !ok).map(({ facility }) => facility));
    const found = later.reports.filter(({ facility, ok }) => ok && lacked.has(facility));
    if (found.length > 0) this.#probe = improved(this.#probe, later);
    return found;
  }
}

function improved(former: HostProbe, later: HostProbe): HostProbe {
  const iptables = improvedTools(former.iptables, later.iptables);
  const [one, other] = [former.capabilities, later.capabilities];
  const known = new Map(former.reports.map(report => [report.facility, report]));
  return {
    iptables,
    capabilities: {
      ipvs: one.ipvs || other.ipvs,
      ipset: one.ipset || other.ipset,
      dummyLink: one.dummyLink || other.dummyLink,
      iptables: { ipv4: iptables.byFamily.ipv4 !== undefined, ipv6: iptables.byFamily.ipv6 !== undefined },
      xtIpvs: one.xtIpvs || other.xtIpvs,
      bridgeNetfilter: one.bridgeNetfilter || other.bridgeNetfilter,
      nflog: one.nflog || other.nflog,
      ipv6: one.ipv6 || other.ipv6,
    },
    reports: later.reports.map(report => {
      const before = known.get(report.facility);
      return before?.ok === true ? before : report;
    }),
  };
}

/** A flavour that works is kept: our rules are in it. */
function improvedTools(former: IptablesTools, later: IptablesTools): IptablesTools {
  if (former.flavour === undefined) return later;
  if (former.flavour !== later.flavour) return former;
  return { ...later, byFamily: { ...later.byFamily, ...former.byFamily } };
}

/** Milliseconds between two looks: doubling, since most of what is lacking comes soon or never. A look costs a dozen short processes. */
const FIRST_LOOK_MS = 5_000;
const LONGEST_WAIT_MS = 300_000;

export interface LackWatchOptions {
  readonly clock: Clock;
  /** Whether something is lacking that somebody needs. */
  readonly isLacking: () => boolean;
  /** Looks again. */
  readonly look: (signal: AbortSignal) => Promise<void>;
}

/** Looks again and again until nothing is lacking or the signal aborts. Rejects with what a look rejects with. */
export async function watchLacks({ clock, isLacking, look }: LackWatchOptions, signal: AbortSignal): Promise<void> {
  for (let wait = FIRST_LOOK_MS; isLacking(); wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    await pause(clock, wait, signal);
    if (signal.aborted) return;
    await look(signal);
  }
}
