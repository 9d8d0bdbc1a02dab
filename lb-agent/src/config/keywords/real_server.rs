// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `real_server`.

use super::super::args::{Line, Spanned, read_endpoint};
use super::super::keyword::{ANY, Enter, Keyword, Status, Table, block, flag, line, off, off_flag};
use super::super::raw::{RawCheck, RawRealServer};
use super::super::tree::Item;
use super::super::walk::Context;
use super::features::{MAIL, SNMP};
use super::{checkers, forwarding, notify, timing, virtual_server};

/// `real_server`.
pub(crate) static REAL_SERVER: Table<RawRealServer> = Table {
    path: "virtual_server/real_server",
    groups: &[SETTINGS, timing::rows!(RawRealServer), CHECKERS],
};

const SETTINGS: &[Keyword<RawRealServer>] = &[
    line(
        "weight",
        "Share of new connections; 0 takes none.",
        |server: &mut RawRealServer, line| {
            let value = virtual_server::weight(line);
            line.set(&mut server.weight, value);
        },
    )
    .default("1")
    .range("0 to 2147483647"),
    flag(
        "inhibit_on_failure",
        "A failed server gets weight 0 instead of being removed.",
        |server: &mut RawRealServer, line| {
            let value = line.boolean(1);
            line.set(&mut server.inhibit_on_failure, value);
        },
    )
    .default("off"),
    line(
        "lvs_method",
        "How packets reach this server.",
        |server: &mut RawRealServer, line| {
            let value = forwarding::method(line);
            line.set(&mut server.method, value);
        },
    )
    .params(1, ANY)
    .default("the service's")
    .range(forwarding::METHOD_RANGE),
    line(
        "uthreshold",
        "Connections at which this server takes no new one; 0 for no limit.",
        |server: &mut RawRealServer, line| {
            let value = threshold(line);
            line.set(&mut server.upper_threshold, value);
        },
    )
    .default("0")
    .range("0 to 4294967295"),
    line(
        "lthreshold",
        "Connections below which it takes new ones again; 0 for three quarters of `uthreshold`.",
        |server: &mut RawRealServer, line| {
            let value = threshold(line);
            line.set(&mut server.lower_threshold, value);
        },
    )
    .default("0")
    .range("0 to uthreshold"),
    line(
        "notify_up",
        "Program to run when it comes up.",
        |server: &mut RawRealServer, line| {
            let value = notify::program(line);
            line.set(&mut server.notify_up, value);
        },
    )
    .params(1, 3),
    line(
        "notify_down",
        "Program to run when it goes down.",
        |server: &mut RawRealServer, line| {
            let value = notify::program(line);
            line.set(&mut server.notify_down, value);
        },
    )
    .params(1, 3),
    off_flag(
        "smtp_alert",
        "Send mail when it comes up or goes down.",
        MAIL,
    ),
    off(
        "virtualhost",
        "Default Host header of HTTP_GET.",
        Status::NoEffect("only HTTP_GET uses it"),
    ),
    off("snmp_name", "Name in SNMP.", SNMP),
];

fn threshold(line: &mut Line<'_>) -> Option<Spanned<u32>> {
    line.number(1, 0..=u64::from(u32::MAX))
        .map(|value| value.map(|n| n as u32))
}

const UNCHECKED: Status =
    Status::Refused("the server would count as up whatever its state; TCP_CHECK is there");

const fn refused(
    name: &'static str,
    doc: &'static str,
    enter: Enter<RawRealServer>,
) -> Keyword<RawRealServer> {
    block(name, doc, enter).status(UNCHECKED)
}

const CHECKERS: &[Keyword<RawRealServer>] = &[
    block(
        "TCP_CHECK",
        "Up when a TCP connection can be made.",
        |server: &mut RawRealServer, item, ctx| {
            let mut check = RawCheck::default();
            ctx.walk(&checkers::TCP_CHECK, item, &mut check);
            server.checks.push(check);
        },
    ),
    refused(
        "HTTP_GET",
        "Up when a page is as expected.",
        |_, item, ctx| {
            ctx.walk(&checkers::HTTP_GET, item, &mut RawCheck::default());
        },
    ),
    refused("SSL_GET", "HTTP_GET over TLS.", |_, item, ctx| {
        ctx.walk(&checkers::HTTP_GET, item, &mut RawCheck::default());
    }),
    refused(
        "SMTP_CHECK",
        "Up when a mail server answers.",
        |_, item, ctx| {
            ctx.walk(&checkers::SMTP_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused(
        "DNS_CHECK",
        "Up when a name server answers.",
        |_, item, ctx| {
            ctx.walk(&checkers::DNS_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused(
        "MISC_CHECK",
        "Up when a program says so.",
        |_, item, ctx| {
            ctx.walk(&checkers::MISC_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused(
        "UDP_CHECK",
        "Up unless a datagram is refused.",
        |_, item, ctx| {
            ctx.walk(&checkers::UDP_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused(
        "PING_CHECK",
        "Up when it answers a ping.",
        |_, item, ctx| {
            ctx.walk(&checkers::PING_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused(
        "FILE_CHECK",
        "Up and weighted as a file says.",
        |_, item, ctx| {
            ctx.walk(&checkers::FILE_CHECK, item, &mut RawCheck::default());
        },
    ),
    refused("BFD_CHECK", "Up while a BFD session is.", |_, item, ctx| {
        ctx.walk(&checkers::BFD_CHECK, item, &mut RawCheck::default());
    }),
];

/// `real_server ADDR [PORT] { … }`.
pub(super) fn read(item: &Item, ctx: &mut Context) -> RawRealServer {
    let mut server = RawRealServer {
        head: item.head(),
        ..RawRealServer::default()
    };
    server.addr = read_endpoint(item, ctx);
    ctx.walk(&REAL_SERVER, item, &mut server);
    server
}
