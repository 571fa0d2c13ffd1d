/** What the kernel can do, as the daemon finds it at its start: by doing it. */
import type { ModuleName } from '../../config/modules.ts';
import type { FacilityReport } from '../../kernel/capabilities.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

/** Without these everything works but what their remarks say. */
const LESSER: ReadonlySet<string> = new Set(['conntrack', 'gobgpd', "iptables' log of denied packets"]);
/** What only one family needs. */
const OF_IPV6: ReadonlySet<string> = new Set(['IPv6', 'iptables (ipv6)']);

export interface FacilitiesOptions {
  readonly reports: readonly FacilityReport[];
  readonly isEnabled: (module: ModuleName) => boolean;
  /** `--enable-ipv6` is given: it is not left to what the node has. */
  readonly needsIpv6: () => boolean;
}

export function facilitiesExaminer({ reports, isEnabled, needsIpv6 }: FacilitiesOptions): Examiner {
  const judged = (report: FacilityReport): Finding => {
    const { facility, remark, neededBy } = report;
    if (report.ok) return ok(facility, remark);
    if (!neededBy.some(name => isEnabled(name as ModuleName)))
      return warning(facility, `${remark} (what needs it is switched off)`);
    if (LESSER.has(facility) || (OF_IPV6.has(facility) && !needsIpv6())) return warning(facility, remark);
    return missing(facility, remark);
  };
  return { title: 'Kernel', examine: () => Promise.resolve(reports.map(judged)) };
}
