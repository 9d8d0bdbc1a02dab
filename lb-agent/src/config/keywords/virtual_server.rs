// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `virtual_server`.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::args::{Line, Spanned, read_endpoint};
use super::super::diag::{Code, Diagnostic};
use super::super::keyword::{Keyword, Status, Table, block, flag, line, off, off_flag};
use super::super::raw::{Family, Granularity, RawIdentity, RawVirtualServer};
use super::super::tree::Item;
use super::super::walk::Context;
use super::address_group::NO_FWMARK;
use super::features::{CHECKING, ENGINE, MAIL, OBSOLETE, SNMP};
use super::{forwarding, quorum, real_server, timing};

/// `virtual_server`.
pub(crate) static VIRTUAL_SERVER: Table<RawVirtualServer> = Table {
    path: "virtual_server",
    groups: &[
        SERVERS,
        forwarding::ROWS,
        timing::rows!(RawVirtualServer),
        quorum::ROWS,
        OTHERS,
    ],
};

const SERVERS: &[Keyword<RawVirtualServer>] = &[
    block(
        "real_server",
        "A server behind the service.",
        |service: &mut RawVirtualServer, item, ctx| {
            let server = real_server::read(item, ctx);
            service.real_servers.push(server);
        },
    )
    .params(1, 2),
    line(
        "persistence_timeout",
        "Seconds for which a client keeps its real server.",
        |service: &mut RawVirtualServer, line| {
            const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);
            const DEFAULT: Duration = Duration::from_mins(6);
            let value = match line.word(1) {
                None => Some(Spanned::new(DEFAULT, line.span())),
                Some(_) => line.seconds(1, Duration::from_secs(1)..=LONGEST),
            };
            line.set(&mut service.persistence_timeout, value);
        },
    )
    .params(0, 1)
    .default("360 with `persistence_granularity` or port 0, else no persistence")
    .range("1 to 4294967295 seconds; 360 without a number"),
    line(
        "persistence_granularity",
        "Netmask, or prefix length, that makes clients one.",
        |service: &mut RawVirtualServer, line| {
            let value = granularity(line);
            line.set(&mut service.persistence_granularity, value);
        },
    )
    .default("each client for itself")
    .range("a netmask, 1 to 32; IPv6: 1 to 128"),
    line(
        "weight",
        "Weight of real servers that give none.",
        |service: &mut RawVirtualServer, line| {
            let value = weight(line);
            line.set(&mut service.weight, value);
        },
    )
    .default("1")
    .range("0 to 2147483647"),
    flag(
        "inhibit_on_failure",
        "Failed servers get weight 0 instead of being removed.",
        |service: &mut RawVirtualServer, line| {
            let value = line.boolean(1);
            line.set(&mut service.inhibit_on_failure, value);
        },
    )
    .default("off"),
];

const OTHERS: &[Keyword<RawVirtualServer>] = &[
    line(
        "ip_family",
        "Address family of the service.",
        |service: &mut RawVirtualServer, line| {
            let value = line.choice(1, &[("inet", Family::V4), ("inet6", Family::V6)]);
            line.set(&mut service.ip_family, value);
        },
    )
    .default("that of the address")
    .range("inet, inet6"),
    off(
        "persistence_engine",
        "What a client is recognised by.",
        ENGINE,
    ),
    off_flag(
        "ha_suspend",
        "Stop checks while the address is elsewhere.",
        CHECKING,
    ),
    off_flag("smtp_alert", "Send mail on changes.", MAIL),
    off(
        "virtualhost",
        "Default Host header of HTTP_GET.",
        Status::NoEffect("only HTTP_GET uses it"),
    ),
    off("snmp_name", "Name in SNMP.", SNMP),
    off_flag(
        "hashed",
        "Hash entries (obsolete flag of IPVS).",
        Status::NoEffect("services are always found by hash"),
    ),
    off_flag("nat_mask", "Netmask of old tutorials.", OBSOLETE),
];

pub(super) fn weight(line: &mut Line<'_>) -> Option<Spanned<u32>> {
    line.number(1, 0..=i32::MAX as u64)
        .map(|value| value.map(|n| n as u32))
}

/// A dotted netmask or a prefix length.
fn granularity(line: &mut Line<'_>) -> Option<Spanned<Granularity>> {
    let word = line.word(1)?;
    let Ok(mask) = word.text.parse::<Ipv4Addr>() else {
        let bits = line.number(1, 1..=128)?;
        return Some(bits.map(|n| Granularity::Prefix(n as u8)));
    };
    let bits = mask.to_bits();
    if bits == 0 || bits.leading_ones() + bits.trailing_zeros() != 32 {
        line.invalid(word, "is no netmask");
        return None;
    }
    let ones = Granularity::Mask(bits.leading_ones() as u8);
    Some(Spanned::new(ones, word.span))
}

/// `virtual_server ADDR [PORT] | fwmark N | group NAME { … }`.
pub(super) fn read(item: &Item, ctx: &mut Context) -> RawVirtualServer {
    let mut service = RawVirtualServer {
        head: item.head(),
        ..RawVirtualServer::default()
    };
    service.identity = read_head(item, ctx);
    ctx.walk(&VIRTUAL_SERVER, item, &mut service);
    service
}

fn read_head(item: &Item, ctx: &mut Context) -> Option<Spanned<RawIdentity>> {
    match item.words.get(1)?.text.as_str() {
        "fwmark" => {
            let message = "`virtual_server fwmark` is not supported";
            ctx.report(Diagnostic::error(Code::NotSupported, item.head(), message).hint(NO_FWMARK));
            None
        }
        "group" => {
            let Some(name) = item.words.get(2) else {
                let message = "`virtual_server group` needs the name of a group";
                ctx.report(Diagnostic::error(
                    Code::MissingParameter,
                    item.head(),
                    message,
                ));
                return None;
            };
            Some(Spanned::new(
                RawIdentity::Group(name.text.clone()),
                name.span,
            ))
        }
        _ => read_endpoint(item, ctx)
            .map(|at| at.map(|(ip, port)| RawIdentity::Address(ip, port.unwrap_or(0)))),
    }
}
