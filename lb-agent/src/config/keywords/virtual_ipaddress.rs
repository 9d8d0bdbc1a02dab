// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines of `virtual_ipaddress`: `A[/N] [brd B|+|-] [dev IF] [scope S] [label L] …`.
//!
//! Invariant: a line gives one address or a finding that it gives none.

use std::net::{IpAddr, Ipv4Addr};

use super::super::args::{Spanned, read_ipv4};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::lexer::Word;
use super::super::model::VirtualAddress;
use super::super::suggest;
use super::super::tree::Item;
use super::super::walk::Context;

/// The kernel's IFNAMSIZ, without the final zero.
const LONGEST_LABEL: usize = 15;

/// The kernel's names (rtnetlink(7)).
pub(super) const SCOPES: [(&str, u8); 5] = [
    ("global", 0),
    ("site", 200),
    ("link", 253),
    ("host", 254),
    ("nowhere", 255),
];

const WITH_VALUE: [&str; 8] = [
    "track_group",
    "dev",
    "label",
    "brd",
    "broadcast",
    "scope",
    "peer",
    "preferred_lft",
];

/// The kernel's flags (linux/if_addr.h).
const FLAGS: [(&str, u32); 4] = [
    ("home", 0x10),
    ("mngtmpaddr", 0x100),
    ("noprefixroute", 0x200),
    ("autojoin", 0x400),
];
const ALONE: [&str; 8] = [
    "home",
    "nodad",
    "-nodad",
    "mngtmpaddr",
    "noprefixroute",
    "autojoin",
    "no_track",
    "use_vmac",
];
const ALONE_IGNORED: [&str; 2] = ["no_track", "use_vmac"];

/// Reads every line of the block.
pub(super) fn read(vips: &mut Vec<Spanned<VirtualAddress>>, item: &Item, ctx: &mut Context) {
    for line in item.body.iter().flatten() {
        let Some(vip) = read_line(line, ctx) else {
            continue;
        };
        if let Some(first) = vips.iter().find(|known| known.value.addr == vip.addr) {
            // KEEPALIVED: both stay, and adverts carry the address twice; a pair must agree on it.
            ctx.report(
                Diagnostic::info(
                    Code::Duplicate,
                    line.head(),
                    format!("{} is listed twice; adverts carry it twice", vip.addr),
                )
                .related(first.span, "first listed here"),
            );
        }
        vips.push(Spanned::new(vip, line.head()));
    }
}

fn read_line(line: &Item, ctx: &mut Context) -> Option<VirtualAddress> {
    let mut words = line.words.iter();
    let (addr, length) = address(words.next()?, ctx)?;
    let plain = VirtualAddress::plain(addr);
    let mut vip = VirtualAddress {
        prefix_len: length.unwrap_or(plain.prefix_len),
        // KEEPALIVED: an IPv6 address without a network is not to be a source of connections.
        deprecated: addr.is_ipv6() && length.is_none_or(|length| length == plain.prefix_len),
        ..plain
    };
    while let Some(option) = words.next() {
        let name = option.text.as_str();
        if ALONE.contains(&name) {
            flag(&mut vip, option, ctx);
            continue;
        }
        if !WITH_VALUE.contains(&name) {
            unknown(option, ctx);
            continue;
        }
        let Some(value) = words.next() else {
            ctx.report(Diagnostic::error(
                Code::MissingParameter,
                option.span,
                format!("{} needs a value", quoted(name)),
            ));
            break;
        };
        if !set(&mut vip, name, value, ctx) {
            return None;
        }
    }
    Some(vip)
}

/// Takes an option without a value.
fn flag(vip: &mut VirtualAddress, option: &Word, ctx: &mut Context) {
    let name = option.text.as_str();
    if ALONE_IGNORED.contains(&name) {
        no_effect(option, ctx);
    } else if name == "-nodad" {
        vip.flags &= !VirtualAddress::NO_DAD;
    } else if let Some((_, bit)) = FLAGS.iter().find(|(flag, _)| *flag == name) {
        vip.flags |= bit;
    }
}

/// The address, and its prefix length if there is a good one.
fn address(word: &Word, ctx: &mut Context) -> Option<(IpAddr, Option<u8>)> {
    let (address, length) = match word.text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word.text.as_str(), None),
    };
    let bare = Word {
        text: address.to_owned(),
        ..word.clone()
    };
    let addr = match super::address::read(&bare, "virtual_ipaddress") {
        Ok(addr) => addr,
        Err(diagnostic) => {
            ctx.report(*diagnostic);
            return None;
        }
    };
    let Some(length) = length else {
        return Some((addr, None));
    };
    let whole = VirtualAddress::plain(addr).prefix_len;
    let prefix_len = length.parse().ok().filter(|length| *length <= whole);
    if prefix_len.is_none() {
        ctx.report(Diagnostic::warning(
            Code::OutOfRange,
            word.span,
            format!("{} is no prefix length; {whole} is used", quoted(length)),
        ));
    }
    Some((addr, prefix_len))
}

