/**
 * What happened on the host that no picture of it shows (`HostFacts`), since it may be over already.
 *
 * `hostLinks`: a link of the host went down or up, vanished, or its addresses changed: routes went with it, and what was refused may work now.
 * `ownLinks`, `routes`, `rules`: something of ours was taken away, by whomever: our own deletions look the same. Which routes, that is told.
 * `lanAddresses`: an address that this node answers for on the local network was taken from its link, and not by us.
 */
export type Disturbance = 'hostLinks' | 'ownLinks' | 'routes' | 'rules' | 'lanAddresses';
