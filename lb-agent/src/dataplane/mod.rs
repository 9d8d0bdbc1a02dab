// SPDX-License-Identifier: MIT OR Apache-2.0
//! The agent's side of the packet program: load it, attach it, keep its maps as wanted, read its
//! counters.
//!
//! ```text
//! config + health ─▸ Desired ─▸ plan (pure) ─▸ [Op…] ─▸ maps ─▸ packet program
//! netlink next hops ─▸ plan ─▸ [Op…] ─▸ maps
//! packet program ─▸ maps ─▸ stats ─▸ status
//! ```

mod attach;
mod clock;
mod conns;
pub mod follow;
mod live;
mod load;
mod loads;
mod mapped;
mod maps;
mod neighbour;
mod pins;
pub mod plan;
pub mod rates;
mod settings;
mod stats;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use lb_common::abi::{
    Conn6Line, ConnLine, FollowEvent, LINK_KNOWN, LINK_VIRTUAL, STATE_TIMEOUT_BITS, STEP_PROGRAMS,
    Settings, mac_key, maps as names,
};
use lb_common::hash::HashKey;
use lb_common::verdict::Fate;
use lb_common::wire::{EthWords, Mac};
use serde::Serialize;
use thiserror::Error;

pub use attach::{Attachment, Mode};
pub use conns::Connection;
pub use follow::{Followed, Following, Wanted};
pub use load::LoadOptions;
pub use loads::ConnCounts;
pub use neighbour::Neighbour;
pub use pins::Pins;
pub use stats::{ServerTraffic, ServiceTraffic, Stats, TrafficCounts};
pub use trace::{Answer, Question, TracedConnection};

use crate::config::model::Global;
use crate::health::Desired;
use clock::Clock;
use conns::{DestView, View};
use plan::{NextHopRow, Plan, PlanError};

/// What can go wrong between the agent and the kernel's BPF side.
#[derive(Debug, Error)]
pub enum DataplaneError {
    /// The binary was built without the packet program.
    #[error(
        "cannot load the packet program: this binary was built without it (build with `cargo xtask build`)"
    )]
    NoObject,
    /// The object could not be loaded into the kernel.
    #[error("cannot load the packet program: {}", innermost(.0))]
    Load(#[from] aya::EbpfError),
    /// The kernel's verifier or program loader refused it.
    #[error("cannot load the packet program: {0}")]
    Program(#[from] aya::programs::ProgramError),
    /// The object lacks a program or map that the agent expects.
    #[error(
        "cannot use the packet program: it has no {0} (agent and object are of different builds)"
    )]
    Missing(&'static str),
    /// A map could not be read or written.
    #[error("cannot access map {map}: {source}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// The kernel's answer.
        source: aya::maps::MapError,
    },
    /// The connection table could not be prepared or mapped.
    #[error("cannot set up the connection table: {0}")]
    Conns(std::io::Error),
    /// The program could not be attached in any mode.
    #[error(
        "cannot attach the packet program to {interface}: native: {native}; generic: {generic}"
    )]
    Attach {
        /// Interface.
        interface: String,
        /// Why native mode failed.
        native: String,
        /// Why generic mode failed.
        generic: String,
    },
    /// Somebody else's program is attached there.
    #[error("cannot attach the packet program to {interface}: {neighbour}")]
    Occupied {
        /// Interface.
        interface: String,
        /// Whose program it is.
        neighbour: Neighbour,
    },
    /// What the maps hold could not be written down for a successor.
    #[error("cannot write {}: {cause}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// An attachment could not be turned into one that lasts.
    #[error("cannot attach the packet program: {}", innermost(.0))]
    Link(#[from] aya::programs::links::LinkError),
    /// The programs that tell followers share the maps by their pins.
    #[error("cannot follow packets: the maps are not pinned")]
    NotPinned,
    /// The wanted state does not fit the maps.
    #[error("cannot plan the data plane: {0}")]
    Plan(#[from] PlanError),
    /// An interface index beyond the array that the program looks it up in.
    #[error(
        "cannot use interface {interface}: its index {ifindex} is not below {}",
        lb_common::abi::MAX_LINKS
    )]
    LinkIndex {
        /// Interface.
        interface: String,
        /// Its index.
        ifindex: u32,
    },
}