/// Takes an option with its value; false when keepalived would leave the address out.
fn set(vip: &mut VirtualAddress, name: &str, value: &Word, ctx: &mut Context) -> bool {
    match name {
        "dev" => vip.dev = Some(value.text.clone()),
        "label" if value.text.len() > LONGEST_LABEL => {
            ctx.report(Diagnostic::warning(
                Code::OutOfRange,
                value.span,
                format!(
                    "the label {} is longer than {LONGEST_LABEL} bytes; the address is left out",
                    quoted(&value.text)
                ),
            ));
            return false;
        }
        "label" => vip.label = Some(value.text.clone()),
        "track_group" => ctx.report(super::routing::not_tracked(value)),
        "scope" => vip.scope = scope(value, ctx),
        "preferred_lft" => vip.deprecated = value.text == "0",
        "peer" => match super::address::read(value, "peer") {
            Ok(peer) if peer.is_ipv6() == vip.addr.is_ipv6() => vip.peer = Some(peer),
            Ok(_) => ctx.report(Diagnostic::warning(
                Code::InvalidValue,
                value.span,
                "`peer` is of another family than the address; it is ignored",
            )),
            Err(diagnostic) => ctx.report(*diagnostic),
        },
        _ => match vip.addr {
            IpAddr::V4(addr) => vip.broadcast = broadcast(addr, vip.prefix_len, value, ctx),
            IpAddr::V6(_) => {
                ctx.report(Diagnostic::warning(
                    Code::InvalidValue,
                    value.span,
                    format!("IPv6 has no broadcast; {} is left out", vip.addr),
                ));
                return false;
            }
        },
    }
    true
}

fn scope(value: &Word, ctx: &mut Context) -> u8 {
    let by_name = SCOPES
        .iter()
        .find(|(name, _)| *name == value.text)
        .map(|(_, scope)| *scope);
    by_name
        .or_else(|| value.text.parse().ok())
        .unwrap_or_else(|| {
            let names = SCOPES.iter().map(|(name, _)| *name);
            let diagnostic = Diagnostic::warning(
                Code::InvalidValue,
                value.span,
                format!("{} is no scope; global is used", quoted(&value.text)),
            );
            ctx.report(match suggest::nearest(&value.text, names) {
                Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
                None => diagnostic,
            });
            0
        })
}

/// `brd A`, or `+` / `-` for the network's address with all host bits set or cleared.
fn broadcast(addr: Ipv4Addr, prefix_len: u8, value: &Word, ctx: &mut Context) -> Option<Ipv4Addr> {
    const LONGEST_PREFIX: u8 = 30;
    if !matches!(value.text.as_str(), "+" | "-") {
        return read_ipv4(value, "brd")
            .map_err(|diagnostic| ctx.report(*diagnostic))
            .ok();
    }
    if prefix_len > LONGEST_PREFIX {
        ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            value.span,
            format!("a /{prefix_len} has no broadcast address; none is set"),
        ));
        return None;
    }
    let host_bits = u32::MAX >> prefix_len;
    let bits = addr.to_bits();
    Some(Ipv4Addr::from_bits(if value.text == "+" {
        bits | host_bits
    } else {
        bits & !host_bits
    }))
}

fn no_effect(option: &Word, ctx: &mut Context) {
    ctx.report(Diagnostic::warning(
        Code::NoEffectYet,
        option.span,
        format!("{} is accepted, without effect yet", quoted(&option.text)),
    ));
}

fn unknown(option: &Word, ctx: &mut Context) {
    let diagnostic = Diagnostic::warning(
        Code::ExtraWords,
        option.span,
        format!(
            "{} is no option of a virtual address; it is ignored",
            quoted(&option.text)
        ),
    );
    let known = WITH_VALUE.into_iter().chain(ALONE);
    ctx.report(match suggest::nearest(&option.text, known) {
        Some(name) => diagnostic.hint(format!("did you mean `{name}`?")),
        None if option.text.parse::<IpAddr>().is_ok() => {
            diagnostic.hint("put each address on a line of its own")
        }
        None => diagnostic,
    });
}
