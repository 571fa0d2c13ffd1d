/** The flags of kube-router v2.11.1: name, type as its parser knows it, default as its own help prints it, shorthand. */

export interface KubeRouterFlag {
  readonly name: string;
  readonly type: string;
  readonly default: string;
  readonly shorthand?: string;
}

const ROWS = `
advertise-cluster-ip                bool      false
advertise-external-ip               bool      false
advertise-loadbalancer-ip           bool      false
advertise-pod-cidr                  bool      true
auto-mtu                            bool      true
bfd-desired-min-tx-interval         uint32    1000
bfd-detection-multiplier            uint32    3
bfd-port                            uint32    3784
bfd-required-min-rx-interval        uint32    1000
bgp-graceful-restart                bool      false
bgp-graceful-restart-deferral-time  duration  6m0s
bgp-graceful-restart-time           duration  1m30s
bgp-holdtime                        duration  1m30s
bgp-port                            uint32    179
cache-sync-timeout                  duration  1m0s
cleanup-config                      bool      false
cluster-asn                         uint      0
disable-source-dest-check           bool      true
enable-bfd                          bool      false
enable-cni                          bool      true
enable-ibgp                         bool      true
enable-ipv4                         bool      true
enable-ipv6                         bool      false
enable-overlay                      bool      true
enable-pod-egress                   bool      true
enable-pprof                        bool      false
excluded-cidrs                      CIDRs     -
gobgp-admin-address                 string    127.0.0.1
gobgp-admin-port                    uint16    50051
hairpin-mode                        bool      false
health-addr                         string    -
health-port                         uint16    20244
help                                bool      false      h
hostname-override                   string    -
injected-routes-sync-period         duration  1m0s
iptables-sync-period                duration  5m0s
ipvs-graceful-period                duration  30s
ipvs-graceful-termination           bool      false
ipvs-permit-all                     bool      true
ipvs-sync-period                    duration  5m0s
kubeconfig                          string    -
loadbalancer-default-class          bool      true
loadbalancer-ip-range               CIDRs     -
loadbalancer-sync-period            duration  1m0s
masquerade-all                      bool      false
master                              string    -
metrics-addr                        string    -
metrics-path                        string    /metrics
metrics-port                        uint16    0
netpol-default-deny                 bool      false
nodeport-bindon-all-ip              bool      false
nodes-full-mesh                     bool      true
overlay-encap                       string    ipip
overlay-encap-port                  uint16    5555
overlay-type                        string    subnet
override-nexthop                    bool      false
peer-router-asns                    uints     -
peer-router-ips                     IPs       -
peer-router-multihop-ttl            uint8     0
peer-router-passwords               base64s   -
peer-router-passwords-file          string    -
peer-router-ports                   uints     -
router-id                           string    -
routes-sync-period                  duration  5m0s
run-firewall                        bool      true
run-loadbalancer                    bool      false
run-router                          bool      true
run-service-proxy                   bool      true
runtime-endpoint                    string    -
service-cluster-ip-range            CIDRs     10.96.0.0/12
service-external-ip-range           CIDRs     -
service-node-port-range             string    30000-32767
service-tcp-timeout                 duration  0s
service-tcpfin-timeout              duration  0s
service-udp-timeout                 duration  0s
strict-external-ip-validation       bool      true
use-nftables-for-netpol             bool      false
v                                   string    0          v
version                             bool      false      V
`;

export const KUBE_ROUTER_FLAGS: readonly KubeRouterFlag[] = ROWS.trim()
  .split('\n')
  .map(row => {
    const [name = '', type = '', fallback = '', shorthand] = row.split(/ +/);
    return { name, type, default: fallback === '-' ? '' : fallback, ...(shorthand === undefined ? {} : { shorthand }) };
  });