/// The kernel's word, without the layers around it that repeat one another.
fn innermost(mut err: &dyn std::error::Error) -> String {
    while let Some(source) = err.source() {
        err = source;
    }
    err.to_string()
}

/// What the verifier said of the program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProgramInfo {
    /// Instructions the verifier walked through (`verified_insns`, kernel 5.16).
    pub verified_instructions: Option<u32>,
    /// Instructions after translation, bytes.
    pub translated_bytes: Option<u32>,
}

/// The loaded packet program, its maps and attachments. Dropping it detaches and unloads, unless they
/// are pinned: then [`Dataplane::close`] does.
pub struct Dataplane {
    ebpf: aya::Ebpf,
    /// The programs that are attached instead while somebody follows packets.
    following: Option<Following>,
    /// Keeps the programs that the packet program goes on in.
    _steps: aya::maps::ProgramArray<aya::maps::MapData>,
    maps: maps::Maps,
    conns: conns::Conns,
    clock: Clock,
    global: Global,
    settings: Settings,
    plan: Plan,
    attachments: attach::Attachments,
    info: ProgramInfo,
    /// Key of the flow hash.
    key: HashKey,
    /// Interfaces that the program knows.
    known_links: BTreeMap<u32, String>,
    /// Where what this agent does is kept for its successor.
    pins: Option<(Pins, pins::Header)>,
    /// The maps are those of an earlier agent.
    kept: bool,
    /// Next hops that an earlier agent knew, until this one has learnt them itself.
    inherited: BTreeMap<IpAddr, NextHopRow>,
    inherited_until: Instant,
}

/// How long an earlier agent's knowledge of next hops stands in for this one's.
const INHERITANCE: Duration = Duration::from_secs(10);

impl Dataplane {
    /// Loads and verifies the program; attaches nothing.
    pub fn load(options: &LoadOptions) -> Result<Self, DataplaneError> {
        let clock = Clock::of_this_kernel()?;
        let load::Loaded {
            mut ebpf,
            steps,
            info,
            key,
            pins,
            kept,
        } = load::load(options, clock)?;
        let maps = maps::Maps::open(&mut ebpf)?;
        let conns = conns::Conns::new(
            maps::mapped(&mut ebpf, names::CONNS, size_of::<ConnLine>())?,
            maps::mapped(&mut ebpf, names::CONNS6, size_of::<Conn6Line>())?,
            maps.loads.clone(),
            clock,
        );
        let global = Global::default();
        let settings = settings::row(&global, false, clock, load::now(&ebpf)?);
        let mut attachments = attach::Attachments::default();
        if let Some((pins, _)) = &pins {
            attachments.pin_by(pins.clone());
        }
        let mut dataplane = Self {
            ebpf,
            following: None,
            _steps: steps,
            maps,
            conns,
            clock,
            global,
            settings,
            plan: Plan::default(),
            attachments,
            info,
            key,
            known_links: BTreeMap::new(),
            pins,
            kept: kept.is_some(),
            inherited: BTreeMap::new(),
            inherited_until: Instant::now() + INHERITANCE,
        };
        match kept {
            Some((plan, ops)) => dataplane.go_on(plan, &ops)?,
            None => {
                dataplane
                    .maps
                    .perform(&[plan::Op::PutSettings { row: settings }])?;
                dataplane.keep(&Plan::default(), &[])?;
                dataplane.kept_done()?;
            }
        }
        Ok(dataplane)
    }

