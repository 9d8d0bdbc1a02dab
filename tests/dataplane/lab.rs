// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small world to send frames into, run by two executors at once: the pipeline on the host and
//! the loaded program under BPF_PROG_TEST_RUN. Whatever a case does is done to both, and both must
//! agree.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, ServiceId};
use lb_agent::dataplane::plan::{NextHopRow, Op, Plan};
use lb_agent::dataplane::{Dataplane, DataplaneError, LoadOptions, TrafficCounts};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::abi::{Link, SETTING_ANY_PORT};
use lb_common::verdict::{Fate, Verdict};
use lb_common::wire::Mac;

use crate::frames::DIRECTOR_MAC;
use crate::host::{HostTables, hash_key};

/// The interface that BPF_PROG_TEST_RUN pretends frames came in by: loopback.
pub(crate) const INGRESS: u32 = 1;

/// Another interface of the director.
pub(crate) const OTHER: u32 = 77;
pub(crate) const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd2];

pub(crate) const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 80);

/// Real server `n`.
pub(crate) fn server(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, n), 80)
}

/// The MAC of real server `n`.
pub(crate) fn server_mac(n: u8) -> [u8; 6] {
    [2, 0, 0, 0, 1, n]
}

/// The last number of an IPv4 address.
pub(crate) fn last_octet(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(addr) => addr.octets()[3],
        IpAddr::V6(addr) => addr.octets()[15],
    }
}

pub(crate) fn service(protocol: Protocol) -> ServiceId {
    ServiceId {
        addr: IpAddr::V4(*VIP.ip()),
        port: VIP.port(),
        protocol,
    }
}

/// Both executors.
pub(crate) struct Lab {
    pub(crate) host: HostTables,
    host_plan: Plan,
    kernel: Option<Dataplane>,
    now: Duration,
    wanted: Desired,
}

impl Lab {
    /// A director with `DIRECTOR_MAC` and a service at `VIP` with these servers and weights.
    pub(crate) fn with_servers(protocol: Protocol, servers: &[(u8, u32)]) -> Self {
        Self::new(load_kernel(), protocol, servers)
    }

    /// The same without the kernel, for rules that need many packets.
    pub(crate) fn on_the_host(protocol: Protocol, servers: &[(u8, u32)]) -> Self {
        Self::new(None, protocol, servers)
    }

    /// The same with any services.
    pub(crate) fn with_services(services: Vec<DesiredService>) -> Self {
        Self::serving(load_kernel(), services)
    }

    /// The same in a time that stands still on both sides, so that they agree on every packet
    /// however long it takes.
    pub(crate) fn in_frozen_time(services: Vec<DesiredService>) -> Self {
        Self::serving(load_kernel_with(true), services)
    }

    /// The same without the kernel.
    #[allow(dead_code, reason = "only for the fuzzer, which shares this file")]
    pub(crate) fn serving_on_the_host(services: Vec<DesiredService>) -> Self {
        Self::serving(None, services)
    }

    fn serving(kernel: Option<Dataplane>, services: Vec<DesiredService>) -> Self {
        let mut lab = Self::bare(kernel);
        lab.wanted = Desired { services };
        lab.apply(&lab.wanted.clone());
        lab.route_directly();
        lab
    }

    fn new(kernel: Option<Dataplane>, protocol: Protocol, servers: &[(u8, u32)]) -> Self {
        let mut lab = Self::bare(kernel);
        lab.set_servers(protocol, servers);
        lab.route_directly();
        lab
    }

    fn bare(kernel: Option<Dataplane>) -> Self {
        let mut lab = Self {
            host: HostTables::default(),
            host_plan: Plan::default(),
            kernel,
            now: Duration::ZERO,
            wanted: Desired::default(),
        };
        lab.know_link(INGRESS, DIRECTOR_MAC);
        lab.know_link(OTHER, OTHER_MAC);
        lab
    }

