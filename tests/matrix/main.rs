// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way to a server, with every transport, in both families, with real clients and servers:
//! what arrives is compared byte by byte with what was sent.
//!
//! In: a kernel; what it has no SCTP or no tunnel devices for is said. `cargo xtask test vm` runs
//! the same on Debian's kernel, on virtio-net, where nothing is missing.

mod world;

use std::env;
use std::time::Duration;

use xlvs_tests::echo::Transport;
use xlvs_tests::lab::INTERFACE;
use xlvs_tests::outcome::Outcome;
use xlvs_tests::process::Process;
use xlvs_tests::tunnel::GUE_PORT;
use xlvs_tests::wait;

use world::{Family, Service, Shape, World};

/// Bytes of a long transfer where the environment does not say otherwise.
const LONG: u64 = 100 << 20;

/// Changes [`LONG`]: the virtual machine is slow.
const LONG_VARIABLE: &str = "XLVS_MATRIX_BYTES";

/// Bytes of a short one: several windows of TCP.
const SHORT: u64 = 300_000;

/// What fits a frame with any tunnel's headers around it.
const DATAGRAM: usize = 1200;

fn long() -> u64 {
    let given = env::var(LONG_VARIABLE).ok();
    given.and_then(|bytes| bytes.parse().ok()).unwrap_or(LONG)
}

/// One service for each transport that this kernel speaks, and family.
fn grid(kind: &str) -> Vec<Service> {
    let mut services = Vec::new();
    for transport in Transport::ALL {
        if !transport.is_spoken_here() {
            let name = transport.name();
            eprintln!(
                "{kind}: skipped {name}, which this kernel lacks; cargo xtask test vm has it"
            );
            continue;
        }
        for family in Family::BOTH {
            let port = 7000 + services.len() as u16;
            services.push(Service::new(family, transport, kind, port));
        }
    }
    services
}