    /// Takes over what an earlier agent left in the maps; `ops` is what it was about to do.
    fn go_on(&mut self, mut plan: Plan, ops: &[plan::Op]) -> Result<(), DataplaneError> {
        self.maps.perform(ops)?;
        let rows = |id| Some((self.maps.dest(id).ok()?, self.maps.tunnel(id).ok()?));
        plan.adopt(rows);
        self.inherited = plan.next_hops();
        self.plan = plan;
        // Everything else in it stands until this agent's own configuration is known.
        let heartbeat = load::now(&self.ebpf)?;
        self.settings = Settings {
            heartbeat,
            ..self.maps.settings()
        };
        let row = self.settings;
        self.maps.perform(&[plan::Op::PutSettings { row }])?;
        self.keep(&self.plan, &[])?;
        self.kept_done()
    }

    /// Writes down what is about to be done to the maps.
    fn keep(&self, plan: &Plan, ops: &[plan::Op]) -> Result<(), DataplaneError> {
        match &self.pins {
            Some((pins, header)) => pins.begin(header, plan, ops),
            None => Ok(()),
        }
    }

    fn kept_done(&self) -> Result<(), DataplaneError> {
        self.pins.as_ref().map_or(Ok(()), |(pins, _)| pins.done())
    }

    /// True if the maps are those of an earlier agent, with its services and connections.
    pub fn goes_on(&self) -> bool {
        self.kept
    }

    /// Puts the program in the place of the one that an earlier agent left attached. Call it once
    /// the maps are filled. The interfaces.
    pub fn adopt_links(&mut self) -> Result<BTreeSet<u32>, DataplaneError> {
        let adopted = self.attachments.adopt(load::program(&mut self.ebpf)?);
        // Those that a dead agent's packets went on in while they were followed.
        follow::forget(&mut self.ebpf);
        if let Some((pins, header)) = &self.pins {
            pins.sweep(header);
        }
        Ok(adopted)
    }

    /// Detaches and unloads for good: nothing is left for a successor.
    pub fn close(mut self) {
        for attachment in self.attachments.list() {
            self.attachments.detach(attachment.ifindex);
        }
        if let Some((pins, _)) = &self.pins {
            pins.remove();
        }
    }

    /// Takes over what `global_defs` says of connections and timeouts.
    pub fn tune(&mut self, global: &Global) -> Result<(), DataplaneError> {
        self.global = global.clone();
        self.beat()
    }

    /// Gives a sign of life, for the watchdog.
    pub fn beat(&mut self) -> Result<(), DataplaneError> {
        let now = load::now(&self.ebpf)?;
        let row = settings::row(&self.global, self.plan.any_port(), self.clock, now);
        self.settings = row;
        self.maps.perform(&[plan::Op::PutSettings { row }])
    }

    /// What the verifier said.
    pub fn info(&self) -> ProgramInfo {
        self.info
    }

    /// What the verifier said of each program, by name.
    pub fn programs(&self) -> Result<Vec<(&'static str, ProgramInfo)>, DataplaneError> {
        let all = [names::PROGRAM].into_iter().chain(STEP_PROGRAMS);
        load::infos(&self.ebpf, all)
    }

    /// The packet program, for a program that tail-calls it (the benchmark's driver).
    pub fn program_fd(&self) -> Result<&aya::programs::ProgramFd, DataplaneError> {
        load::program_fd(&self.ebpf)
    }

    /// Brings services and servers to `desired`. Packets see each service's old server list or its
    /// new one. `now` is any monotonic time.
    pub fn apply(&mut self, desired: &Desired, now: Duration) -> Result<(), DataplaneError> {
        let mut next = self.plan.clone();
        let ops = next.apply(desired, now)?;
        if !ops.is_empty() {
            self.keep(&next, &ops)?;
            self.maps.perform(&ops)?;
            self.kept_done()?;
        }
        let any_port = next.any_port() != self.plan.any_port();
        self.plan = next;
        if any_port { self.beat() } else { Ok(()) }
    }

