// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known of the next hop towards one address, and what to ask the kernel next.
//!
//! Comes in: the route, and the neighbour entry each time it was read. Goes out: the
//! [`NextHopState`], an [`Ask`], and the time to look again.
//!
//! Invariant: a MAC address is given up only when the kernel asked and nobody answered, or the way
//! changed. So a flushed table costs no packet as long as the servers answer. Pure. Called by
//! `nexthop`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::neigh::{Entry, Freshness};
use super::super::routes::Route;
use super::NextHopState;

/// Pause after a neighbour did not answer, before the kernel is made to ask again. The kernel's
/// own asking takes 3 s (`mcast_solicit` times `retrans_time_ms`).
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Time after which an entry under resolution is read again even if no event came: longer than
/// the kernel takes to give up.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What to make the kernel do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Nothing,
    /// `neigh::resolve`.
    Resolve,
    /// `neigh::verify`.
    Verify,
}

/// The next hop towards one address.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    addr: IpAddr,
    /// None before the first lookup.
    route: Option<Route>,
    mac: Option<[u8; 6]>,
    /// The kernel is asking: if the entry fails, nobody answered.
    asking: bool,
    /// The entry is in doubt, however fresh.
    suspected: bool,
    /// When to read the entry again.
    pub(crate) wake: Option<Instant>,
    /// The kernel asked, and nobody answered yet.
    silent: bool,
    /// What was last published, and whether the neighbour was silent; none before the first time.
    pub(crate) published: Option<(NextHopState, bool)>,
}

impl Target {
    pub(crate) fn new(addr: IpAddr) -> Self {
        Self {
            addr,
            route: None,
            mac: None,
            asking: false,
            suspected: false,
            wake: None,
            silent: false,
            published: None,
        }
    }

    /// Interface and address of the neighbour that frames go to.
    pub(crate) fn neighbour(&self) -> Option<(u32, IpAddr)> {
        match self.route {
            Some(Route::Via {
                ifindex, gateway, ..
            }) => Some((ifindex, gateway.unwrap_or(self.addr))),
            Some(Route::Local { .. } | Route::Unreachable) | None => None,
        }
    }

    /// Takes in the route.
    pub(crate) fn set_route(&mut self, route: Route) {
        let before = self.neighbour();
        self.route = Some(route);
        if self.neighbour() != before {
            self.mac = None;
            self.asking = false;
            self.suspected = false;
            self.silent = false;
            self.wake = None;
        }
    }

    /// Whether the kernel asked for the MAC address and nobody answered yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Has the next observation verify an entry that seems fresh.
    pub(crate) fn suspect(&mut self) {
        self.suspected = true;
    }

    /// Takes in the neighbour entry as it was just read.
    pub(crate) fn observe(&mut self, entry: Option<Entry>, now: Instant) -> Ask {
        let paused = !self.asking && self.wake.is_some_and(|wake| wake > now);
        let suspected = std::mem::take(&mut self.suspected);
        let freshness = match entry.map(|entry| entry.freshness) {
            Some(Freshness::Fresh) if suspected => Freshness::Stale,
            Some(freshness) => freshness,
            // Flushed, maybe while the kernel was asking: no proof that nobody would answer.
            None if !paused => {
                self.asks(now);
                return Ask::Resolve;
            }
            None => return Ask::Nothing,
        };
        match freshness {
            Freshness::Fixed | Freshness::Fresh => {
                self.mac = entry.and_then(|entry| entry.mac);
                self.asking = false;
                self.silent = false;
                self.wake = None;
                Ask::Nothing
            }
            Freshness::Stale => {
                self.mac = entry.and_then(|entry| entry.mac);
                self.asks(now);
                Ask::Verify
            }
            Freshness::Checking => {
                self.mac = entry.and_then(|entry| entry.mac);
                // KERNEL: DELAY lasts `delay_first_probe_time`; then come the probes.
                self.asks(now);
                Ask::Nothing
            }
            Freshness::Resolving => {
                self.asks(now);
                Ask::Nothing
            }
            Freshness::Failed if self.asking => {
                self.mac = None;
                self.asking = false;
                self.silent = true;
                self.wake = Some(now + RETRY_PAUSE);
                Ask::Nothing
            }
            Freshness::Failed if paused => Ask::Nothing,
            Freshness::Failed => {
                self.asks(now);
                Ask::Resolve
            }
        }
    }

    fn asks(&mut self, now: Instant) {
        self.asking = true;
        self.wake = Some(now + LOOK_AGAIN);
    }

