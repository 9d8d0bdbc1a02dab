// SPDX-License-Identifier: MIT OR Apache-2.0
//! `bfd_instance`.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::bfd::packet::{PORT, PORT_MULTIHOP};

/// `bfd_instance NAME { … }`: a session with a neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BfdInstance {
    /// Its name.
    pub name: String,
    /// `neighbor_ip`.
    pub neighbor: IpAddr,
    /// `source_ip`; the kernel's choice when absent.
    pub source: Option<IpAddr>,
    /// `min_rx`: how often we can receive, 10 ms by default.
    pub min_rx: Duration,
    /// `min_tx`: how often we send at most while up, 10 ms by default.
    pub min_tx: Duration,
    /// `idle_tx`: how often we send at most while not up, 1 s by default.
    pub idle_tx: Duration,
    /// `multiplier`: packets of ours that the neighbour must miss, 5 by default.
    pub multiplier: u8,
    /// `passive`: say nothing before the neighbour does.
    pub passive: bool,
    /// `ttl` or `hoplimit` of what is sent.
    pub ttl: u8,
    /// The lowest that is accepted: `ttl` less `max_hops`, 0 for any.
    pub ttl_min: u8,
    /// `multihop`: the port of RFC 5883.
    pub multihop: bool,
}

impl BfdInstance {
    /// UDP port of its packets.
    pub fn port(&self) -> u16 {
        if self.multihop { PORT_MULTIHOP } else { PORT }
    }
}
