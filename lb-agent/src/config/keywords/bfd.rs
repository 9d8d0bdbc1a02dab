// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `bfd_instance`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::keyword::{Table, flag, line};
use super::super::raw::RawBfd;
use super::tracking::weight_within;

const WEIGHTS: RangeInclusive<i32> = -253..=253;
const SHORTEST: Duration = Duration::from_micros(1);
/// The field on the wire has 32 bits of microseconds.
const LONGEST: Duration = Duration::from_millis(4_294_967);

/// `bfd_instance`.
pub(crate) static BFD: Table<RawBfd> = Table {
    path: "bfd_instance",
    groups: &[&[
        line("neighbor_ip", "The neighbour's address.", neighbor),
        line("neighbour_ip", "The neighbour's address.", neighbor),
        line("source_ip", "Own address.", |raw: &mut RawBfd, line| {
            let value = line.ip(1);
            line.set(&mut raw.source, value);
        }),
        line(
            "min_rx",
            "Milliseconds between packets that can be received.",
            |raw: &mut RawBfd, line| {
                let value = line.milliseconds(1, SHORTEST..=LONGEST);
                line.set(&mut raw.min_rx, value);
            },
        )
        .default("10")
        .range("0.001 to 4294967 ms"),
        line(
            "min_tx",
            "Milliseconds between packets sent while the session is up.",
            |raw: &mut RawBfd, line| {
                let value = line.milliseconds(1, SHORTEST..=LONGEST);
                line.set(&mut raw.min_tx, value);
            },
        )
        .default("10")
        .range("0.001 to 4294967 ms"),
        line(
            "idle_tx",
            "Milliseconds between packets of a session that is not up.",
            |raw: &mut RawBfd, line| {
                let value = line.milliseconds(1, SHORTEST..=LONGEST);
                line.set(&mut raw.idle_tx, value);
            },
        )
        .default("1000")
        .range("0.001 to 4294967 ms"),
        line(
            "multiplier",
            "Missed packets that make a session down.",
            |raw: &mut RawBfd, line| {
                let value = byte(line, 1);
                line.set(&mut raw.multiplier, value);
            },
        )
        .default("5")
        .range("1 to 255"),
        flag(
            "passive",
            "Say nothing before the neighbour does.",
            |raw: &mut RawBfd, _| raw.passive = true,
        )
        .default("off"),
        line("ttl", "TTL of packets sent.", ttl)
            .default("255")
            .range("1 to 255"),
        line("hoplimit", "Hop limit of packets sent.", ttl)
            .default("255")
            .range("1 to 255"),
        line(
            "max_hops",
            "How much lower than the own TTL that of a received packet may be; 255: as low as it \
             likes.",
            |raw: &mut RawBfd, line| {
                let value = byte(line, 0);
                line.set(&mut raw.max_hops, value);
            },
        )
        .default("0")
        .range("0 to 255"),
        flag(
            "multihop",
            "The neighbour is not on this link: RFC 5883's port.",
            |raw: &mut RawBfd, _| raw.multihop = true,
        )
        .default("off"),
        line(
            "weight",
            "Added to the priority (above 0 while the session is up, below 0 while it is down); \
             with 0 a session that is down is a fault.",
            |raw: &mut RawBfd, line| {
                let value = weight_within(line, WEIGHTS);
                line.set(&mut raw.weight, value);
            },
        )
        .params(1, 2)
        .default("0")
        .range("-253 to 253, then `reverse` or not"),
        flag(
            "vrrp",
            "Instances may track it; without `vrrp` and `checker` they may, too.",
            |raw: &mut RawBfd, line| raw.vrrp = Some(line.span()),
        ),
        flag(
            "checker",
            "Checkers may follow it; alone: instances do not.",
            |raw: &mut RawBfd, line| raw.checker = Some(line.span()),
        ),
    ]],
};

fn neighbor(raw: &mut RawBfd, line: &mut Line<'_>) {
    let value = line.ip(1);
    line.set(&mut raw.neighbor, value);
}

fn ttl(raw: &mut RawBfd, line: &mut Line<'_>) {
    let value = byte(line, 1);
    line.set(&mut raw.ttl, value);
}

fn byte(line: &mut Line<'_>, least: u64) -> Option<Spanned<u8>> {
    let value = line.number(1, least..=u64::from(u8::MAX))?;
    Some(value.map(|n| n as u8))
}
