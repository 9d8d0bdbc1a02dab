// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `xlvs status --json` says, as far as the experiments read it.
//!
//! In: JSON. Out: structs. Fields that the experiments do not need are left out.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole answer.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The agent's process id.
    pub pid: u32,
    /// VRRP instances in the order of the file.
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// The XDP program.
    pub program: Program,
    /// Virtual servers in the order of the file.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Packets by verdict.
    #[serde(default)]
    pub verdicts: BTreeMap<String, u64>,
}

/// One VRRP instance.
#[derive(Debug, Clone, Deserialize)]
pub struct Instance {
    /// Its name in the file.
    pub name: String,
    /// `MASTER`, `BACKUP`, `FAULT` or `INIT`.
    pub state: String,
    /// Whether the host answers at its addresses, also what is for no service.
    #[serde(default)]
    pub accept_mode: bool,
}

/// The XDP program.
#[derive(Debug, Clone, Deserialize)]
pub struct Program {
    /// Whether the kernel has verified and taken it.
    pub loaded: bool,
    /// Where it is attached.
    #[serde(default)]
    pub attached: Vec<Attached>,
    /// Instructions that the verifier walked through.
    #[serde(default)]
    pub verified_instructions: Option<u64>,
    /// How many follow live packets.
    #[serde(default)]
    pub followers: usize,
}

/// One attachment.
#[derive(Debug, Clone, Deserialize)]
pub struct Attached {
    /// The interface's name.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// One virtual server.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// Per second.
    #[serde(default)]
    pub rates: Rates,
    /// Its real servers in the order of the file.
    #[serde(default)]
    pub real_servers: Vec<RealServer>,
    /// Its sorry server, `IN USE` or `STANDBY`.
    #[serde(default)]
    pub sorry_server: Option<RealServer>,
}

/// Estimated rates.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Rates {
    /// Connections.
    pub cps: u64,
    /// Bytes from clients.
    pub inbps: u64,
}

/// One real server.
#[derive(Debug, Clone, Deserialize)]
pub struct RealServer {
    /// Its address.
    pub address: String,
    /// `UP` or `DOWN`.
    pub state: String,
    /// The weight in force; 0 while it is taken out.
    #[serde(default)]
    pub effective_weight: u32,
    /// The hardware address that its packets are sent to.
    #[serde(default)]
    pub mac: Option<String>,
    /// Connections scheduled.
    #[serde(default)]
    pub conns: u64,
    /// Established and half-open connections at this moment.
    #[serde(default)]
    pub active_conns: u64,
    /// Other connections at this moment.
    #[serde(default)]
    pub inactive_conns: u64,
}

impl Status {
    /// The state of the first instance.
    pub fn state(&self) -> &str {
        self.instances
            .first()
            .map_or("none", |instance| instance.state.as_str())
    }

    /// The real server with that address.
    pub fn real_server(&self, address: std::net::Ipv4Addr) -> Option<&RealServer> {
        let wanted = address.to_string();
        let mut all = self
            .services
            .iter()
            .flat_map(|service| &service.real_servers);
        all.find(|server| server.address == wanted)
    }
}