    /// What is known, with our MAC address on the interface and its MTU; none before the first
    /// lookup.
    pub(crate) fn state(
        &self,
        link: impl Fn(u32) -> (Option<[u8; 6]>, u32),
    ) -> Option<NextHopState> {
        Some(match self.route? {
            Route::Local { ifindex } => NextHopState {
                ifindex,
                local: true,
                ..NextHopState::default()
            },
            Route::Via {
                ifindex,
                gateway,
                source,
            } => {
                let (link_mac, mtu) = link(ifindex);
                NextHopState {
                    ifindex,
                    link_mac,
                    gateway,
                    mac: self.mac,
                    local: false,
                    source,
                    mtu,
                }
            }
            Route::Unreachable => NextHopState::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn entry(freshness: Freshness) -> Entry {
        let mac = match freshness {
            Freshness::Resolving | Freshness::Failed => None,
            _ => Some(MAC),
        };
        Entry { freshness, mac }
    }

    fn resolved(now: Instant) -> Target {
        let mut target = Target::new(IpAddr::from([10, 0, 0, 1]));
        target.set_route(Route::Via {
            ifindex: 2,
            gateway: None,
            source: None,
        });
        assert_eq!(target.observe(None, now), Ask::Resolve);
        assert_eq!(
            target.observe(Some(entry(Freshness::Fresh)), now),
            Ask::Nothing
        );
        target
    }

    #[test]
    fn missing_entry_is_resolved() {
        let target = resolved(Instant::now());
        assert_eq!(target.mac, Some(MAC));
        assert_eq!(target.wake, None);
    }

    #[test]
    fn entry_that_grew_old_is_verified_and_used_meanwhile() {
        let now = Instant::now();
        let mut target = resolved(now);
        assert_eq!(
            target.observe(Some(entry(Freshness::Stale)), now),
            Ask::Verify
        );
        assert_eq!(target.mac, Some(MAC));
        assert_eq!(
            target.observe(Some(entry(Freshness::Checking)), now),
            Ask::Nothing
        );
        assert_eq!(target.mac, Some(MAC));
    }

    #[test]
    fn flushed_entry_keeps_its_mac_while_it_is_resolved_anew() {
        let now = Instant::now();
        let mut target = resolved(now);
        target.observe(Some(entry(Freshness::Stale)), now);
        assert_eq!(target.observe(None, now), Ask::Resolve);
        assert_eq!(
            target.observe(Some(entry(Freshness::Resolving)), now),
            Ask::Nothing
        );
        assert_eq!(target.mac, Some(MAC));
    }

    #[test]
    fn neighbour_that_does_not_answer_loses_its_mac_and_is_asked_again_after_a_pause() {
        let now = Instant::now();
        let mut target = resolved(now);
        target.observe(Some(entry(Freshness::Stale)), now);
        assert_eq!(
            target.observe(Some(entry(Freshness::Failed)), now),
            Ask::Nothing
        );
        assert_eq!(target.mac, None);
        assert_eq!(
            target.observe(Some(entry(Freshness::Failed)), now),
            Ask::Nothing
        );
        let later = now + RETRY_PAUSE;
        assert_eq!(target.wake, Some(later));
        assert_eq!(
            target.observe(Some(entry(Freshness::Failed)), later),
            Ask::Resolve
        );
    }

    #[test]
    fn changed_mac_is_taken_at_once() {
        let now = Instant::now();
        let mut target = resolved(now);
        let moved = Some(Entry {
            freshness: Freshness::Fresh,
            mac: Some(OTHER),
        });
        target.observe(moved, now);
        assert_eq!(target.mac, Some(OTHER));
    }

    #[test]
    fn suspected_entry_is_verified_once_unless_it_is_fixed() {
        let now = Instant::now();
        let mut target = resolved(now);
        target.suspect();
        assert_eq!(
            target.observe(Some(entry(Freshness::Fixed)), now),
            Ask::Nothing
        );
        target.suspect();
        assert_eq!(
            target.observe(Some(entry(Freshness::Fresh)), now),
            Ask::Verify
        );
        assert_eq!(target.mac, Some(MAC));
        assert_eq!(
            target.observe(Some(entry(Freshness::Fresh)), now),
            Ask::Nothing
        );
    }

    #[test]
    fn changed_way_forgets_the_mac() {
        let mut target = resolved(Instant::now());
        let gateway = Some(IpAddr::from([10, 0, 0, 254]));
        target.set_route(Route::Via {
            ifindex: 2,
            gateway,
            source: None,
        });
        assert_eq!(target.mac, None);
        assert_eq!(target.neighbour(), Some((2, IpAddr::from([10, 0, 0, 254]))));
    }

    #[test]
    fn local_address_has_no_neighbour() {
        let mut target = resolved(Instant::now());
        target.set_route(Route::Local { ifindex: 1 });
        assert_eq!(target.neighbour(), None);
        assert!(target.state(|_| (None, 0)).unwrap().local);
    }
}
