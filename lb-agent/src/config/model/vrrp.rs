// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs to VRRP alone: when addresses are announced, how adverts are exchanged.

use std::time::Duration;

use serde::Serialize;

/// When an instance announces its addresses (gratuitous ARP, unsolicited neighbour
/// advertisements), and how many packets an address gets each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Announcing {
    /// `garp_master_delay`: when the second round after a takeover comes; zero for none.
    pub delay: Duration,
    /// `garp_master_repeat`: packets of both rounds after a takeover.
    pub repeat: u32,
    /// `garp_master_refresh`: time between rounds of a MASTER; zero for none.
    pub refresh: Duration,
    /// `garp_master_refresh_repeat`: packets of such a round.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_delay`: when the second round after another MASTER was heard comes; zero
    /// for none.
    pub lower_delay: Duration,
    /// `garp_lower_prio_repeat`: packets of both rounds after another MASTER was heard; with 0
    /// there are none.
    pub lower_repeat: u32,
}

impl Default for Announcing {
    /// KEEPALIVED: its defaults.
    fn default() -> Self {
        const AGAIN: Duration = Duration::from_secs(5);
        const ROUND: u32 = 5;
        Self {
            delay: AGAIN,
            repeat: ROUND,
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_delay: AGAIN,
            lower_repeat: ROUND,
        }
    }
}

/// Least time between two announcements on an interface, or on several together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spacing {
    /// `garp_interval`: between two gratuitous ARP packets.
    pub garp: Duration,
    /// `gna_interval`: between two neighbour advertisements.
    pub gna: Duration,
    /// The interfaces that share it; none in the one for all others.
    pub interfaces: Vec<String>,
}

/// How adverts are exchanged with other routers, beyond what the protocol demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// `down_timer_adverts`: adverts that must be missing before a BACKUP claims.
    pub down_adverts: u8,
    /// False with `lower_prio_no_advert`: a MASTER answers one of lower priority with an advert.
    pub answer_lower: bool,
    /// `higher_prio_send_advert`: a MASTER that yields sends a last advert, so that the winner
    /// announces its addresses again.
    pub last_word: bool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            down_adverts: 3,
            answer_lower: true,
            last_word: true,
        }
    }
}
