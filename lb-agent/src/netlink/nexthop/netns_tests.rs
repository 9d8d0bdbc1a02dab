// SPDX-License-Identifier: MIT OR Apache-2.0
//! `NextHops` against the kernel: two hosts as network namespaces, joined by a veth pair.
//!
//! ```text
//!   director ── hl0 10.77.0.1/24 ═════ hl1 10.77.0.2/24, 10.77.0.3/24, 10.77.9.9/32 ── server
//! ```
//!
//! Every test awaits a state with a deadline; none sleeps.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::super::neigh::{self, Freshness};
use super::super::watch::{self, Event, Topic, Watch};
use super::*;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3));
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 9, 9));
const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 2];
const NEW_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 0x22];
const DIRECTOR_MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

fn ip(args: &str) {
    let out = Command::new("ip").args(args.split_whitespace()).output();
    let out = out.expect("iproute2 is installed");
    assert!(
        out.status.success(),
        "ip {args}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Two namespaces; removed with their links when this goes, also by a panic.
struct Lab {
    director: String,
    server: String,
}

impl Lab {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = |role| format!("hl-{}-{n}{role}", std::process::id());
        let lab = Self {
            director: name('d'),
            server: name('s'),
        };
        let (d, s) = (&lab.director, &lab.server);
        ip(&format!("netns add {d}"));
        ip(&format!("netns add {s}"));
        ip(&format!(
            "-n {d} link add hl0 address 02:77:00:00:00:01 type veth \
             peer name hl1 address 02:77:00:00:00:02 netns {s}"
        ));
        lab.director("link set lo up");
        lab.director("addr add 10.77.0.1/24 dev hl0");
        lab.director("link set hl0 up");
        lab.server("addr add 10.77.0.2/24 dev hl1");
        lab.server("addr add 10.77.0.3/24 dev hl1");
        lab.server("link set hl1 up");
        lab
    }

    fn director(&self, args: &str) {
        ip(&format!("-n {} {args}", self.director));
    }

    fn server(&self, args: &str) {
        ip(&format!("-n {} {args}", self.server));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.director, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// Runs `test` on a thread of its own inside the director's namespace.
fn in_lab(test: impl AsyncFnOnce(&Lab, &mut NextHops) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root (run: sudo cargo xtask test)");
        return;
    }
    let thread = std::thread::spawn(move || {
        let lab = Lab::new();
        let path = format!("/run/netns/{}", lab.director);
        let namespace = std::fs::File::open(path).unwrap();
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut hops = NextHops::new().unwrap();
            test(&lab, &mut hops).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Waits until the state of `addr` is as wanted.
async fn until(
    hops: &mut NextHops,
    addr: IpAddr,
    what: &str,
    wanted: impl Fn(&NextHopState) -> bool,
) {
    let reached = async {
        while !hops.states().get(&addr).is_some_and(&wanted) {
            hops.changed().await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), reached)
        .await
        .is_err()
    {
        panic!(
            "{addr}: waited for: {what}; has: {:?}",
            hops.states().get(&addr)
        );
    }
}

async fn resolved(hops: &mut NextHops) {
    hops.set_targets(BTreeSet::from([SERVER]));
    until(hops, SERVER, "the server's MAC", |s| s.mac == Some(MAC)).await;
}

#[test]
fn server_on_the_link_is_resolved_by_arp() {
    in_lab(async |_, hops| {
        resolved(hops).await;
        let state = hops.states()[&SERVER];
        assert_eq!(state.link_mac, Some(DIRECTOR_MAC));
        assert_eq!((state.gateway, state.local), (None, false));
        assert_ne!(state.ifindex, 0);
    });
}

#[test]
fn own_address_is_local() {
    in_lab(async |_, hops| {
        let own = IpAddr::from([10, 77, 0, 1]);
        hops.set_targets(BTreeSet::from([own]));
        until(hops, own, "local", |s| s.local).await;
        assert_eq!(hops.states()[&own].mac, None);
    });
}

#[test]
fn address_that_becomes_ours_turns_local_and_back() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.director("addr add 10.77.0.2/32 dev lo");
        until(hops, SERVER, "local", |s| s.local).await;
        lab.director("addr del 10.77.0.2/32 dev lo");
        until(hops, SERVER, "the server again", |s| s.mac == Some(MAC)).await;
    });
}

#[test]
fn mac_that_changes_in_silence_is_found_by_suspicion() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.server("link set hl1 address 02:77:00:00:00:22");
        hops.suspect(SERVER);
        until(hops, SERVER, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
    });
}

