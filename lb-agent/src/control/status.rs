// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of an agent as data: what `xlvs status --json` prints. Field names are a contract.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::dataplane::rates::Rates;

/// Everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Its supervisor's process id; absent without one.
    #[serde(default)]
    pub supervisor: Option<u32>,
    /// Its real-time priority.
    #[serde(default)]
    pub rt_priority: Option<u8>,
    /// None of its memory is swapped out.
    #[serde(default)]
    pub memory_locked: bool,
    /// How often an agent crashed under this supervisor.
    #[serde(default)]
    pub crashes: u64,
    /// Configuration file.
    pub config: String,
    /// `router_id`, or the host name.
    pub router_id: String,
    /// VRRP instances in the order of the file.
    pub instances: Vec<Instance>,
    /// BFD sessions in the order of the file.
    #[serde(default)]
    pub bfd: Vec<Bfd>,
    /// BFD packets that belonged to no session, by what became of them.
    #[serde(default)]
    pub bfd_strangers: BTreeMap<String, u64>,
    /// The packet program.
    pub program: Program,
    /// Virtual servers in the order of the file.
    pub services: Vec<Service>,
    /// Packets by verdict.
    pub verdicts: BTreeMap<String, u64>,
}

/// One VRRP instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Name.
    pub name: String,
    /// `INIT`, `BACKUP`, `MASTER` or `FAULT`.
    pub state: String,
    /// Interface of its adverts.
    pub interface: String,
    /// Virtual router id.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// Configured priority.
    pub priority: u8,
    /// Priority in effect.
    pub effective_priority: u8,
    /// Configured `advert_int`, seconds.
    pub advert_interval_seconds: f64,
    /// The router last heard as MASTER; absent while we are it.
    pub master: Option<IpAddr>,
    /// Seconds in its state.
    pub since_seconds: f64,
    /// Virtual addresses with prefix length.
    pub vips: Vec<String>,
    /// The host answers at them, also what is for no service; false while rules drop that.
    #[serde(default)]
    pub accept_mode: bool,
    /// Figures by name.
    pub counters: BTreeMap<String, u64>,
    /// Other routers that were heard as MASTER while this one was; the trace of a takeover, or a
    /// split brain.
    pub rivals: Vec<Rival>,
    /// What it tracks, in the order of the file.
    #[serde(default)]
    pub tracks: Vec<Track>,
    /// Its sync group.
    #[serde(default)]
    pub group: Option<String>,
}

/// Something that an instance tracks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Track {
    /// `interface`, `script`, `file`, `process` or `bfd`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Absent while nothing is known of it, and when it cannot be tracked.
    pub up: Option<bool>,
    /// `up`, `down`, `unknown` (no result yet), `disabled` (cannot be tracked), or a file's number.
    pub state: String,
    /// Configured weight; 0 makes a failure a fault.
    pub weight: i32,
    /// Whether the weight works the other way round.
    pub reverse: bool,
}

/// A BFD session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bfd {
    /// Name.
    pub name: String,
    /// `Up`, `Init`, `Down` or `AdminDown`.
    pub state: String,
    /// Why it went down last.
    pub diagnostic: String,
    /// Seconds in its state.
    pub since_seconds: f64,
    /// The neighbour's address.
    pub neighbor: IpAddr,
    /// Own address, if the file says one.
    pub source: Option<IpAddr>,
    /// UDP port: 3784, or 4784 with `multihop`.
    pub port: u16,
    /// The neighbour's state, as it said last.
    pub remote_state: String,
    /// Why the neighbour went down last.
    pub remote_diagnostic: String,
    /// Own discriminator.
    pub discriminator: u32,
    /// The neighbour's; 0 while it is not heard.
    pub remote_discriminator: u32,
    /// Between two packets of ours, before jitter.
    pub tx_interval_ms: f64,
    /// Silence that ends the session; absent while the neighbour is not heard.
    pub detection_time_ms: Option<f64>,
    /// Figures by name.
    pub counters: BTreeMap<String, u64>,
}

