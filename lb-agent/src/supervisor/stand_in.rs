// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dead agent's place on the wire: its adverts go on for a moment, or its role is given up.
//!
//! In: what it held. Out: adverts, gratuitous ARP, addresses removed, attachments gone. Called by the supervisor's
//! loop. Invariant: needs nothing but what the page says; whatever fails is logged and the rest
//! goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::net::if_::if_indextoname;
use tracing::{info, warn};

use super::page::{Address, Frame, Held, Holdings};
use crate::dataplane::Pins;
use crate::netlink::addrs;
use crate::vrrp::announce::Announcer;
use crate::vrrp::socket::{self, Kind, Route};
use crate::vrrp::time::Nanos;

/// Adverts are not sent faster than this.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Peers that wait for three adverts in less time than this may have taken over before the first one
/// of a stand-in. That makes them BACKUP again, but hosts and switches have learned their addresses.
const HASTY: Duration = Duration::from_millis(100);

/// When addresses are announced then, after the first advert: a peer needs a moment to leave, and what
/// it still has to announce comes before the last time.
const ANNOUNCED_AFTER: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(60),
    Duration::from_millis(180),
];

/// What is held for agents that died.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    places: Vec<Place>,
}

/// One MASTER's.
#[derive(Debug)]
struct Place {
    held: Held,
    /// When the next advert is due.
    advert_at: Nanos,
    /// When its addresses are to be announced, the last time first.
    announce_at: Vec<Nanos>,
}

impl Place {
    fn new(held: Held, now: Nanos) -> Self {
        let mut announce_at = Vec::new();
        if held.interval * 3 < HASTY && !held.adverts.is_empty() {
            announce_at.extend(ANNOUNCED_AFTER.iter().rev().map(|after| now + *after));
        }
        Self {
            held,
            advert_at: now,
            announce_at,
        }
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        let advert_at = (!self.held.adverts.is_empty()).then_some(self.advert_at);
        advert_at
            .into_iter()
            .chain(self.announce_at.last().copied())
            .min()
    }
}

impl StandIn {
    /// Takes over from an agent that died at `now`. What an earlier one held and this one had not
    /// decided yet goes on.
    pub(super) fn take(&mut self, now: Nanos, holdings: Holdings) {
        if holdings.settled {
            self.places.clear();
        }
        for held in holdings.masters {
            self.places.retain(|known| known.held.name != held.name);
            self.places.push(Place::new(held, now));
        }
    }

    /// Nothing is held any more.
    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.places.iter().filter_map(Place::poll_timeout).min()
    }

    /// Sends the adverts that are due, then announces the addresses that are.
    pub(super) fn send_due(&mut self, now: Nanos) {
        for place in self.places.iter_mut().filter(|p| now >= p.advert_at) {
            let Place { held, .. } = place;
            held.adverts.iter().for_each(|frame| send(held, frame));
            place.advert_at = now + place.held.interval.max(INTERVAL_MIN);
        }
        for place in &mut self.places {
            let due = |at: &mut Nanos| now >= *at;
            if place.announce_at.pop_if(due).is_some() {
                announce(&place.held);
            }
        }
    }

    /// As a MASTER that resigns: addresses, then the word to the peers, then, if no agent is there
    /// to decide, the program.
    pub(super) fn give_up(&mut self, pins: &Pins, agent_runs: bool) {
        let places = std::mem::take(&mut self.places);
        for Place { held, .. } in &places {
            info!("supervisor: {}: handing over for the dead agent", held.name);
            for address in &held.addresses {
                if let Err(cause) = addrs::remove_now(address) {
                    warn!(
                        "supervisor: {}: cannot remove {}: {cause}",
                        held.name, address.addr
                    );
                }
            }
            held.releases.iter().for_each(|frame| send(held, frame));
        }
        if !agent_runs && !places.is_empty() {
            pins.detach();
        }
    }
}

fn send(held: &Held, frame: &Frame) {
    let kind = match (frame.src.is_ipv6(), frame.authenticated) {
        (true, _) => Kind::V6,
        (false, true) => Kind::V4Ah,
        (false, false) => Kind::V4,
    };
    let route = Route {
        src: frame.src,
        dst: frame.dst,
        hop_limit: frame.hop_limit,
    };
    if let Err(cause) = socket::send_once(kind, frame.ifindex, &frame.bytes, &route) {
        warn!("supervisor: {}: cannot send an advert: {cause}", held.name);
    }
}

/// Tells every host of the links that the addresses are here.
fn announce(held: &Held) {
    let mut links: BTreeMap<u32, Option<Announcer>> = BTreeMap::new();
    for Address { ifindex, addr, .. } in &held.addresses {
        let link = links.entry(*ifindex).or_insert_with(|| {
            let opened = if_indextoname(*ifindex)
                .map_err(|cause| cause.to_string())
                .and_then(|name| {
                    Announcer::open(&name.to_string_lossy()).map_err(|cause| cause.to_string())
                });
            let name = &held.name;
            opened
                .inspect_err(|cause| warn!("supervisor: {name}: {cause}"))
                .ok()
        });
        if let Some(link) = link
            && let Err(cause) = link.announce(*addr)
        {
            warn!("supervisor: {}: {cause}", held.name);
        }
    }
}

#[cfg(test)]
#[path = "stand_in_tests.rs"]
mod tests;
