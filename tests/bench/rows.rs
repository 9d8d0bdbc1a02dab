// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of `bench packet`: what is configured, which packets are sent, what becomes of them.

use lb_common::abi::DRIVE_CHUNK;
use lb_common::verdict::Verdict;

use crate::driver::{Order, Program};
use crate::world::{Choice, Method, Scene};

/// Flows that each table holds during the rows of established flows.
pub(crate) const FLOWS: u32 = 1 << 20;
/// New flows a round while the table is to stay about three quarters full.
const FEW: u32 = 3 * DRIVE_CHUNK + 1;

/// What all rows are compared with.
pub(crate) const REFERENCE: &str = "MAC swap";

/// TCP flags byte.
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;

/// One kind of packet.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) scene: Scene,
    pub(crate) program: Program,
    pub(crate) flags: u8,
    pub(crate) to_service: bool,
    pub(crate) order: Order,
    pub(crate) flows: u32,
    pub(crate) packets: u32,
    /// Verdict of every packet; `None` for the programs of comparison.
    pub(crate) verdict: Option<Verdict>,
    /// Connections opened by each packet.
    pub(crate) opens: u64,
    pub(crate) ns: Vec<f64>,
}

fn services(services: u32) -> Scene {
    Scene {
        services,
        busy: services,
        ..Scene::default()
    }
}

fn method(method: Method) -> Scene {
    Scene {
        method,
        ..Scene::default()
    }
}

fn ipv6() -> Scene {
    Scene {
        ipv6: true,
        ..Scene::default()
    }
}

fn wlc(servers: u16) -> Scene {
    Scene {
        choice: Choice::Wlc,
        servers,
        ..Scene::default()
    }
}

/// The programs of comparison, established flows, and packets for somebody else: none of them
/// changes what the table holds.
pub(crate) fn steady(packets: u32) -> Vec<Row> {
    let row = |name, program, verdict, flows| Row {
        name,
        scene: Scene::default(),
        program,
        flags: ACK,
        to_service: true,
        order: Order::Random,
        flows,
        packets,
        verdict,
        opens: 0,
        ns: Vec::new(),
    };
    let hit = |name, scene, flows| Row {
        scene,
        ..row(name, Program::Xlvs, Some(Verdict::Transmit), flows)
    };
    let stranger = |name, flows| Row {
        to_service: false,
        flags: SYN,
        ..row(name, Program::Xlvs, Some(Verdict::PassNoService), flows)
    };
    let plain = Scene::default();
    let one = Scene {
        busy: 1,
        ..services(10_000)
    };
    vec![
        row("XDP_TX at once", Program::Transmit, None, 1),
        row(REFERENCE, Program::SwapMacs, None, 1),
        row(
            "MAC swap and a random cache line",
            Program::TouchLine,
            None,
            FLOWS,
        ),
        hit("established, 1 flow", plain, 1),
        hit("established, 10 k flows", plain, 10_000),
        hit("established, 1 M flows", plain, FLOWS),
        hit(
            "established, 10 k flows, 1 k services",
            services(1_000),
            10_000,
        ),
        hit(
            "established, 1 M flows, 1 k services",
            services(1_000),
            FLOWS,
        ),
        hit(
            "established, 10 k flows, 10 k services",
            services(10_000),
            10_000,
        ),
        hit(
            "established, 1 M flows, 10 k services",
            services(10_000),
            FLOWS,
        ),
        hit("established, 10 k flows, one of 10 k services", one, 10_000),
        hit("established, 10 k flows, NAT", method(Method::Nat), 10_000),
        hit("established, 10 k flows, TUN", method(Method::Tun), 10_000),
        hit("established, 10 k flows, IPv6", ipv6(), 10_000),
        stranger("not our service", 1),
        stranger("not our service, 1 M flows", FLOWS),
    ]
}

/// New connections into a table three quarters full.
pub(crate) fn fresh() -> Vec<Row> {
    let plain = Scene::default();
    vec![
        new("new flow each packet, table 3/4 full", plain, FEW),
        new("new flow each packet, 1 k services", services(1_000), FEW),
        new("new flow each packet, 10 k services", services(10_000), FEW),
        new("new flow each packet, NAT", method(Method::Nat), FEW),
        new("new flow each packet, TUN", method(Method::Tun), FEW),
        new("new flow each packet, IPv6", ipv6(), FEW),
        new("new flow each packet, wlc of 4", wlc(4), FEW),
        new("new flow each packet, wlc of 256", wlc(256), FEW),
    ]
}

/// More new connections than a table can hold.
pub(crate) fn flood(packets: u32) -> Vec<Row> {
    vec![new(
        "new flow each packet, flood",
        Scene::default(),
        packets,
    )]
}

fn new(name: &'static str, scene: Scene, packets: u32) -> Row {
    Row {
        name,
        scene,
        program: Program::Xlvs,
        flags: SYN,
        to_service: true,
        order: Order::InOrder,
        flows: u32::MAX,
        packets,
        verdict: Some(Verdict::Transmit),
        opens: 1,
        ns: Vec::new(),
    }
}
