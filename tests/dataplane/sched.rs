// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every scheduler chooses in the kernel what it chooses on the host. (That this is what IPVS
//! chooses is the test of `tests/ipvs`.)

use std::time::Instant;

use lb_agent::config::model::{ForwardMethod, Protocol, Scheduler, SchedulerFlags};
use lb_agent::health::{Desired, DesiredServer, DesiredService};
use lb_common::verdict::Verdict;

use crate::frames::Segment;
use crate::lab::{Lab, VIP, server, service};

/// Connections of one case.
const CONNECTIONS: u16 = 40;

/// A service with servers given as number, weight and upper threshold.
fn desired(
    scheduler: Scheduler,
    flags: SchedulerFlags,
    servers: impl IntoIterator<Item = (u8, u32, u32)>,
) -> Desired {
    let servers = servers
        .into_iter()
        .map(|(n, weight, upper)| DesiredServer {
            upper_threshold: upper,
            ..DesiredServer::new(server(n).into(), ForwardMethod::Dr, weight)
        })
        .collect();
    let service = DesiredService {
        flags,
        ..DesiredService::new(service(Protocol::Tcp), scheduler, servers)
    };
    Desired {
        services: vec![service],
    }
}

/// Opens connections, closes every third, and looks that host and kernel agree on each.
fn play(lab: &mut Lab, first_port: u16) {
    for port in first_port..first_port + CONNECTIONS {
        let (verdict, _) = lab.send(&Segment::tcp(port, VIP, "S").frame());
        if verdict != Verdict::Transmit {
            assert_eq!(verdict, Verdict::PassNoDest);
            continue;
        }
        assert_eq!(
            lab.send(&Segment::tcp(port, VIP, "A").frame()).0,
            Verdict::Transmit
        );
        if port % 3 == 0 {
            assert_eq!(
                lab.send(&Segment::tcp(port, VIP, "FA").frame()).0,
                Verdict::Transmit
            );
        }
    }
}

#[test]
fn kernel_chooses_as_the_host() {
    use Scheduler::{Dh, Fo, Lblc, Lblcr, Lc, Mh, Nq, Ovf, Rr, Sed, Sh, Wlc, Wrr};
    let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
    lab.route_directly();
    let mut port = 10_000;
    for scheduler in [Rr, Wrr, Lc, Wlc, Sed, Nq, Fo, Ovf, Sh, Dh, Mh, Lblc, Lblcr] {
        let hashes = matches!(scheduler, Sh | Mh);
        let flags = SchedulerFlags {
            port: hashes,
            fallback: hashes,
        };
        // The same servers again for the next scheduler: old connections count.
        for servers in [
            [(1, 3, 0), (2, 2, 0), (3, 1, 0), (4, 0, 0)],
            [(1, 3, 0), (2, 0, 0), (3, 5, 0), (4, 1, 0)],
            [(1, 3, 9), (2, 4, 5), (3, 5, 7), (4, 1, 3)],
        ] {
            lab.apply(&desired(scheduler, flags, servers));
            lab.route_directly();
            play(&mut lab, port);
            port += CONNECTIONS;
        }
    }
}

/// Not a test of anything: prints what a choice among so many servers costs in the kernel, one
/// BPF_PROG_TEST_RUN included.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_choice() {
    const RUNS: u16 = 10_000;
    for (scheduler, name) in [
        (Scheduler::Rr, "rr"),
        (Scheduler::Wrr, "wrr"),
        (Scheduler::Wlc, "wlc"),
        (Scheduler::Lblcr, "lblcr"),
        (Scheduler::Mh, "mh"),
    ] {
        for servers in [4, 255u8] {
            let wanted = desired(
                scheduler,
                SchedulerFlags::default(),
                (1..=servers).map(|n| (n, 1 + u32::from(n % 5), 0)),
            );
            let mut lab = Lab::with_servers(Protocol::Tcp, &[(1, 1)]);
            lab.apply(&wanted);
            lab.route_directly();
            let Some(best) = (0..3)
                .map(|round| time(&mut lab, round, RUNS))
                .min()
                .flatten()
            else {
                return;
            };
            println!("{name} {servers}: {best} ns");
        }
    }
}

fn time(lab: &mut Lab, round: u8, runs: u16) -> Option<u128> {
    let frames: Vec<_> = (0..runs)
        .map(|n| {
            let mut segment = Segment::tcp(n + 1, VIP, "S");
            segment.from.set_ip([172, 16, round, 1].into());
            segment.frame()
        })
        .collect();
    let mut times = Vec::with_capacity(frames.len());
    for frame in &frames {
        let start = Instant::now();
        lab.kernel_mut()?.test_run(frame).unwrap();
        times.push(start.elapsed().as_nanos());
    }
    // Other work of the machine shows in the slower ones.
    times.sort_unstable();
    times.get(times.len() / 4).copied()
}
