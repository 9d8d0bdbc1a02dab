// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `vrrp_instance` and its `authentication`.

use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic};
use super::super::keyword::{Keyword, Status, Table, block, flag, line, off, off_block, off_flag};
use super::super::model::{InitialState, VrrpVersion};
use super::super::raw::{AuthType, RawInstance};
use super::features::{ADVERT, CONNECTION_SYNC, HMAC, LINKBEAT, LOGGING, TRACKING, VMAC};
use super::{
    address, announcing, notify, routing, rules, tracking, virtual_ipaddress, vmac, vrrp_other,
};

/// `vrrp_instance`.
pub(crate) static INSTANCE: Table<RawInstance> = Table {
    path: "vrrp_instance",
    groups: &[
        ELECTION,
        ADDRESSES,
        EFFECTS,
        notify::rows!(RawInstance),
        announcing::rows!(RawInstance, ""),
        WIRE,
    ],
};

/// `authentication`.
pub(crate) static AUTHENTICATION: Table<RawInstance> = Table {
    path: "vrrp_instance/authentication",
    groups: &[&[
        line(
            "auth_type",
            "How adverts are authenticated (version 2 only).",
            |raw: &mut RawInstance, line| {
                let value = line.choice(
                    1,
                    &[
                        ("PASS", AuthType::Pass),
                        ("AH", AuthType::Ah),
                        ("NONE", AuthType::None),
                    ],
                );
                line.set(&mut raw.auth_type, value);
            },
        )
        .range("PASS, AH (IPv4), NONE"),
        line(
            "auth_pass",
            "Password, of which 8 bytes count.",
            |raw: &mut RawInstance, line| {
                let value = line.whole_text(1);
                line.set(&mut raw.auth_pass, value);
            },
        ),
    ]],
};

/// Who becomes master.
const ELECTION: &[Keyword<RawInstance>] = &[
    line("state", "What the instance wants to be at start.", state)
        .default("BACKUP")
        .range("MASTER or BACKUP"),
    line(
        "interface",
        "Where adverts are sent and heard.",
        |raw: &mut RawInstance, line| {
            let value = line.text(1);
            line.set(&mut raw.interface, value);
        },
    ),
    line(
        "virtual_router_id",
        "Number of the virtual router, the same on all its hosts.",
        |raw: &mut RawInstance, line| {
            let value = line.number(1, 1..=255);
            line.set(&mut raw.vrid, value.map(|v| v.map(|n| n as u8)));
        },
    )
    .range("1 to 255"),
    line(
        "priority",
        "The highest one is master; 255 owns the addresses.",
        |raw: &mut RawInstance, line| {
            let value = line.number(1, 1..=255);
            line.set(&mut raw.priority, value.map(|v| v.map(|n| n as u8)));
        },
    )
    .default("100")
    .range("1 to 255"),
    line(
        "advert_int",
        "Seconds between adverts.",
        |raw: &mut RawInstance, line| {
            // KEEPALIVED: one range for both versions; `resolve` fits it to the version's wire format.
            let value = line.seconds(1, Duration::from_millis(10)..=Duration::from_secs(255));
            line.set(&mut raw.advert_int, value);
        },
    )
    .default("1")
    .range("version 2: 1 to 255; version 3: 0.01 to 40.95"),
    line(
        "version",
        "VRRP version on the wire.",
        |raw: &mut RawInstance, line| {
            let value = version(line);
            line.set(&mut raw.version, value);
        },
    )
    .default("vrrp_version")
    .range("2 or 3"),
    flag(
        "nopreempt",
        "A higher priority does not take over from a living master.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(false, line.span());
            line.set(&mut raw.preempt, Some(value));
        },
    ),
    flag(
        "preempt",
        "A higher priority takes over.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.preempt, Some(value));
        },
    ),
    line(
        "preempt_delay",
        "Seconds before a higher priority takes over.",
        |raw: &mut RawInstance, line| {
            let value = line.seconds(1, Duration::ZERO..=Duration::from_secs(1000));
            line.set(&mut raw.preempt_delay, value);
        },
    )
    .default("0")
    .range("0 to 1000 seconds"),
    block(
        "authentication",
        "Password of version 2 adverts.",
        |raw, item, ctx| {
            ctx.walk(&AUTHENTICATION, item, raw);
        },
    ),
    off_block("auth_hmac", "Keyed hash of adverts.", HMAC)
        .within(|_, item, ctx| ctx.walk(&vrrp_other::AUTH_HMAC, item, &mut ())),
    flag(
        "strict_mode",
        "Follow the RFC to the letter.",
        |raw: &mut RawInstance, line| {
            let value = line.boolean(1);
            line.set(&mut raw.strict, value);
        },
    ),
];

