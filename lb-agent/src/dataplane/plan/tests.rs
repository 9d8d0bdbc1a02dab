// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of the plan: its operations are performed on plain collections, and what a packet would
//! see is looked at after each of them.

use std::collections::HashMap;

use proptest::prelude::*;

use lb_common::abi::{FAMILY_IPV4, LINE_MEMBERS, MemberLine, ServiceKey};

use super::*;
use crate::config::model::{Protocol, Scheduler};

/// The maps, as collections.
#[derive(Default)]
struct Maps {
    services: HashMap<ServiceKey, u32>,
    rows: HashMap<u32, Service>,
    member_lines: HashMap<u32, MemberLine>,
    dests: HashMap<u32, Dest>,
}

impl Maps {
    fn perform(&mut self, op: &Op) {
        match op {
            Op::PutDest { id, row } => {
                self.dests.insert(*id, *row);
            }
            Op::PutMembers { first, rows } => {
                self.member_lines
                    .extend((*first..).zip(rows.iter().copied()));
            }
            Op::PutServiceRow { row, service } => {
                self.rows.insert(*row, *service);
            }
            Op::PutService { key, row } => {
                self.services.insert(*key, *row);
            }
            Op::RemoveService { key } => {
                self.services
                    .remove(key)
                    .expect("only what is there is removed");
            }
            _ => {}
        }
    }

    /// What a packet to `service` sees: servers with weights in scheduling order.
    fn view(&self, id: ServiceId) -> Option<Vec<(SocketAddr, u32)>> {
        let row = &self.rows[self.services.get(&key(id))?];
        Some(
            (0..row.members as usize)
                .map(|index| {
                    let line = row.first_member_line + (index / LINE_MEMBERS) as u32;
                    let member = self.member_lines[&line].members[index % LINE_MEMBERS];
                    let dest = self.dests[&member.dest];
                    assert_ne!(
                        dest.flags & DEST_PRESENT,
                        0,
                        "a listed server must be present"
                    );
                    assert_eq!(dest.service, row.id);
                    (
                        SocketAddr::new(address(dest.addr, FAMILY_IPV4), server(1).port()),
                        member.weight,
                    )
                })
                .collect(),
        )
    }
}

fn service(n: u8) -> ServiceId {
    ServiceId {
        addr: IpAddr::from([10, 0, 0, n]),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, n], 80))
}

fn dest_key(n: u8, s: u8) -> DestKey {
    DestKey {
        service: service(n),
        addr: server(s),
        method: ForwardMethod::Dr,
    }
}

fn desired_service(n: u8, servers: impl IntoIterator<Item = (SocketAddr, u32)>) -> DesiredService {
    let servers = servers
        .into_iter()
        .map(|(addr, weight)| DesiredServer::new(addr, ForwardMethod::Dr, weight))
        .collect();
    DesiredService::new(service(n), Scheduler::Wrr, servers)
}

fn wanted(services: &[(u8, &[(u8, u32)])]) -> Desired {
    let services = services
        .iter()
        .map(|(n, servers)| desired_service(*n, servers.iter().map(|(s, w)| (server(*s), *w))))
        .collect();
    Desired { services }
}

fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn new_servers_stand_before_older_ones() {
    let (mut plan, mut maps) = (Plan::default(), Maps::default());
    for op in plan
        .apply(&wanted(&[(1, &[(1, 3), (2, 2)])]), seconds(0))
        .unwrap()
    {
        maps.perform(&op);
    }
    assert_eq!(
        maps.view(service(1)).unwrap(),
        [(server(2), 2), (server(1), 3)]
    );
    for op in plan
        .apply(&wanted(&[(1, &[(1, 3), (2, 5), (3, 1)])]), seconds(1))
        .unwrap()
    {
        maps.perform(&op);
    }
    assert_eq!(
        maps.view(service(1)).unwrap(),
        [(server(3), 1), (server(2), 5), (server(1), 3)]
    );
}

#[test]
fn nothing_to_do_means_no_operation() {
    let mut plan = Plan::default();
    let want = wanted(&[(1, &[(1, 3), (2, 2)]), (2, &[])]);
    assert!(!plan.apply(&want, seconds(0)).unwrap().is_empty());
    assert_eq!(plan.apply(&want, seconds(1)).unwrap(), []);
}

#[test]
fn server_that_comes_back_keeps_row_and_generation() {
    let mut plan = Plan::default();
    plan.apply(&wanted(&[(1, &[(1, 1), (2, 1)])]), seconds(0))
        .unwrap();
    let before = plan.dests[&dest_key(1, 1)].clone();
    plan.apply(&wanted(&[(1, &[(2, 1)])]), seconds(1)).unwrap();
    assert_eq!(plan.dests[&dest_key(1, 1)].row.flags & DEST_PRESENT, 0);
    plan.apply(&wanted(&[(1, &[(1, 1), (2, 1)])]), seconds(2))
        .unwrap();
    let after = &plan.dests[&dest_key(1, 1)];
    assert_eq!((before.id, before.row), (after.id, after.row));
}

