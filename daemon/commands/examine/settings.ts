/** Settings and counters of the kernel that decide over packets, and that nobody notices until they are lost. */
import type { ModuleName } from '../../config/modules.ts';
import { type Examiner, type Finding, missing, ok, warning } from './finding.ts';

export interface SettingsOptions {
  /** Rejects where there is no such file. */
  readonly readFile: (path: string) => Promise<string>;
  readonly isEnabled: (module: ModuleName) => boolean;
}

/** Shares of nf_conntrack_max in use. */
const [NEARLY_FULL, FULL] = [0.75, 0.98];

export function settingsExaminer({ readFile, isEnabled }: SettingsOptions): Examiner {
  const value = async (path: string): Promise<string | undefined> =>
    readFile(`/proc/sys/${path}`).then(
      text => text.trim(),
      () => undefined,
    );
  return {
    title: 'Settings',
    examine: async () => {
      const [forward, count, max, strict] = await Promise.all([
        value('net/ipv4/ip_forward'),
        value('net/netfilter/nf_conntrack_count'),
        value('net/netfilter/nf_conntrack_max'),
        value('net/ipv4/conf/all/rp_filter'),
      ]);
      return [forwarding(forward, isEnabled), tracking(Number(count), Number(max)), reversePath(strict)];
    },
  };
}

function forwarding(value: string | undefined, isEnabled: SettingsOptions['isEnabled']): Finding {
  if (value === '1') return ok('net.ipv4.ip_forward', '1');
  if (isEnabled('routing') || isEnabled('services'))
    return ok('net.ipv4.ip_forward', `${value ?? 'not there'}, set to 1 at the start of the daemon`);
  return warning('net.ipv4.ip_forward', `${value ?? 'not there'}: no pod reaches another node; set it to 1 with sysctl(8)`);
}

/** A full table drops every new flow of the node, and only the kernel's log says so. */
function tracking(count: number, max: number): Finding {
  if (!(max > 0)) return ok('nf_conntrack', 'not loaded yet');
  const shown = `${count} of ${max} flows`;
  const remedy = 'raise net.netfilter.nf_conntrack_max with sysctl(8), or find who holds so many (conntrack -L)';
  if (count >= max * FULL) return missing('nf_conntrack', `${shown}: the table is full and new flows are dropped; ${remedy}`);
  if (count >= max * NEARLY_FULL) return warning('nf_conntrack', `${shown}: the table is nearly full; ${remedy}`);
  return ok('nf_conntrack', shown);
}

/** The larger of `all` and the link's own value counts (ip-sysctl.rst): with a strict `all` nothing set on a link helps. */
function reversePath(all: string | undefined): Finding {
  if (all !== '1') return ok('net.ipv4.conf.all.rp_filter', all ?? 'not there');
  const remark =
    '1 (strict): packets that come by another link than answers take are dropped, as with tunnels and direct server return';
  return warning('net.ipv4.conf.all.rp_filter', `${remark}; set it to 2 or 0 with sysctl(8)`);
}