    /// Next hops that the rows of servers to come begin with.
    pub fn expect(&mut self, hops: BTreeMap<IpAddr, NextHopRow>) {
        self.plan.expect(hops);
    }

    /// Brings the next hops of all servers to what `lookup` knows of each address.
    pub fn route(
        &mut self,
        lookup: impl Fn(IpAddr) -> Option<NextHopRow>,
    ) -> Result<(), DataplaneError> {
        let known = |hop: &NextHopRow| hop.mac.is_some() || hop.local;
        if self.inherited_until <= Instant::now() {
            self.inherited.clear();
        }
        self.inherited
            .retain(|addr, _| !lookup(*addr).as_ref().is_some_and(known));
        let inherited = &self.inherited;
        let mut next = self.plan.clone();
        let ops = next.route(|addr| inherited.get(&addr).copied().or_else(|| lookup(addr)));
        self.maps.perform(&ops)?;
        self.plan = next;
        Ok(())
    }

    /// Makes an interface known to the program: frames to `mac` on it are ours.
    pub fn know_link(
        &mut self,
        interface: &str,
        ifindex: u32,
        mac: [u8; 6],
    ) -> Result<(), DataplaneError> {
        if ifindex >= lb_common::abi::MAX_LINKS {
            return Err(DataplaneError::LinkIndex {
                interface: interface.to_owned(),
                ifindex,
            });
        }
        let virtual_too = self.macs_of(ifindex).next().is_some();
        let row = lb_common::abi::Link {
            mac: Mac::new(mac),
            known: LINK_KNOWN | if virtual_too { LINK_VIRTUAL } else { 0 },
            zero: 0,
        };
        let name = nix::net::if_::if_indextoname(ifindex);
        let name = name.map_or_else(
            |_| interface.to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        self.known_links.insert(ifindex, name);
        self.maps.perform(&[plan::Op::PutLink { ifindex, row }])
    }

    /// From now on frames to exactly these virtual MAC addresses (`use_vmac`) are ours, too, on any
    /// of these interfaces. To be followed by [`Self::know_link`] of the interfaces.
    pub fn hold_macs(&mut self, wanted: &BTreeSet<(u32, [u8; 6])>) -> Result<(), DataplaneError> {
        let held: BTreeSet<u64> = self.maps.virtual_macs().collect();
        let wanted: BTreeSet<u64> = wanted.iter().map(|(at, mac)| key_of(*at, *mac)).collect();
        let new = wanted
            .difference(&held)
            .map(|key| plan::Op::PutMac { key: *key });
        let gone = held
            .difference(&wanted)
            .map(|key| plan::Op::RemoveMac { key: *key });
        let ops: Vec<_> = new.chain(gone).collect();
        self.maps.perform(&ops)
    }

    /// The keys of an interface's virtual MAC addresses.
    fn macs_of(&self, ifindex: u32) -> impl Iterator<Item = u64> {
        let at = key_of(ifindex, [0; 6]);
        self.maps
            .virtual_macs()
            .filter(move |key| key >> 48 == at >> 48)
    }

    /// Attaches the program to an interface, native mode first; nothing happens if it is attached
    /// already.
    pub fn attach(&mut self, interface: &str, ifindex: u32) -> Result<Mode, DataplaneError> {
        let program = match &mut self.following {
            Some(following) => following.program()?,
            None => load::program(&mut self.ebpf)?,
        };
        self.attachments.attach(program, interface, ifindex)
    }

    /// What it takes to load the programs that tell followers of packets.
    pub fn plan_following(&self) -> Result<follow::Plan, DataplaneError> {
        let (pins, header) = self.pins.as_ref().ok_or(DataplaneError::NotPinned)?;
        let places = pins.pinned_maps(header).map_err(DataplaneError::Conns)?;
        Ok(follow::Plan {
            header: header.clone(),
            places,
        })
    }

    /// Puts the programs that tell followers in the place of those that are attached.
    pub fn begin_following(&mut self, mut following: Following) -> Result<(), DataplaneError> {
        self.attachments.swap(following.program()?);
        self.following = Some(following);
        // Loading wrote the global data as it was when it began.
        self.maps.write_shared_anew()
    }

    /// The programs that tell followers, while they are attached.
    pub fn following(&mut self) -> Option<&mut Following> {
        self.following.as_mut()
    }

    /// Puts the plain programs back.
    pub fn end_following(&mut self) -> Result<(), DataplaneError> {
        if let Some(following) = self.following.take() {
            self.attachments.swap(load::program(&mut self.ebpf)?);
            following.end();
        }
        Ok(())
    }

    /// A followed packet in words. `boot` is the time of boot in seconds since 1970.
    pub fn describe_followed(&self, event: &FollowEvent, boot: f64) -> Followed {
        follow::describe(event, boot, |ifindex| {
            let known = self.known_links.get(&ifindex).cloned();
            known.unwrap_or_else(|| attach::name_of(ifindex))
        })
    }

    /// Detaches the program from an interface; nothing happens if it is not attached.
    pub fn detach(&mut self, ifindex: u32) {
        self.attachments.detach(ifindex);
    }

    /// Where the program is attached.
    pub fn attached(&self) -> Vec<Attachment> {
        self.attachments.list()
    }

    /// Counters since load, and the connections there are.
    pub fn stats(&self) -> Result<Stats, DataplaneError> {
        stats::read(&self.maps, &self.plan)
    }

    /// Frees the slots of connections that are past their time, in the next part of the tables. The
    /// packet program treats such a connection as absent, but it still counts for its server.
    pub fn expire(&mut self) -> Result<(), DataplaneError> {
        let view = self.view()?;
        self.conns.expire(&view);
        if self.settings.watchdog != 0 && view.now != self.settings.heartbeat {
            self.beat()?;
        }
        Ok(())
    }

    /// All connections and persistence templates, in no particular order; those whose real server
    /// is gone for good are left out. Connections may come and go while they are listed.
    pub fn conns(&self) -> Result<Vec<Connection>, DataplaneError> {
        let owners = self.plan.owners();
        let view = self.view()?;
        let describe = |raw: conns::RawConn| {
            let key = owners.get(&(raw.meta.dest, raw.meta.generation))?;
            Some(conns::describe(&raw, key, self.clock))
        };
        Ok(self.conns.scan(&view).filter_map(describe).collect())
    }

    fn view(&self) -> Result<View, DataplaneError> {
        let mut dests = Vec::new();
        for ((id, generation), key) in self.plan.owners() {
            let id = id as usize;
            if dests.len() <= id {
                dests.resize(id + 1, DestView::default());
            }
            let service = self.plan.service(key.service);
            dests[id] = DestView {
                generation,
                service: self.plan.number(key.service).unwrap_or(u32::MAX),
                persistence: service.and_then(|service| {
                    let timeout = service.persistence?.timeout;
                    Some((self.clock.ticks(timeout), plan::client_mask(service)))
                }),
            };
        }
        Ok(View {
            now: load::now(&self.ebpf)?,
            timeouts: self
                .settings
                .states
                .map(|row| row & ((1 << STATE_TIMEOUT_BITS) - 1)),
            dests,
        })
    }

    /// Runs the program once over `frame`, on the live maps but on no interface
    /// (BPF_PROG_TEST_RUN): the XDP code and the frame as the program left it. The frame counts as
    /// received on the loopback interface. At least 14 bytes, as the kernel demands.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>), DataplaneError> {
        load::test_run(&mut self.ebpf, frame)
    }