/// Addresses of adverts and virtual addresses.
const ADDRESSES: &[Keyword<RawInstance>] = &[
    line(
        "mcast_src_ip",
        "Source address of multicast adverts.",
        |raw: &mut RawInstance, line| {
            let value = address::of(line, 1);
            line.set(&mut raw.mcast_src, value);
        },
    )
    .default("the interface's first address"),
    line(
        "unicast_src_ip",
        "Source address of unicast adverts.",
        |raw: &mut RawInstance, line| {
            let value = address::of(line, 1);
            line.set(&mut raw.unicast_src, value);
        },
    )
    .default("the interface's first address"),
    block(
        "unicast_peer",
        "Hosts that get adverts instead of the multicast group.",
        |raw: &mut RawInstance, item, ctx| {
            if address::peers(&mut raw.unicast_peers, item, ctx) {
                raw.peers_bounded = true;
            }
        },
    ),
    line(
        "mcast_dst_ip",
        "Multicast group of this instance's adverts.",
        |raw: &mut RawInstance, line| {
            let value = address::group(line);
            line.set(&mut raw.mcast_dst, value);
        },
    )
    .default("vrrp_mcast_group4 or vrrp_mcast_group6"),
    flag(
        "native_ipv6",
        "Adverts go over IPv6.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.native_ipv6, Some(value));
        },
    )
    .default("as the first address"),
    line(
        "unicast_ttl",
        "TTL or hop limit of unicast adverts.",
        |raw: &mut RawInstance, line| {
            let value = line.number(1, 0..=255);
            line.set(&mut raw.unicast_ttl, value.map(|v| v.map(|n| n as u8)));
        },
    )
    .default("255")
    .range("0 to 255"),
    flag(
        "unicast_fault_no_peer",
        "Unicast settings without a peer are an error, instead of meaning multicast.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.fault_no_peer, Some(value));
        },
    )
    .default("off"),
    flag(
        "old_unicast_checksum",
        "Version 3 checksum of unicast adverts as keepalived up to 1.3.6 made it; `never` stops learning it from a peer.",
        |raw: &mut RawInstance, line| {
            let never = line.word(1).is_some_and(|word| word.text == "never");
            let value = Spanned::new(!never, line.span());
            line.set(&mut raw.old_checksum, Some(value));
        },
    )
    .default("learned from the peer"),
    block(
        "virtual_ipaddress",
        "Addresses that the master holds.",
        |raw, item, ctx| {
            virtual_ipaddress::read(&mut raw.vips, item, ctx);
        },
    ),
    block(
        "virtual_ipaddress_excluded",
        "Addresses that the master holds and adverts omit.",
        |raw, item, ctx| {
            virtual_ipaddress::read(&mut raw.excluded, item, ctx);
        },
    ),
    block(
        "virtual_routes",
        "Routes that the master holds.",
        |raw: &mut RawInstance, item, ctx| routing::routes(&mut raw.routes, item, ctx),
    ),
    block(
        "virtual_rules",
        "Routing rules that the master holds.",
        |raw: &mut RawInstance, item, ctx| rules::read(&mut raw.rules, item, ctx),
    ),
    flag(
        "promote_secondaries",
        "Keep secondary addresses when a primary one goes.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.promote_secondaries, Some(value));
        },
    )
    .default("off"),
    off_flag(
        "no_virtual_ipaddress",
        "The instance holds no address on purpose.",
        Status::NoEffect("an instance without addresses is accepted"),
    ),
    flag(
        "accept",
        "The host answers at the virtual addresses, also what is for no service.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.accept, Some(value));
        },
    )
    .default("on, off in strict mode"),
    flag(
        "no_accept",
        "Packets to the virtual addresses that are for no service are dropped, echo requests too.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(false, line.span());
            line.set(&mut raw.accept, Some(value));
        },
    ),
];

