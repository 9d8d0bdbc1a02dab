// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `virtual_server`.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::args::{Line, Spanned, read_ipv4};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Keyword, Status, Table, block, flag, line, off, off_flag};
use super::super::model::{ForwardMethod, Protocol, Scheduler};
use super::super::raw::{Choice, RawVirtualServer};
use super::super::tree::Item;
use super::super::walk::Context;
use super::features::{
    CHECKING, MAIL, NOTIFY, OBSOLETE, OTHER_SCHEDULER, PERSISTENCE, QUORUM, SNMP,
};
use super::{real_server, timing};

/// `virtual_server`.
pub(crate) static VIRTUAL_SERVER: Table<RawVirtualServer> = Table {
    path: "virtual_server",
    groups: &[FORWARDING, timing::rows!(RawVirtualServer), OTHERS],
};

const FORWARDING: &[Keyword<RawVirtualServer>] = &[
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
        "lb_algo",
        "Which real server takes a new connection.",
        scheduler,
    )
    .default("wlc")
    .status(Status::Partly("rr and wrr are done; the others are errors")),
    line("lvs_sched", "Another name of `lb_algo`.", scheduler)
        .default("wlc")
        .status(Status::Partly("rr and wrr are done; the others are errors")),
    line(
        "lb_kind",
        "How packets reach the real servers.",
        forward_method,
    )
    .default("NAT")
    .status(Status::Partly("DR is done; NAT and TUN are errors")),
    line("lvs_method", "Another name of `lb_kind`.", forward_method)
        .default("NAT")
        .status(Status::Partly("DR is done; NAT and TUN are errors")),
    line(
        "protocol",
        "Protocol of the service.",
        |service: &mut RawVirtualServer, line| {
            let value = line.choice(1, &PROTOCOLS);
            line.set(&mut service.protocol, value);
        },
    )
    .default("UDP")
    .status(Status::Partly("TCP and UDP are done; SCTP is an error")),
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
    .status(PERSISTENCE),
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
        "Address family of a firewall-mark service.",
        |_, line| {
            let Some(word) = line.word(1) else { return };
            if line
                .choice(1, &[("inet", false), ("inet6", true)])
                .is_some_and(|v| v.value)
            {
                line.ctx
                    .report(super::super::args::ipv6_not_supported(word, "ip_family"));
            }
        },
    )
    .status(Status::Partly("inet only")),
    off(
        "persistence_engine",
        "What a client is recognised by.",
        PERSISTENCE,
    ),
    off(
        "persistence_granularity",
        "Netmask that makes clients one.",
        PERSISTENCE,
    ),
    off(
        "sorry_server",
        "Server that takes over while quorum is lost.",
        Status::Refused("connections would fail instead of reaching it"),
    ),
    off_flag(
        "sorry_server_inhibit",
        "What inhibit_on_failure is, for the sorry server.",
        Status::NoEffect("there is no sorry server yet"),
    ),
    off(
        "sorry_server_lvs_method",
        "What lvs_method is, for the sorry server.",
        Status::NoEffect("there is no sorry server yet"),
    ),
    off_flag(
        "ops",
        "Schedule each UDP packet for itself.",
        Status::Refused("packets would follow the first of their flow"),
    ),
    off("quorum", "Weight that must be up.", QUORUM).default("1"),
    off(
        "hysteresis",
        "Weight by which quorum is gained and lost.",
        QUORUM,
    )
    .default("0"),
    off("quorum_up", "Program to run when quorum is gained.", NOTIFY),
    off("quorum_down", "Program to run when quorum is lost.", NOTIFY),
    off_flag("omega", "Run the down notifiers at shutdown.", NOTIFY),
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
        OTHER_SCHEDULER,
    ),
    off_flag("flag-1", "First flag of the scheduler.", OTHER_SCHEDULER),
    off_flag("flag-2", "Second flag of the scheduler.", OTHER_SCHEDULER),
    off_flag("flag-3", "Third flag of the scheduler.", OTHER_SCHEDULER),
    off_flag(
        "sh-port",
        "The scheduler sh hashes the port, too.",
        OTHER_SCHEDULER,
    ),
    off_flag(
        "sh-fallback",
        "The scheduler sh tries another server.",
        OTHER_SCHEDULER,
    ),
    off_flag(
        "mh-port",
        "The scheduler mh hashes the port, too.",
        OTHER_SCHEDULER,
    ),
    off_flag(
        "mh-fallback",
        "The scheduler mh tries another server.",
        OTHER_SCHEDULER,
    ),
    off_flag("nat_mask", "Netmask of old tutorials.", OBSOLETE),
];