#[test]
fn mac_that_is_announced_is_taken() {
    in_lab(async |lab, hops| {
        // The kernel takes no announcement within `locktime` of the last change.
        std::fs::write("/proc/sys/net/ipv4/neigh/hl0/locktime", "0").unwrap();
        ip(&format!(
            "netns exec {} sysctl -qw net.ipv4.conf.hl1.arp_notify=1",
            lab.server
        ));
        resolved(hops).await;
        lab.server("link set hl1 address 02:77:00:00:00:22");
        until(hops, SERVER, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
    });
}

#[test]
fn server_that_is_replaced_during_a_short_loss_of_carrier_is_found() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.server("link set hl1 down");
        lab.server("link set hl1 address 02:77:00:00:00:22");
        lab.server("link set hl1 up");
        until(hops, SERVER, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
    });
}

#[test]
fn entry_that_another_program_changes_is_taken() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.director("neigh replace 10.77.0.2 lladdr 02:77:00:00:00:22 dev hl0 nud permanent");
        until(hops, SERVER, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
    });
}

#[test]
fn flushed_table_costs_no_address() {
    in_lab(async |lab, hops| {
        hops.set_targets(BTreeSet::from([SERVER, SECOND]));
        for addr in [SERVER, SECOND] {
            until(hops, addr, "the server's MAC", |s| s.mac == Some(MAC)).await;
        }
        let ifindex = hops.states()[&SERVER].ifindex;
        lab.director("neigh flush dev hl0");
        until_fresh(ifindex).await;
        // A change that comes after the flush was dealt with.
        lab.director("neigh replace 10.77.0.3 lladdr 02:77:00:00:00:22 dev hl0 nud permanent");
        while hops.states()[&SECOND].mac != Some(NEW_MAC) {
            let changes = hops.changed().await;
            assert!(!changes.contains_key(&SERVER), "{changes:?}");
            assert!(hops.states()[&SECOND].mac.is_some());
        }
    });
}

/// Waits until the kernel holds the server's entry for reachable.
async fn until_fresh(ifindex: u32) {
    let mut watch = Watch::open(&[Topic::Neighbours]).unwrap();
    let handle = watch::connect().unwrap();
    let fresh = async {
        loop {
            let entry = neigh::entry(&handle, ifindex, SERVER).await.unwrap();
            if entry.is_some_and(|e| e.freshness == Freshness::Fresh) {
                break;
            }
            watch.next().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), fresh).await;
    assert!(in_time.is_ok(), "nobody had the entry resolved");
}

#[test]
fn stale_entry_is_verified() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.director("neigh change 10.77.0.2 dev hl0 nud stale");
        until_fresh(hops.states()[&SERVER].ifindex).await;
    });
}

#[test]
fn link_that_goes_down_takes_the_way_with_it_and_brings_it_back() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.director("link set hl0 down");
        until(hops, SERVER, "no way", |s| *s == NextHopState::default()).await;
        lab.director("link set hl0 up");
        until(hops, SERVER, "the server again", |s| s.mac == Some(MAC)).await;
    });
}

#[test]
fn server_that_stops_answering_loses_its_mac_and_gets_it_back() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.server("link set hl1 arp off");
        lab.director("neigh change 10.77.0.2 dev hl0 nud stale");
        until(hops, SERVER, "no MAC", |s| s.mac.is_none()).await;
        lab.server("link set hl1 arp on");
        until(hops, SERVER, "the MAC again", |s| s.mac == Some(MAC)).await;
    });
}

#[test]
fn route_through_a_gateway_leads_to_the_gateways_mac() {
    in_lab(async |lab, hops| {
        lab.server("addr add 10.77.9.9/32 dev lo");
        hops.set_targets(BTreeSet::from([BEHIND]));
        until(hops, BEHIND, "no way", |s| *s == NextHopState::default()).await;
        lab.director("route add 10.77.9.0/24 via 10.77.0.2");
        until(hops, BEHIND, "by the first gateway", |s| {
            s.gateway == Some(SERVER) && s.mac == Some(MAC)
        })
        .await;
        lab.director("route replace 10.77.9.0/24 via 10.77.0.3");
        until(hops, BEHIND, "by the second gateway", |s| {
            s.gateway == Some(SECOND) && s.mac == Some(MAC)
        })
        .await;
        lab.director("route del 10.77.9.0/24");
        until(hops, BEHIND, "no way again", |s| s.ifindex == 0).await;
    });
}

#[test]
fn lost_events_make_everything_be_read_anew() {
    in_lab(async |lab, hops| {
        lab.server("addr add 10.77.9.9/32 dev lo");
        hops.set_targets(BTreeSet::from([BEHIND]));
        until(hops, BEHIND, "no way", |s| s.ifindex == 0).await;
        let mut watch = Watch::open(&[Topic::Routes]).unwrap();
        // Nobody reads while this thread waits for `ip`: the events fill the sockets, and the
        // last route finds no room for its own.
        let filler = |i| format!("route add blackhole 10.{}.{}.0/24", 80 + i / 256, i % 256);
        let mut batch: Vec<String> = (0..20_000).map(filler).collect();
        batch.push("route add 10.77.9.0/24 via 10.77.0.2\n".into());
        let file = std::env::temp_dir().join(format!("{}-batch", lab.director));
        std::fs::write(&file, batch.join("\n")).unwrap();
        ip(&format!("-n {} -batch {}", lab.director, file.display()));
        std::fs::remove_file(&file).unwrap();
        until(hops, BEHIND, "by the gateway", |s| s.mac == Some(MAC)).await;
        while watch.next().await.unwrap() != Event::Overrun {}
    });
}