    /// Where a packet would go and why, by a dry run that changes nothing. `None` if the interface
    /// is not known to the program, or none is.
    pub fn trace(&self, question: &Question) -> Result<Option<Answer>, DataplaneError> {
        let attached = self.attached();
        let wanted = question.interface.as_deref();
        let named = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        let first = attached
            .iter()
            .map(|attachment| (attachment.ifindex, attachment.interface.as_str()))
            .chain(
                self.known_links
                    .iter()
                    .map(|(index, name)| (*index, name.as_str())),
            )
            .find(|(_, name)| named(name));
        let Some((ifindex, interface)) = first else {
            return Ok(None);
        };
        let of_flow = |conn: &Connection| {
            conn.protocol == question.protocol
                && ((conn.client, conn.virt) == (question.from, question.to)
                    || (conn.client, conn.server) == (question.to, question.from))
        };
        let connection = self.conns()?.into_iter().find(of_flow);
        let tables =
            live::LiveTables::new(&self.maps, &self.conns, self.key, load::now(&self.ebpf)?);
        let run = trace::run(&tables, question, ifindex);
        let owners = self.plan.owners();
        let owner = run
            .dest
            .and_then(|(id, dest)| owners.get(&(id as u16, dest.generation as u16)).copied());
        let asked = |port| crate::config::model::ServiceId {
            addr: question.to.ip(),
            port,
            protocol: question.protocol,
        };
        let service = owner.map(|owner| owner.service).or_else(|| {
            let candidates = [question.to.port(), 0].map(asked);
            candidates
                .into_iter()
                .find(|id| self.plan.number(*id).is_some())
        });
        let left = run.verdict.fate() == Fate::Forward;
        let mac = |at: std::ops::Range<usize>| {
            let bytes: [u8; 6] = run.frame.get(at)?.try_into().ok()?;
            Some(Mac::new(bytes).to_string())
        };
        Ok(Some(Answer {
            interface: interface.to_owned(),
            attached: attached
                .iter()
                .any(|attachment| attachment.ifindex == ifindex),
            service: service
                .map(|id| format!("{} {}", id.protocol, SocketAddr::new(id.addr, id.port))),
            connection: connection.map(|conn| TracedConnection {
                state: lb_common::state::name(conn.state).to_owned(),
                server: conn.server,
                remaining_seconds: conn.remaining.as_secs(),
            }),
            opens: run.opened,
            scheduled: run.picked,
            server: run.dest.map(|(_, dest)| trace::server(&dest)),
            method: run.method,
            out_interface: left.then(|| {
                let names = self.known_links.get(&run.out_ifindex).cloned();
                names.unwrap_or_else(|| format!("interface {}", run.out_ifindex))
            }),
            next_hop: left.then(|| mac(0..6)).flatten(),
            leaves_as: left.then(|| trace::ends(&run.frame)).flatten(),
            verdict: run.verdict.name().to_owned(),
            sentence: run.verdict.sentence().trim().to_owned(),
        }))
    }

    /// Addresses of masqueraded servers: the program must see their replies.
    pub fn masqueraded(&self) -> BTreeSet<IpAddr> {
        self.plan.masqueraded().collect()
    }

    /// Addresses of services.
    pub fn virtual_addresses(&self) -> BTreeSet<IpAddr> {
        self.plan.services().map(|(id, _)| id.addr).collect()
    }

    /// MAC address that a server's frames go to, as the program has it.
    pub fn next_hop(
        &self,
        service: crate::config::model::ServiceId,
        server: std::net::SocketAddr,
    ) -> Option<Mac> {
        self.plan.next_hop(service, server)
    }
}

/// Key of a virtual MAC address, see [`lb_common::abi::mac_key`].
fn key_of(ifindex: u32, mac: [u8; 6]) -> u64 {
    let mut eth = EthWords::zeroed();
    let [a, b, c, d, e, f] = mac;
    eth.dst_first = u32::from_ne_bytes([a, b, c, d]);
    eth.dst_last = u16::from_ne_bytes([e, f]);
    mac_key(ifindex, &eth)
}
