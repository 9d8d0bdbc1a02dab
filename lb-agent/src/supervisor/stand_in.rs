// SPDX-License-Identifier: MIT OR Apache-2.0
//! A dead agent's place on the wire: its adverts go on for a moment, or its role is given up.
//!
//! In: what it held. Out: adverts, addresses removed, attachments gone. Called by the supervisor's
//! loop. Invariant: needs nothing but what the page says; whatever fails is logged and the rest
//! goes on.

use std::time::Duration;

use tracing::{info, warn};

use super::page::{Frame, Held, Holdings};
use crate::dataplane::Pins;
use crate::netlink::addrs;
use crate::vrrp::socket::{self, Kind, Route};
use crate::vrrp::time::Nanos;

/// Adverts are not sent faster than this.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What is held for agents that died.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    held: Vec<(Held, Nanos)>,
}

impl StandIn {
    /// Takes over from an agent that died at `now`. What an earlier one held and this one had not
    /// decided yet goes on.
    pub(super) fn take(&mut self, now: Nanos, holdings: Holdings) {
        if holdings.settled {
            self.held.clear();
        }
        for held in holdings.masters {
            self.held.retain(|(known, _)| known.name != held.name);
            self.held.push((held, now));
        }
    }

    /// Nothing is held any more.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// When an advert is due.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        let repeated = self
            .held
            .iter()
            .filter(|(held, _)| !held.adverts.is_empty());
        repeated.map(|(_, at)| *at).min()
    }

    /// Sends the adverts that are due.
    pub(super) fn send_due(&mut self, now: Nanos) {
        for (held, at) in self.held.iter_mut().filter(|(_, at)| now >= *at) {
            held.adverts.iter().for_each(|frame| send(held, frame));
            *at = now + held.interval.max(INTERVAL_MIN);
        }
    }

    /// As a MASTER that resigns: addresses, then the word to the peers, then, if no agent is there
    /// to decide, the program.
    pub(super) fn give_up(&mut self, pins: &Pins, agent_runs: bool) {
        let held = std::mem::take(&mut self.held);
        for (held, _) in &held {
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
        if !agent_runs && !held.is_empty() {
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