/// What a change of state causes, and what causes it.
const EFFECTS: &[Keyword<RawInstance>] = &[
    block(
        "track_script",
        "Scripts that count for the priority.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.scripts, item, ctx),
    ),
    block(
        "track_file",
        "Files that count for the priority.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.files, item, ctx),
    ),
    block(
        "track_process",
        "Processes that count for the priority.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.processes, item, ctx),
    ),
    block(
        "track_interface",
        "Interfaces that count for the priority.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.interfaces, item, ctx),
    ),
    block(
        "track_bfd",
        "BFD sessions that count for the priority.",
        |raw, item, ctx| tracking::read(&mut raw.tracks.bfds, item, ctx),
    ),
    off_flag(
        "track_src_ip",
        "The source address must be there.",
        TRACKING,
    ),
    flag(
        "dont_track_primary",
        "The state of the own interface does not matter.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(false, line.span());
            line.set(&mut raw.track_primary, Some(value));
        },
    )
    .default("off"),
    off_flag("linkbeat_use_polling", "Poll the link state.", LINKBEAT),
    flag(
        "notify_deleted",
        "An instance that a reload removes is told of as DELETED, not as FAULT; with a program, \
         that is run.",
        |raw: &mut RawInstance, line| {
            let program = line.word(1).and_then(|_| notify::program(line));
            let value = Spanned::new(program.map(|program| program.value), line.span());
            line.set(&mut raw.notify.deleted, Some(value));
        },
    )
    .params(0, 3),
    line(
        "notify_master_rx_lower_pri",
        "Program to run when a master hears a lower priority.",
        |raw: &mut RawInstance, line| {
            let value = notify::program(line);
            line.set(&mut raw.notify.rx_lower, value);
        },
    )
    .params(1, 3),
    off(
        "lvs_sync_daemon_interface",
        "Interface for connection synchronisation.",
        CONNECTION_SYNC,
    ),
    off_flag("debug", "Debug level.", LOGGING),
];

/// How adverts and ARP look on the wire.
const WIRE: &[Keyword<RawInstance>] = &[
    flag(
        "use_vmac",
        "Hold the addresses on an interface with the virtual router's MAC address; its name and another MAC address may follow.",
        vmac::use_vmac,
    )
    .params(0, 2),
    flag(
        "vmac_xmit_base",
        "Adverts leave from, and are heard on, the interface beneath it.",
        |raw: &mut RawInstance, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.vmac_xmit_base, Some(value));
        },
    )
    .default("off"),
    flag(
        "v3_checksum_as_v2",
        "Version 3 checksum over IPv4 without pseudo header.",
        |raw: &mut RawInstance, line| {
            let value = line.boolean(1);
            line.set(&mut raw.exchange.checksum_as_v2, value);
        },
    )
    .default("v3_checksum_as_v2 of global_defs"),
    off_flag(
        "use_vmac_addr",
        "Use virtual MAC interfaces for addresses elsewhere.",
        VMAC,
    ),
    off_flag(
        "use_ipvlan",
        "Hold the addresses on an ipvlan interface.",
        VMAC,
    ),
    off_flag(
        "vmac_garp_intvl",
        "Interval of gratuitous ARP on the base interface.",
        VMAC,
    ),
    off_flag(
        "garp_extra_if",
        "Interval of gratuitous ARP on the base interface.",
        VMAC,
    ),
    off(
        "vrf",
        "VRF of the instance.",
        Status::Refused("adverts would go out in another VRF"),
    ),
    off_flag(
        "timer_expired_backup",
        "Go backup after a late timer.",
        ADVERT,
    ),
    off_flag(
        "thread_timer_expired",
        "Another name of `timer_expired_backup`.",
        ADVERT,
    ),
    off_flag(
        "kernel_rx_buf_size",
        "Receive buffer of the socket.",
        super::features::NETLINK,
    ),
];

pub(super) fn version(line: &mut Line<'_>) -> Option<Spanned<VrrpVersion>> {
    let number = line.number(1, 2..=3)?;
    Some(number.map(|n| {
        if n == 2 {
            VrrpVersion::V2
        } else {
            VrrpVersion::V3
        }
    }))
}

/// KEEPALIVED: once `state MASTER` was read, a later `state BACKUP` is ignored.
fn state(raw: &mut RawInstance, line: &mut Line<'_>) {
    let choices = [
        ("MASTER", InitialState::Master),
        ("BACKUP", InitialState::Backup),
    ];
    let Some(value) = line.choice(1, &choices) else {
        return;
    };
    match raw.state {
        Some(first) if first.value == InitialState::Master && value.value != first.value => {
            line.ctx.report(
                Diagnostic::warning(
                    Code::GivenTwice,
                    value.span,
                    "`state` is given twice; MASTER counts",
                )
                .related(first.span, "first given here"),
            );
        }
        _ => line.set(&mut raw.state, Some(value)),
    }
}