/// Two connections to each service, so that both servers are asked.
fn exchange_all(world: &World, services: &[Service], datagram: usize) -> Outcome {
    for (index, service) in services.iter().enumerate() {
        let bytes = match service.transport {
            Transport::Udp => 20 * datagram as u64,
            _ => SHORT,
        };
        for _ in 0..2 {
            world.exchange(service, bytes, datagram)?;
        }
        let served = world.served(index);
        assert!(
            served.iter().all(|count| *count > 0),
            "{service:?}: the servers served {served:?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn nat_with_one_interface() -> Outcome {
    let services = grid("NAT");
    let world = World::raise("matrix-nat-one", Shape::MasqueradeOne, &services)?;
    exchange_all(&world, &services, 1452)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn nat_with_two_interfaces() -> Outcome {
    let services = grid("NAT");
    let world = World::raise("matrix-nat-two", Shape::MasqueradeTwo, &services)?;
    exchange_all(&world, &services, 1452)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn direct_routing() -> Outcome {
    let services = grid("DR");
    let world = World::raise("matrix-direct", Shape::Direct, &services)?;
    exchange_all(&world, &services, 1452)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn direct_routing_on_a_vlan() -> Outcome {
    if !World::has_vlans()? {
        eprintln!("skipped: this kernel has no VLAN devices; cargo xtask test vm has them");
        return Ok(());
    }
    let services = grid("DR");
    let world = World::raise("matrix-vlan", Shape::Tagged, &services)?;
    exchange_all(&world, &services, 1452)
}

/// Datagrams of three fragments, both ways.
const FRAGMENTED: usize = 4000;

/// A service for datagrams in each family.
fn datagrams(kind: &str) -> Vec<Service> {
    let mut services = grid(kind);
    services.retain(|service| service.transport == Transport::Udp);
    services
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn fragments_through_nat() -> Outcome {
    for (name, shape) in [
        ("matrix-fragments-one", Shape::MasqueradeOne),
        ("matrix-fragments-two", Shape::MasqueradeTwo),
    ] {
        let services = datagrams("NAT");
        let world = World::raise(name, shape, &services)?;
        exchange_all(&world, &services, FRAGMENTED)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn fragments_by_direct_routing() -> Outcome {
    let services = datagrams("DR");
    let world = World::raise("matrix-fragments-direct", Shape::Direct, &services)?;
    exchange_all(&world, &services, FRAGMENTED)
}

/// The client knows what fits.
#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn fragments_through_tunnels() -> Outcome {
    let services = datagrams("TUN type ipip");
    let world = World::raise("matrix-fragments-tunnel", Shape::Direct, &services)?;
    for family in Family::BOTH {
        let vip = family.vip().to_string();
        let route = [&vip, "dev", INTERFACE, "mtu", "1400"];
        let namespace = world.client.namespace();
        namespace.ip(&[&["route", "replace"], &route[..]].concat())?;
    }
    exchange_all(&world, &services, FRAGMENTED)
}

/// Each transport and family, in an outer header of each family.
fn tunnel_grid(kinds: &[String]) -> Vec<Service> {
    let mut services = Vec::new();
    for kind in kinds {
        for outer in Family::BOTH {
            for mut service in grid(&format!("TUN {kind}")) {
                service.port = 7000 + services.len() as u16;
                service.outer = outer;
                services.push(service);
            }
        }
    }
    services
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn ipip_tunnels() -> Outcome {
    let services = tunnel_grid(&["type ipip".to_owned()]);
    let world = World::raise("matrix-ipip", Shape::Direct, &services)?;
    exchange_all(&world, &services, DATAGRAM)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn gre_tunnels() -> Outcome {
    let services = tunnel_grid(&["type gre nocsum".to_owned()]);
    let world = World::raise("matrix-gre", Shape::Direct, &services)?;
    exchange_all(&world, &services, DATAGRAM)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn gre_tunnels_with_checksums() -> Outcome {
    let mut services = tunnel_grid(&["type gre csum".to_owned()]);
    // The sum of a datagram is derived from its transport's checksum, and SCTP's is of another
    // kind: such packets leave with a checksum of 0, which a receiver drops.
    services.retain(|service| service.transport != Transport::Sctp);
    let world = World::raise("matrix-gre-csum", Shape::Direct, &services)?;
    exchange_all(&world, &services, DATAGRAM)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn gue_tunnels() -> Outcome {
    let kinds = ["nocsum", "csum", "remcsum"];
    let services = tunnel_grid(&kinds.map(|sum| format!("type gue port {GUE_PORT} {sum}")));
    let world = World::raise("matrix-gue", Shape::Direct, &services)?;
    exchange_all(&world, &services, DATAGRAM)
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_long_transfer_through_nat() -> Outcome {
    let service = Service::new(Family::V4, Transport::Tcp, "NAT", 7000);
    let services = [service];
    let world = World::raise("matrix-nat-long", Shape::MasqueradeTwo, &services)?;
    world.exchange(&services[0], long(), 0)?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_long_transfer_through_a_tunnel() -> Outcome {
    let service = Service::new(Family::V4, Transport::Tcp, "TUN type ipip", 7000);
    let services = [service];
    let world = World::raise("matrix-tunnel-long", Shape::Direct, &services)?;
    world.exchange(&services[0], long(), 0)?;
    Ok(())
}

/// The client's frames are as long as its cable takes them, so no segment of its first flight fits
/// into the tunnel: the director says so, and the client believes it, each time a bit less.
#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn a_client_is_told_what_fits_into_the_tunnel() -> Outcome {
    let cases = [
        (Family::V4, Family::V4, "type ipip", 1480),
        (Family::V4, Family::V6, "type gre csum", 1452),
        (Family::V6, Family::V4, "type gre csum", 1472),
        (Family::V6, Family::V6, "type ipip", 1460),
    ];
    let mut services = Vec::new();
    for (family, outer, kind, _) in cases {
        let port = 7000 + services.len() as u16;
        let mut service = Service::new(family, Transport::Tcp, &format!("TUN {kind}"), port);
        service.outer = outer;
        services.push(service);
    }
    let world = World::raise("matrix-mtu", Shape::Direct, &services)?;
    let route = |family: Family| {
        let vip = family.vip().to_string();
        world.client.namespace().ip(&["route", "get", &vip])
    };
    for family in Family::BOTH {
        assert!(!route(family)?.contains("mtu"), "{}", route(family)?);
    }
    for (service, (family, _, kind, fits)) in services.iter().zip(cases) {
        world.exchange(service, SHORT, 0)?;
        let after = route(family)?;
        assert!(after.contains(&format!("mtu {fits}")), "{kind}: {after}");
    }
    Ok(())
}

/// While somebody follows, other programs do the work: by all ways that lead through several of
/// them, in both directions.
#[test]
#[ignore = "needs root: cargo xtask test lab"]
fn followed_packets_go_the_same_ways() -> Outcome {
    let services = grid("NAT");
    let world = World::raise("matrix-followed-nat", Shape::MasqueradeTwo, &services)?;
    let follower = world.follow()?;
    exchange_all(&world, &services, 1452)?;
    let ends = [
        "192.0.2.100",
        "10.0.0.11",
        "10.0.0.12",
        "[2001:db8:2::100]",
        "[2001:db8:10::11]",
        "[2001:db8:10::12]",
    ];
    for end in ends {
        await_word(&follower, &format!("\"from\":\"{end}:"))?;
    }
    drop((follower, world));

    let services = tunnel_grid(&["type ipip".to_owned()]);
    let world = World::raise("matrix-followed-tunnel", Shape::Direct, &services)?;
    let follower = world.follow()?;
    exchange_all(&world, &services, DATAGRAM)?;
    await_word(&follower, "\"method\":\"TUN\"")?;
    Ok(())
}

fn await_word(follower: &Process, word: &str) -> Outcome {
    let what = format!("a follower to tell {word}");
    let patience = Duration::from_secs(30);
    wait::until_true(patience, &what, || follower.log().contains(word))?;
    Ok(())
}