#[test]
fn next_hops_are_written_once() {
    let mut plan = Plan::default();
    plan.apply(&wanted(&[(1, &[(1, 1), (2, 1)])]), seconds(0))
        .unwrap();
    let hop = NextHopRow {
        ifindex: 7,
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..NextHopRow::default()
    };
    let known = |addr: IpAddr| (addr == server(1).ip()).then_some(hop);
    assert_eq!(plan.route(known).len(), 1);
    assert_eq!(plan.route(known), []);
    assert_eq!(
        plan.next_hop(service(1), server(1)),
        Some(Mac::new([2, 0, 0, 0, 0, 1]))
    );
    assert_eq!(plan.next_hop(service(1), server(2)), None);
    assert_eq!(plan.route(|_| None).len(), 1);
}

#[test]
fn a_new_server_whose_next_hop_is_expected_has_it_from_the_first_packet() {
    let mut plan = Plan::default();
    let hop = NextHopRow {
        ifindex: 7,
        mac: Some([2, 0, 0, 0, 0, 1]),
        ..NextHopRow::default()
    };
    plan.expect(BTreeMap::from([(server(1).ip(), hop)]));
    plan.apply(&wanted(&[(1, &[(1, 1), (2, 1)])]), seconds(0))
        .unwrap();
    assert_eq!(
        plan.next_hop(service(1), server(1)),
        Some(Mac::new([2, 0, 0, 0, 0, 1]))
    );
    assert_eq!(plan.next_hop(service(1), server(2)), None);
    let known = |addr: IpAddr| (addr == server(1).ip()).then_some(hop);
    assert_eq!(plan.route(known), [], "nothing is left to be written");
}

#[test]
fn limits_are_named() {
    let mut plan = Plan::default();
    let servers = (0..=MAX_SERVICE_DESTS).map(|n| {
        (
            SocketAddr::new(std::net::Ipv4Addr::from(0x0a01_0000 + n).into(), 80),
            1,
        )
    });
    let want = Desired {
        services: vec![desired_service(1, servers)],
    };
    assert_eq!(
        plan.apply(&want, seconds(0)),
        Err(PlanError::TooManyServiceDests(service(1)))
    );
}

#[test]
fn retired_ranges_rest_and_return_whole() {
    let mut ranges = Ranges::all(MAX_MEMBER_LINES);
    let a = ranges.allocate(10).unwrap();
    let b = ranges.allocate(5).unwrap();
    assert_ne!(a, b);
    ranges.retire(a, 10, seconds(0));
    ranges.retire(b, 5, seconds(0));
    ranges.reclaim(Duration::from_millis(999));
    assert_eq!(ranges.allocate(10), Some(15));
    ranges.retire(15, 10, seconds(1));
    ranges.reclaim(seconds(3));
    assert_eq!(ranges.free, BTreeMap::from([(0, MAX_MEMBER_LINES)]));
}

fn any_wanted() -> impl Strategy<Value = Desired> {
    let servers = prop::collection::btree_map(1u8..6, 0u32..4, 0..5);
    prop::collection::btree_map(1u8..4, servers, 0..3).prop_map(|services| Desired {
        services: services
            .into_iter()
            .map(|(n, servers)| {
                desired_service(n, servers.into_iter().map(|(n, w)| (server(n), w)))
            })
            .collect(),
    })
}

proptest! {
    /// After every single operation each service shows its whole old list or its whole new one.
    #[test]
    fn no_packet_sees_half_of_a_change(steps in prop::collection::vec((any_wanted(), 0u64..3), 1..12)) {
        let (mut plan, mut maps) = (Plan::default(), Maps::default());
        let mut now = seconds(0);
        for (want, pause) in steps {
            now += seconds(pause);
            let before: HashMap<_, _> = (1..4).map(|n| (n, maps.view(service(n)))).collect();
            let ops = plan.apply(&want, now).unwrap();
            let mut after = Maps {
                services: maps.services.clone(),
                rows: maps.rows.clone(),
                member_lines: maps.member_lines.clone(),
                dests: maps.dests.clone(),
            };
            for op in &ops {
                after.perform(op);
            }
            for op in &ops {
                maps.perform(op);
                for n in 1..4 {
                    let seen = maps.view(service(n));
                    prop_assert!(seen == before[&n] || seen == after.view(service(n)));
                }
            }
            for service in &want.services {
                let mut seen = maps.view(service.id).unwrap();
                let mut wanted: Vec<_> =
                    service.servers.iter().map(|s| (s.addr, s.weight)).collect();
                seen.sort();
                wanted.sort();
                prop_assert_eq!(seen, wanted);
            }
            prop_assert_eq!(maps.services.len(), want.services.len());
        }
    }
}

/// A server that is reached in another way from now on: its row stays, so that its connections go on
/// as they began; new ones get another row.
#[test]
fn another_method_is_another_row() {
    let mut plan = Plan::default();
    let mut want = wanted(&[(1, &[(1, 1)])]);
    plan.apply(&want, seconds(0)).unwrap();
    want.services[0].servers[0].method = ForwardMethod::Nat;
    plan.apply(&want, seconds(1)).unwrap();
    let rows: Vec<_> = plan
        .dests_of(service(1))
        .map(|(_, dest)| dest.row)
        .collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.flags & DEST_PRESENT != 0));
    // With the server gone, both are.
    plan.apply(&wanted(&[(1, &[])]), seconds(2)).unwrap();
    assert!(
        plan.dests_of(service(1))
            .all(|(_, dest)| dest.row.flags & DEST_PRESENT == 0)
    );
}