const PROTOCOLS: [(&str, Choice<Protocol>); 3] = [
    ("TCP", Choice::Done(Protocol::Tcp)),
    ("UDP", Choice::Done(Protocol::Udp)),
    ("SCTP", Choice::NotYet("SCTP")),
];

const SCHEDULERS: [(&str, Choice<Scheduler>); 14] = [
    ("rr", Choice::Done(Scheduler::Rr)),
    ("wrr", Choice::Done(Scheduler::Wrr)),
    ("lc", Choice::NotYet("lc")),
    ("wlc", Choice::NotYet("wlc")),
    ("lblc", Choice::NotYet("lblc")),
    ("lblcr", Choice::NotYet("lblcr")),
    ("sh", Choice::NotYet("sh")),
    ("dh", Choice::NotYet("dh")),
    ("mh", Choice::NotYet("mh")),
    ("fo", Choice::NotYet("fo")),
    ("ovf", Choice::NotYet("ovf")),
    ("sed", Choice::NotYet("sed")),
    ("nq", Choice::NotYet("nq")),
    ("twos", Choice::NotYet("twos")),
];

const METHODS: [(&str, Choice<ForwardMethod>); 3] = [
    ("DR", Choice::Done(ForwardMethod::Dr)),
    ("NAT", Choice::NotYet("NAT")),
    ("TUN", Choice::NotYet("TUN")),
];

fn scheduler(service: &mut RawVirtualServer, line: &mut Line<'_>) {
    let value = line.choice(1, &SCHEDULERS);
    line.set(&mut service.scheduler, value);
}

fn forward_method(service: &mut RawVirtualServer, line: &mut Line<'_>) {
    let value = method(line);
    line.set(&mut service.method, value);
}

pub(super) fn method(line: &mut Line<'_>) -> Option<Spanned<Choice<ForwardMethod>>> {
    // TUN takes options (`TUN type gue port 6080`), which are refused with it.
    line.choice(1, &METHODS)
}

pub(super) fn weight(line: &mut Line<'_>) -> Option<Spanned<u32>> {
    line.number(1, 0..=i32::MAX as u64)
        .map(|value| value.map(|n| n as u32))
}

/// `virtual_server ADDR [PORT] | fwmark N | group NAME { … }`.
pub(super) fn read(item: &Item, ctx: &mut Context) -> RawVirtualServer {
    let mut service = RawVirtualServer {
        head: item.head(),
        ..RawVirtualServer::default()
    };
    service.addr = read_head(item, ctx);
    ctx.walk(&VIRTUAL_SERVER, item, &mut service);
    service
}

fn read_head(item: &Item, ctx: &mut Context) -> Option<Spanned<(Ipv4Addr, u16)>> {
    let first = item.words.get(1)?;
    if let "fwmark" | "group" = first.text.as_str() {
        ctx.report(
            Diagnostic::error(
                Code::NotSupported,
                item.head(),
                format!("`virtual_server {}` is not supported yet", first.text),
            )
            .hint("give the service an address and a port"),
        );
        return None;
    }
    let ip = match read_ipv4(first, "virtual_server") {
        Ok(ip) => ip,
        Err(diagnostic) => {
            ctx.report(*diagnostic);
            return None;
        }
    };
    let Some(word) = item.words.get(2) else {
        return Some(Spanned::new((ip, 0), item.head()));
    };
    let Ok(port) = word.text.parse::<u16>() else {
        ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            word.span,
            format!(
                "{} is not a port; this virtual server is ignored",
                quoted(&word.text)
            ),
        ));
        return None;
    };
    Some(Spanned::new((ip, port), item.head()))
}
