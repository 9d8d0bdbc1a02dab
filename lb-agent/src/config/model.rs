// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a configuration means: names resolved, defaults filled in, no invalid state.
//!
//! Written by `resolve`, read by every other room. Durations are exact; addresses are typed; a
//! thing that keepalived would ignore is not here.

mod bfd;
mod routing;
mod service;
mod vrrp;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

pub use bfd::BfdInstance;
pub use routing::{Hop, Metric, Prefix, Route, RouteKind, Rule, RuleAction, Statics, TableId};
pub use service::{
    ForwardMethod, GueChecksum, Persistence, Protocol, RealServer, Scheduler, SchedulerFlags,
    ServiceId, SorryServer, TcpCheck, Tunnel, VirtualServer,
};
pub use vrrp::{
    Announcing, Auth, Checksum, Exchange, Family, InitFile, Mail, ParamMatch, Spacing, TrackFile,
    TrackProcess, UnicastPeer, VirtualAddress, Vmac,
};

/// A whole configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// `global_defs`.
    pub global: Global,
    /// `vrrp_script` blocks in the order of the file.
    pub vrrp_scripts: Vec<VrrpScript>,
    /// `track_file` blocks in the order of the file.
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process` blocks in the order of the file.
    pub track_processes: Vec<TrackProcess>,
    /// `bfd_instance` blocks in the order of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bfd_instances: Vec<BfdInstance>,
    /// `vrrp_instance` blocks in the order of the file.
    #[serde(serialize_with = "all_shared")]
    pub vrrp_instances: Vec<Arc<VrrpInstance>>,
    /// `vrrp_sync_group` blocks in the order of the file.
    pub sync_groups: Vec<SyncGroup>,
    /// `virtual_server` blocks in the order of the file.
    pub virtual_servers: Vec<VirtualServer>,
    /// `static_…`.
    pub statics: Statics,
}

/// `global_defs`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Global {
    /// `router_id`; the host name when the file names none.
    pub router_id: Option<String>,
    /// `vrrp_mcast_group4`.
    pub vrrp_mcast_group4: Ipv4Addr,
    /// `vrrp_mcast_group6`.
    pub vrrp_mcast_group6: Ipv6Addr,
    /// `enable_script_security`: what runs as root must not be writable by others.
    pub script_security: bool,
    /// `notify_fifo`, `vrrp_notify_fifo` and `lvs_notify_fifo`.
    pub notify_fifos: Vec<NotifyFifo>,
    /// `fifo_write_vrrp_states_on_reload`: they are told all states after a reload.
    #[serde(skip_serializing_if = "is_false")]
    pub fifo_states_on_reload: bool,
    /// `startup_script`: run before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub startup_script: Option<OnceScript>,
    /// `shutdown_script`: run when all else has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_script: Option<OnceScript>,
    /// `rs_init_notifies`: `notify_up` is run at the start, too.
    pub rs_init_notifies: bool,
    /// `lvs_timeouts`.
    pub lvs_timeouts: Timeouts,
    /// What holds for all connections of the data plane.
    pub conns: ConnSettings,
    /// Where mail goes; none when it goes to nobody.
    pub mail: Option<Mail>,
    /// `vrrp_startup_delay`: VRRP begins this long after the agent.
    pub startup_delay: Duration,
    /// `vrrp_delay_after_boot`: VRRP does not begin before the host has run so long.
    pub delay_after_boot: Duration,
    /// `vrrp_garp_interval` and `vrrp_gna_interval`, then each `garp_group`.
    pub spacings: Vec<Spacing>,
    /// How the agent is scheduled.
    #[serde(skip_serializing_if = "Scheduling::is_default")]
    pub scheduling: Scheduling,
}

/// How the thread that VRRP runs in is scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Scheduling {
    /// `vrrp_rt_priority`.
    pub rt_priority: Option<u8>,
    /// `vrrp_priority`: nice value.
    pub nice: Option<i8>,
    /// `vrrp_no_swap`: no memory is swapped out.
    pub no_swap: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Scheduling {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A named pipe that is told of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotifyFifo {
    /// Where it is.
    pub path: String,
    /// Told of instances and groups.
    pub instances: bool,
    /// Told of virtual servers and real servers.
    pub services: bool,
    /// Whom it belongs to if it is made: as whom scripts run, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<RunAs>,
    /// `notify_fifo_script`: reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Program>,
}

/// `startup_script` or `shutdown_script`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnceScript {
    /// What is run.
    pub program: Program,
    /// Its `…_timeout`: how long it may run, 10 s by default.
    pub timeout: Duration,
}

/// `lvs_timeouts`: how long a silent connection is kept. Absent: the data plane's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// `tcp`: established.
    pub tcp: Option<Duration>,
    /// `tcpfin`: half closed.
    pub tcp_fin: Option<Duration>,
    /// `udp`.
    pub udp: Option<Duration>,
}

/// How the data plane treats connections. IPVS: `sysctl net.ipv4.vs`, by the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnSettings {
    /// `xlvs_connections`: how many the table has room for.
    pub capacity: u32,
    /// `expire_nodest_conn`: a connection whose real server was removed ends at its next packet;
    /// otherwise its packets are dropped until the server is back.
    pub expire_nodest_conn: bool,
    /// `expire_quiescent_template`: persistence does not send new connections to a real server
    /// of weight 0.
    pub expire_quiescent_template: bool,
    /// `sloppy_tcp`: any TCP packet opens a connection, not a SYN alone.
    pub sloppy_tcp: bool,
    /// `xlvs_watchdog`: the packet program stops forwarding when the agent was silent for so long;
    /// `director::DEFAULT_WATCHDOG` when absent.
    pub watchdog: Option<Duration>,
}

impl ConnSettings {
    /// Room for connections when the file names none.
    pub const DEFAULT_CAPACITY: u32 = 1 << 20;
}

impl Default for ConnSettings {
    fn default() -> Self {
        Self {
            capacity: Self::DEFAULT_CAPACITY,
            expire_nodest_conn: false,
            expire_quiescent_template: false,
            sloppy_tcp: false,
            watchdog: None,
        }
    }
}

impl Default for Global {
    fn default() -> Self {
        Self {
            router_id: None,
            vrrp_mcast_group4: Ipv4Addr::new(224, 0, 0, 18),
            vrrp_mcast_group6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12),
            script_security: false,
            notify_fifos: Vec::new(),
            fifo_states_on_reload: false,
            startup_script: None,
            shutdown_script: None,
            rs_init_notifies: false,
            lvs_timeouts: Timeouts::default(),
            conns: ConnSettings::default(),
            mail: None,
            startup_delay: Duration::ZERO,
            delay_after_boot: Duration::ZERO,
            scheduling: Scheduling::default(),
            spacings: Vec::new(),
        }
    }
}

/// `state MASTER|BACKUP`: what an instance wants to be, before the election has its say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InitialState {
    /// `state MASTER`.
    Master,
    /// `state BACKUP`, the default.
    Backup,
}

/// VRRP version on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VrrpVersion {
    /// RFC 3768.
    V2,
    /// RFC 9568 (5798).
    V3,
}

/// `vrrp_instance NAME { … }`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// `state`.
    pub state: InitialState,
    /// `interface`: where adverts are sent and heard, and where addresses go by default.
    pub interface: String,
    /// `virtual_router_id`, 1–255.
    pub vrid: u8,
    /// `priority`, 1–255; 255 owns the addresses.
    pub priority: u8,
    /// `version`, or `vrrp_version` of `global_defs`; 2 by default.
    pub version: VrrpVersion,
    /// `advert_int`: v2 whole seconds 1–255 s, v3 centiseconds 0.01–40.95 s.
    pub advert_interval: Duration,
    /// False with `nopreempt` (which a file with `state MASTER` or priority 255 cannot have).
    pub preempt: bool,
    /// `preempt_delay`: how long a MASTER of lower priority is borne with, 0 by default.
    pub preempt_delay: Duration,
    /// `authentication`.
    pub auth: Auth,
    /// What adverts go over: the family of the addresses in them.
    pub family: Family,
    /// Multicast group of the adverts when `unicast_peers` is empty.
    pub mcast_group: IpAddr,
    /// `unicast_src_ip` or `mcast_src_ip`; the interface's first address (with IPv6 its link-local
    /// one) when absent.
    pub source: Option<IpAddr>,
    /// `unicast_peer`: adverts go to these addresses instead of the group.
    pub unicast_peers: Vec<UnicastPeer>,
    /// `virtual_ipaddress`, in the order of the file (which is the order on the wire).
    pub vips: Vec<VirtualAddress>,
    /// `virtual_ipaddress_excluded`: held as the others, but not in adverts.
    pub excluded: Vec<VirtualAddress>,
    /// The host answers at the addresses, also where no service is; always true for their owner.
    /// False with `no_accept`, and in strict mode.
    pub accept: bool,
    /// When the addresses are announced.
    pub announcing: Announcing,
    /// How adverts are exchanged.
    pub exchange: Exchange,
    /// `virtual_routes`.
    pub routes: Vec<Route>,
    /// `virtual_rules`.
    pub rules: Vec<Rule>,
    /// `use_vmac`.
    pub vmac: Option<Vmac>,
    /// `promote_secondaries`.
    pub promote_secondaries: bool,
    /// False with `dont_track_primary`: the state of the own interface does not matter.
    pub track_primary: bool,
    /// `track_interface` and `track_script`, in the order of the file.
    pub tracks: Vec<Track>,
    /// `notify…`.
    #[serde(serialize_with = "shared")]
    pub notify: Arc<Notify>,
    /// The `vrrp_sync_group` that names it.
    pub group: Option<String>,
}

/// `vrrp_sync_group NAME { … }`. Its members know it; what it tracks they track.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// `group`: the instances, in the order of the file.
    pub members: Vec<String>,
    /// `notify…`.
    pub notify: Notify,
}

/// `notify…` of an instance or a group: what is run, and told, on a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// `notify_master`.
    pub master: Option<Program>,
    /// `notify_backup`.
    pub backup: Option<Program>,
    /// `notify_fault`.
    pub fault: Option<Program>,
    /// `notify_stop`.
    pub stop: Option<Program>,
    /// `notify_deleted` with a program.
    pub deleted: Option<Program>,
    /// `notify_deleted`, with or without: an instance that a reload removes is told of as DELETED
    /// and not as FAULT.
    pub tell_deleted: bool,
    /// `notify_master_rx_lower_pri`, of an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx_lower: Option<Program>,
    /// `notify`: run after the others on every change, with four more arguments.
    pub any: Option<Program>,
    /// `notify_priority_changes`: the FIFOs are told of another priority.
    pub priority_changes: bool,
    /// `smtp_alert`: changes are mailed.
    pub mail: bool,
}

/// A line of `track_interface`, `track_script`, `track_file`, `track_process` or `track_bfd`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Track {
    /// What is tracked.
    pub what: Tracked,
    /// A file's number is multiplied by it; else -253 to 253, added to the priority (above 0: while it is up, below 0: while it is down).
    /// With 0 the instance is in FAULT while it is down.
    pub weight: i32,
    /// `reverse`: the weight is subtracted instead; with weight 0, up is the fault.
    pub reverse: bool,
}

/// What a [`Track`] looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "name")]
pub enum Tracked {
    /// An interface, by its name.
    Interface(String),
    /// A `vrrp_script`, by its name.
    Script(String),
    /// A `track_file`, by its name.
    File(String),
    /// A `vrrp_track_process`, by its name.
    Process(String),
    /// A `bfd_instance`, by its name.
    Bfd(String),
}

impl Tracked {
    /// `interface`, `script`, `file`, `process` or `bfd`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Interface(_) => "interface",
            Self::Script(_) => "script",
            Self::File(_) => "file",
            Self::Process(_) => "process",
            Self::Bfd(_) => "bfd",
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        let (Self::Interface(name)
        | Self::Script(name)
        | Self::File(name)
        | Self::Process(name)
        | Self::Bfd(name)) = self;
        name
    }
}

/// `vrrp_script NAME { … }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VrrpScript {
    /// Its name.
    pub name: String,
    /// `script` and `user`.
    pub program: Program,
    /// `interval`: from the start of a run to the start of the next, 1 s by default.
    pub interval: Duration,
    /// `timeout`: how long a run may take; `interval` by default.
    pub timeout: Duration,
    /// `rise`: successes in a row that make a failed script good, 1 by default.
    pub rise: u32,
    /// `fall`: failures in a row that make a good script failed, 1 by default.
    pub fall: u32,
    /// `init_fail`: failed until its first success, instead of unknown until its first result.
    pub init_fail: bool,
}