/// Another router that claimed to be MASTER at the same time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rival {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Seconds since it was heard last.
    pub heard_seconds_ago: f64,
    /// Seconds since its claim was heard first.
    #[serde(default)]
    pub claims_seconds: f64,
    /// Its adverts since then.
    #[serde(default)]
    pub adverts: u64,
    /// It did not step down when it heard us, and has not been silent since.
    #[serde(default)]
    pub split_brain: bool,
    /// Why its adverts are refused: the name of their counter.
    #[serde(default)]
    pub refused: Option<String>,
}

/// The packet program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// False when the configuration has no virtual servers.
    pub loaded: bool,
    /// Where it is attached.
    pub attached: Vec<Attached>,
    /// Instructions the verifier walked through.
    pub verified_instructions: Option<u32>,
    /// How many follow live packets; meanwhile another program is attached, which tells them.
    #[serde(default)]
    pub followers: usize,
}

/// One attachment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Interface.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// One virtual server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Virtual address.
    pub address: IpAddr,
    /// Virtual port; 0 for all ports.
    pub port: u16,
    /// Scheduler.
    pub scheduler: String,
    /// Flags of the scheduler: `mh-port`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Its persistence.
    #[serde(default)]
    pub persistence: Option<Persistence>,
    /// Each UDP packet is scheduled for itself.
    #[serde(default)]
    pub one_packet: bool,
    /// The `virtual_server_group` that it comes from.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether enough weight is up.
    #[serde(default)]
    pub quorum: Quorum,
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Packets to clients, of masqueraded servers.
    #[serde(default)]
    pub out_packets: u64,
    /// Bytes to clients, of masqueraded servers.
    #[serde(default)]
    pub out_bytes: u64,
    /// Per second, as IPVS estimates it.
    #[serde(default)]
    pub rates: Rates,
    /// Real servers in the order of the file.
    pub real_servers: Vec<RealServer>,
    /// Its sorry server, `IN USE` or `STANDBY`.
    #[serde(default)]
    pub sorry_server: Option<RealServer>,
}

/// How long clients keep their real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// After their last connection.
    pub timeout_seconds: u64,
    /// Prefix length of addresses that count as one client.
    pub granularity: u8,
}

/// Quorum of a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// It is there.
    pub holds: bool,
    /// Weight that must be up.
    pub wanted: u32,
    /// Weight above and below it at which it is gained and lost.
    pub hysteresis: u32,
}

/// One real server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RealServer {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Forwarding method: `NAT`, `DR` or `TUN`.
    pub method: String,
    /// Type of the tunnel: `gue port 6080 csum`.
    #[serde(default)]
    pub tunnel: Option<String>,
    /// Configured weight.
    pub weight: u32,
    /// Weight in effect: 0 for a server that is down, and while the sorry server is in use.
    pub effective_weight: u32,
    /// Connections at which it takes no new one; 0 for no limit.
    #[serde(default)]
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again.
    #[serde(default)]
    pub lower_threshold: u32,
    /// `UP` or `DOWN`.
    pub state: String,
    /// MAC address that its frames go to, once known.
    pub mac: Option<String>,
    /// Its checks and how the last probe of each ended.
    pub checks: Vec<Check>,
    /// Established and half-open TCP connections at this moment.
    pub active_conns: u64,
    /// Other connections at this moment: closing, or UDP.
    pub inactive_conns: u64,
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Packets to clients, of masqueraded servers.
    #[serde(default)]
    pub out_packets: u64,
    /// Bytes to clients, of masqueraded servers.
    #[serde(default)]
    pub out_bytes: u64,
    /// Per second, as IPVS estimates it.
    #[serde(default)]
    pub rates: Rates,
}

/// One check of a real server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// Kind and target.
    pub check: String,
    /// Whether it holds the server fit.
    pub up: bool,
    /// How the last probe ended; absent before the first.
    pub last: Option<String>,
}