#[test]
fn own_mac_that_changes_is_told() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        lab.director("link set hl0 address 02:77:00:00:00:11");
        until(hops, SERVER, "our new MAC", |s| {
            s.link_mac == Some([2, 0x77, 0, 0, 0, 0x11])
        })
        .await;
    });
}

#[test]
fn target_that_was_taken_off_is_not_told_of() {
    in_lab(async |lab, hops| {
        resolved(hops).await;
        hops.set_targets(BTreeSet::from([SECOND]));
        until(hops, SECOND, "the server's MAC", |s| s.mac == Some(MAC)).await;
        lab.director("neigh replace 10.77.0.2 lladdr 02:77:00:00:00:22 dev hl0 nud permanent");
        lab.director("neigh replace 10.77.0.3 lladdr 02:77:00:00:00:22 dev hl0 nud permanent");
        until(hops, SECOND, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
        assert!(!hops.states().contains_key(&SERVER));
    });
}

#[test]
fn watch_tells_of_links_and_own_addresses() {
    in_lab(async |lab, _| {
        let mut watch = Watch::open(&[Topic::Links, Topic::Addresses]).unwrap();
        let mut expect = async |what: &str, wanted: &dyn Fn(&Event) -> bool| {
            let found = async { while !wanted(&watch.next().await.unwrap()) {} };
            let in_time = tokio::time::timeout(Duration::from_secs(20), found).await;
            assert!(in_time.is_ok(), "no event: {what}");
        };
        let link = |up, present| move |event: &Event| matches!(event, Event::Link(l) if l.name == "hl9" && l.up == up && l.present == present);
        lab.director("link add hl9 type veth peer name hl8");
        expect("new", &link(false, true)).await;
        lab.director("link set hl8 up");
        lab.director("link set hl9 up");
        expect("up", &link(true, true)).await;
        let vip = IpAddr::from([10, 78, 0, 1]);
        let address = |present| move |event: &Event| matches!(event, Event::Address(a) if a.addr == vip && a.present == present);
        lab.director("addr add 10.78.0.1/32 dev hl9");
        expect("address added", &address(true)).await;
        lab.director("addr del 10.78.0.1/32 dev hl9");
        expect("address removed", &address(false)).await;
        lab.director("link set hl8 down");
        expect("carrier lost", &link(false, true)).await;
        lab.director("link del hl9");
        expect("removed", &link(false, false)).await;

        let handle = watch::connect().unwrap();
        let links = watch::links(&handle).await.unwrap();
        let hl0 = links.iter().find(|l| l.name == "hl0").unwrap();
        assert!(hl0.up && hl0.mac == Some(DIRECTOR_MAC));
    });
}

#[test]
fn servers_of_ipv6_are_resolved_and_followed_to_a_gateway() {
    in_lab(async |lab, hops| {
        let server: IpAddr = "fd77::2".parse().unwrap();
        let behind: IpAddr = "fd79::9".parse().unwrap();
        let own: IpAddr = "fd77::1".parse().unwrap();
        // Without duplicate address detection the addresses are good at once.
        lab.director("addr add fd77::1/64 dev hl0 nodad");
        lab.server("addr add fd77::2/64 dev hl1 nodad");
        hops.set_targets(BTreeSet::from([server, behind, own]));
        until(hops, server, "the server's MAC", |s| s.mac == Some(MAC)).await;
        until(hops, own, "local", |s| s.local).await;
        until(hops, behind, "no way", |s| *s == NextHopState::default()).await;
        lab.director("route add fd79::/64 via fd77::2");
        until(hops, behind, "by the gateway", |s| {
            s.gateway == Some(server) && s.mac == Some(MAC)
        })
        .await;
        lab.server("link set hl1 address 02:77:00:00:00:22");
        hops.suspect(server);
        until(hops, server, "the new MAC", |s| s.mac == Some(NEW_MAC)).await;
        lab.director("route del fd79::/64");
        until(hops, behind, "no way again", |s| s.ifindex == 0).await;
    });
}

#[test]
fn ipv4_route_by_an_ipv6_gateway_leads_to_the_gateways_mac() {
    in_lab(async |lab, hops| {
        lab.director("addr add fd77::1/64 dev hl0 nodad");
        lab.server("addr add fd77::2/64 dev hl1 nodad");
        lab.director("route add 10.77.9.0/24 via inet6 fd77::2 dev hl0");
        hops.set_targets(BTreeSet::from([BEHIND]));
        until(hops, BEHIND, "by the gateway", |s| s.mac == Some(MAC)).await;
    });
}