/// A program to run and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Program {
    /// Program and arguments; never empty. A name without `/` is looked for in `PATH`.
    pub argv: Vec<String>,
    /// The line's own user, or `script_user`; keepalived_script, else root, when absent.
    pub user: Option<RunAs>,
}

/// `user NAME [GROUP]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunAs {
    /// User, by name or number.
    pub user: String,
    /// Group; the user's own when absent.
    pub group: Option<String>,
}

/// As what it points to.
fn shared<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
    value.serialize(to)
}

/// As a list of what they point to.
fn all_shared<T: Serialize, S: Serializer>(values: &[Arc<T>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Arc::as_ref))
}

impl Config {
    /// The scripts that an instance tracks, in the order of the file.
    pub fn tracked_scripts(&self) -> Vec<VrrpScript> {
        let tracks = || self.vrrp_instances.iter().flat_map(|i| &i.tracks);
        let is_tracked = |script: &&VrrpScript| {
            tracks().any(|track| matches!(&track.what, Tracked::Script(n) if *n == script.name))
        };
        let tracked = self.vrrp_scripts.iter().filter(is_tracked);
        tracked.cloned().collect()
    }

    /// Addresses of all real servers and sorry servers.
    pub fn server_addresses(&self) -> BTreeSet<IpAddr> {
        let services = || self.virtual_servers.iter();
        let servers = services().flat_map(|vs| &vs.real_servers);
        let sorry = services().filter_map(|vs| vs.sorry_server.as_ref());
        let addrs = servers.map(|rs| rs.addr).chain(sorry.map(|s| s.addr));
        addrs.map(|addr| addr.ip()).collect()
    }
}

impl VrrpInstance {
    /// All addresses that a MASTER holds, those of the adverts first.
    pub fn addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.vips.iter().chain(&self.excluded)
    }

    /// Interface that `vip` goes to.
    ///
    /// KEEPALIVED: addresses of the instance's family that name no interface go to its virtual MAC
    /// interface.
    pub fn device_of<'a>(&'a self, vip: &'a VirtualAddress) -> &'a str {
        let fits = Family::of(vip.addr) == self.family;
        let vmac = self.vmac.as_ref().filter(|_| fits);
        let own = vmac.map_or(self.interface.as_str(), |vmac| vmac.name.as_str());
        vip.dev.as_deref().unwrap_or(own)
    }

    /// Interface whose frames bring packets for `vip`: beneath a virtual MAC interface its base.
    pub fn base_of<'a>(&'a self, vip: &'a VirtualAddress) -> &'a str {
        let device = self.device_of(vip);
        let is_own = self.vmac.as_ref().is_some_and(|vmac| vmac.name == device);
        if is_own { &self.interface } else { device }
    }
}
