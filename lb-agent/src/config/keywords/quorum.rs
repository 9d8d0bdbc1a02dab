// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens when too few real servers are up: quorum, its scripts, the sorry server.

use super::super::args::{Line, Spanned, read_endpoint};
use super::super::keyword::{ANY, Keyword, flag, line};
use super::super::raw::RawVirtualServer;
use super::forwarding::{self, METHOD_RANGE};
use super::notify;

/// Rows of `virtual_server`.
pub(super) const ROWS: &[Keyword<RawVirtualServer>] = &[
    line(
        "quorum",
        "Weight of real servers that must be up.",
        |service: &mut RawVirtualServer, line| {
            let value = number(line, 1);
            line.set(&mut service.quorum, value);
        },
    )
    .default("1")
    .range("1 to 2147483647"),
    line(
        "hysteresis",
        "Weight above the quorum at which it is gained, and below it at which it is lost.",
        |service: &mut RawVirtualServer, line| {
            let value = number(line, 0);
            line.set(&mut service.hysteresis, value);
        },
    )
    .default("0")
    .range("0 to quorum - 1"),
    line(
        "quorum_up",
        "Program to run when quorum is gained.",
        |service: &mut RawVirtualServer, line| {
            let value = notify::program(line);
            line.set(&mut service.quorum_up, value);
        },
    )
    .params(1, 3),
    line(
        "quorum_down",
        "Program to run when quorum is lost.",
        |service: &mut RawVirtualServer, line| {
            let value = notify::program(line);
            line.set(&mut service.quorum_down, value);
        },
    )
    .params(1, 3),
    flag(
        "omega",
        "At the end, run `notify_down` and `quorum_down` as if all servers went down.",
        |service: &mut RawVirtualServer, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut service.omega, Some(value));
        },
    )
    .default("off"),
    line(
        "sorry_server",
        "Server that takes the place of all others while quorum is lost.",
        |service: &mut RawVirtualServer, line| {
            let value = read_endpoint(line.item, line.ctx);
            line.set(&mut service.sorry_server, value);
        },
    )
    .params(1, 2),
    flag(
        "sorry_server_inhibit",
        "The sorry server has weight 0 while it is not needed, instead of being removed.",
        |service: &mut RawVirtualServer, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut service.sorry_inhibit, Some(value));
        },
    )
    .default("off"),
    line(
        "sorry_server_lvs_method",
        "How packets reach the sorry server.",
        |service: &mut RawVirtualServer, line| {
            let value = forwarding::method(line);
            line.set(&mut service.sorry_method, value);
        },
    )
    .params(1, ANY)
    .default("the service's")
    .range(METHOD_RANGE),
];

fn number(line: &mut Line<'_>, least: u64) -> Option<Spanned<u32>> {
    line.number(1, least..=i32::MAX as u64)
        .map(|value| value.map(|n| n as u32))
}