    /// Active and inactive connections of all servers, as both executors count them.
    pub(crate) fn counted(&self) -> (u32, u32) {
        let mut sum = (0, 0);
        for (service, _) in self.host_plan.services() {
            for (_, dest) in self.host_plan.servers(service) {
                let (active, inactive) = self.host.counted(dest);
                sum = (sum.0 + active, sum.1 + inactive);
            }
        }
        if let Some(kernel) = &self.kernel {
            let stats = kernel.stats().unwrap();
            let servers = stats.services.iter().flat_map(|service| &service.servers);
            let counts = servers.fold((0, 0), |(active, inactive), server| {
                (
                    active + server.conns.active,
                    inactive + server.conns.inactive,
                )
            });
            assert_eq!(counts, (sum.0.into(), sum.1.into()));
        }
        sum
    }

    pub(crate) fn route_directly(&mut self) {
        self.route(|addr| {
            let n = last_octet(addr);
            Some(NextHopRow {
                ifindex: INGRESS,
                mac: Some(server_mac(n)),
                from: DIRECTOR_MAC,
                ..NextHopRow::default()
            })
        });
    }

    /// The program in the kernel, where this process may load it.
    pub(crate) fn kernel(&self) -> Option<&Dataplane> {
        self.kernel.as_ref()
    }

    /// The same, to run it alone.
    pub(crate) fn kernel_mut(&mut self) -> Option<&mut Dataplane> {
        self.kernel.as_mut()
    }

    fn know_link(&mut self, ifindex: u32, mac: [u8; 6]) {
        let row = Link {
            mac: Mac::new(mac),
            known: 1,
            zero: 0,
        };
        self.host.perform(&Op::PutLink { ifindex, row });
        if let Some(kernel) = &mut self.kernel {
            kernel.know_link("test", ifindex, mac).unwrap();
        }
    }

    /// Replaces the server list of the service at `VIP`, the only one.
    pub(crate) fn set_servers(&mut self, protocol: Protocol, servers: &[(u8, u32)]) {
        self.wanted.services.clear();
        self.add_servers(protocol, servers);
    }

    /// Adds a service at `VIP`.
    pub(crate) fn add_servers(&mut self, protocol: Protocol, servers: &[(u8, u32)]) {
        let servers = servers
            .iter()
            .map(|(n, weight)| DesiredServer::new(server(*n).into(), ForwardMethod::Dr, *weight))
            .collect();
        let service = DesiredService::new(service(protocol), Scheduler::Wrr, servers);
        self.wanted.services.push(service);
        self.apply(&self.wanted.clone());
    }

    pub(crate) fn apply(&mut self, wanted: &Desired) {
        self.now += Duration::from_secs(2);
        for op in self.host_plan.apply(wanted, self.now).unwrap() {
            self.host.perform(&op);
        }
        if self.host_plan.any_port() {
            self.host.settings.flags |= SETTING_ANY_PORT;
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.apply(wanted, self.now).unwrap();
        }
    }

    pub(crate) fn route(&mut self, lookup: impl Fn(IpAddr) -> Option<NextHopRow>) {
        for op in self.host_plan.route(&lookup) {
            self.host.perform(&op);
        }
        if let Some(kernel) = &mut self.kernel {
            kernel.route(lookup).unwrap();
        }
    }

    /// Sends a frame; both executors must come to the same verdict and the same frame.
    pub(crate) fn send(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let (verdict, after) = self.host.run(frame, INGRESS);
        if let Some(kernel) = &mut self.kernel
            && frame.len() >= MIN_TEST_RUN
        {
            let before = kernel.stats().unwrap().verdicts;
            let (code, kernel_frame) = kernel.test_run(frame).unwrap();
            let counted = kernel.stats().unwrap().verdicts;
            let seen: Vec<_> = counted
                .iter()
                .filter(|(name, n)| before[*name] != **n)
                .collect();
            assert_eq!(
                seen,
                [(&verdict.name(), &(before[verdict.name()] + 1))],
                "one verdict, the host's"
            );
            assert_eq!(code, xdp_code(verdict), "XDP code of {verdict:?}");
            assert_eq!(kernel_frame, after, "frame after {verdict:?}");
        }
        (verdict, after)
    }

