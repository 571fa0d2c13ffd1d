/** The metrics of kube-router v2.11 (its docs/metrics.md and pkg/metrics), without their prefix, and what its Grafana board asks for. */

export interface KubeRouterMetric {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
}

const SERVICE = ['svc_namespace', 'service_name', 'service_vip', 'protocol', 'port'];
const TIME: KubeRouterMetric = { type: 'histogram', labels: [] };
const COUNT: KubeRouterMetric = { type: 'counter', labels: [] };
const NUMBER: KubeRouterMetric = { type: 'gauge', labels: [] };
const TRAFFIC: KubeRouterMetric = { type: 'counter', labels: SERVICE };
const RATE: KubeRouterMetric = { type: 'gauge', labels: SERVICE };

export const KUBE_ROUTER_METRICS: Readonly<Record<string, KubeRouterMetric>> = {
  build_info: { type: 'gauge', labels: ['goversion', 'version'] },
  bgp_peer_info: { type: 'gauge', labels: ['address', 'type', 'asn', 'state'] },
  controller_bgp_advertisements_received: COUNT,
  controller_bgp_advertisements_sent: { type: 'counter', labels: ['type'] },
  controller_bgp_internal_peers_sync_time: TIME,
  controller_routes_sync_time: TIME,
  host_routes_sync_time: TIME,
  host_routes_synced: NUMBER,
  host_routes_added: COUNT,
  host_routes_removed: COUNT,
  controller_ipvs_services: NUMBER,
  controller_ipvs_services_sync_time: TIME,
  controller_ipvs_metrics_export_time: TIME,
  service_total_connections: TRAFFIC,
  service_packets_in: TRAFFIC,
  service_packets_out: TRAFFIC,
  service_bytes_in: TRAFFIC,
  service_bytes_out: TRAFFIC,
  service_cps: RATE,
  service_pps_in: RATE,
  service_pps_out: RATE,
  service_bps_in: RATE,
  service_bps_out: RATE,
  controller_iptables_sync_time: TIME,
  controller_iptables_v4_save_time: TIME,
  controller_iptables_v6_save_time: TIME,
  controller_iptables_v4_restore_time: TIME,
  controller_iptables_v6_restore_time: TIME,
  controller_policy_chains_sync_time: TIME,
  controller_policy_ipset_v4_restore_time: TIME,
  controller_policy_ipset_v6_restore_time: TIME,
  controller_policy_chains: NUMBER,
  controller_policy_ipsets: NUMBER,
};

/** Which series the board's panels and variables ask for, with the labels they match on or group by. `controller_bgp_peers` is older than v2.11. */
export const KUBE_ROUTER_BOARD: readonly (readonly [series: string, ...labels: readonly string[]])[] = [
  ...['iptables', 'ipvs_services', 'policy_chains', 'bgp_internal_peers', 'routes'].map(
    what => [`controller_${what}_sync_time_bucket`, 'le', 'instance'] as const,
  ),
  ['controller_ipvs_metrics_export_time_bucket', 'le', 'instance'],
  ['controller_ipvs_services', 'instance'],
  ['controller_bgp_peers', 'instance'],
  ['controller_bgp_advertisements_received', 'instance'],
  ['controller_bgp_advertisements_sent', 'instance'],
  ...[
    'pps_in',
    'pps_out',
    'bps_in',
    'bps_out',
    'bytes_in',
    'bytes_out',
    'packets_in',
    'packets_out',
    'cps',
    'total_connections',
  ].map(what => [`service_${what}`, 'svc_namespace', 'service_name', 'protocol', 'port', 'instance'] as const),
];