    /// Sends a frame to the kernel alone, which must do as the host did; the error says what it did
    /// else. `false` where it cannot be sent. Counters are compared by the caller, many frames at
    /// a time.
    pub(crate) fn in_kernel(
        &mut self,
        frame: &[u8],
        verdict: Verdict,
        after: &[u8],
    ) -> Result<bool, String> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(false);
        };
        if frame.len() < MIN_TEST_RUN {
            return Ok(false);
        }
        let (code, kernel_frame) = kernel.test_run(frame).map_err(|err| err.to_string())?;
        if code != xdp_code(verdict) {
            return Err(format!("XDP code {code} in the kernel"));
        }
        if kernel_frame != after {
            return Err(format!("{kernel_frame:02x?} in the kernel"));
        }
        Ok(true)
    }

    /// Verdicts that the kernel has counted, without those that it never gave.
    pub(crate) fn verdicts(&self) -> Option<BTreeMap<&'static str, u64>> {
        let mut verdicts = self.kernel.as_ref()?.stats().unwrap().verdicts;
        verdicts.retain(|_, count| *count > 0);
        Some(verdicts)
    }

    /// Connections and traffic of all servers are the same on both.
    pub(crate) fn assert_same_counters(&self) {
        self.counted();
        let Some(kernel) = &self.kernel else { return };
        for service in kernel.stats().unwrap().services {
            for (addr, dest) in self.host_plan.servers(service.service) {
                let on_host = self.host.dest_traffic.borrow().get(&dest).copied();
                let mut in_kernel = service.servers.iter().filter(|s| s.server == addr);
                assert_eq!(
                    in_kernel.next().map(|server| server.counts),
                    Some(on_host.unwrap_or_default().into()),
                    "{:?} {addr}",
                    service.service
                );
            }
        }
    }

    /// Sends a frame that must be forwarded; the number of the server it went to.
    pub(crate) fn forward(&mut self, frame: &[u8]) -> u8 {
        let (verdict, after) = self.send(frame);
        assert_eq!(verdict, Verdict::Transmit);
        after[5]
    }

    /// Counters of the service at `VIP` and of its servers, from both executors.
    pub(crate) fn traffic(
        &self,
        protocol: Protocol,
    ) -> (TrafficCounts, BTreeMap<u8, TrafficCounts>) {
        let id = service(protocol);
        let host_servers: BTreeMap<u8, TrafficCounts> = self
            .host_plan
            .servers(id)
            .map(|(server, dest)| {
                let counts = self
                    .host
                    .dest_traffic
                    .borrow()
                    .get(&dest)
                    .copied()
                    .unwrap_or_default();
                (last_octet(server.ip()), counts.into())
            })
            .collect();
        let mut service_counts = TrafficCounts::default();
        for counts in host_servers.values() {
            service_counts += *counts;
        }
        if let Some(kernel) = &self.kernel {
            let stats = kernel.stats().unwrap();
            let stats = stats.services.iter().find(|s| s.service == id).unwrap();
            let servers: BTreeMap<_, _> = stats
                .servers
                .iter()
                .map(|s| (last_octet(s.server.ip()), s.counts))
                .collect();
            assert_eq!(
                (stats.counts, servers),
                (service_counts, host_servers.clone())
            );
        }
        (service_counts, host_servers)
    }
}

/// BPF_PROG_TEST_RUN refuses frames without a whole Ethernet header.
const MIN_TEST_RUN: usize = 14;

fn xdp_code(verdict: Verdict) -> u32 {
    match (verdict, verdict.fate()) {
        (Verdict::Redirect, _) => 4,
        (_, Fate::Forward) => 3,
        (_, Fate::Pass) => 2,
        (_, Fate::Drop) => 1,
    }
}

/// The program in the kernel; `None`, and said so, where it cannot be.
pub(crate) fn load_kernel() -> Option<Dataplane> {
    load_kernel_with(false)
}

fn load_kernel_with(frozen_time: bool) -> Option<Dataplane> {
    match Dataplane::load(&LoadOptions {
        max_conns: 4096,
        hash_key: Some(hash_key()),
        frozen_time,
        ..LoadOptions::default()
    }) {
        Ok(kernel) => Some(kernel),
        Err(DataplaneError::NoObject) => {
            eprintln!(
                "skipped (kernel half): no packet program in this build (run: cargo xtask test)"
            );
            None
        }
        Err(err) if !nix::unistd::geteuid().is_root() => {
            eprintln!("skipped (kernel half): needs root (run: cargo xtask test): {err}");
            None
        }
        Err(err) => panic!("{err}: {err:?}"),
    }
}
