// SPDX-License-Identifier: MIT OR Apache-2.0
//! When addresses are announced and how adverts are exchanged: keywords that `vrrp_instance` and,
//! behind `vrrp_`, `global_defs` have in common; and `garp_group`.

use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic};
use super::super::keyword::{Table, block, line};
use super::super::raw::RawSpacing;
use super::top;

/// KEEPALIVED: the longest timer it reads, 2³² µs, in whole seconds here.
const LONGEST_SECONDS: u64 = 4294;
const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);

/// Whole seconds.
pub(super) fn seconds(line: &mut Line<'_>) -> Option<Spanned<Duration>> {
    let value = line.number(1, 0..=LONGEST_SECONDS)?;
    Some(value.map(Duration::from_secs))
}

/// Packets of a round, `least` at least.
///
/// KEEPALIVED: a 0 where there must be one is taken for 1.
pub(super) fn packets(line: &mut Line<'_>, least: u32) -> Option<Spanned<u32>> {
    let value = line.number(1, 0..=u64::from(u32::MAX))?;
    let value = value.map(|n| n as u32);
    if value.value < least {
        line.ctx.report(Diagnostic::warning(
            Code::OutOfRange,
            value.span,
            format!("`{}` must be greater than 0; 1 is used", line.info.name),
        ));
    }
    Some(value.map(|n| n.max(least)))
}

/// Adverts that may be missing.
pub(super) fn adverts(line: &mut Line<'_>) -> Option<Spanned<u8>> {
    let value = line.number(1, 1..=100)?;
    Some(value.map(|n| n as u8))
}

/// Time between two packets.
///
/// KEEPALIVED: refuses 0, which most files descended from CentOS's have and which means none.
pub(super) fn spacing(line: &mut Line<'_>) -> Option<Spanned<Duration>> {
    line.seconds(1, Duration::ZERO..=LONGEST)
}

/// The rows for a raw type that has fields `garp` and `exchange`, each name behind `$prefix`.
macro_rules! rows {
    ($raw:ty, $prefix:literal) => {{
        use $crate::config::keyword::{Keyword, flag, line};
        use $crate::config::keywords::announcing::{adverts, packets, seconds};
        const ROWS: &[Keyword<$raw>] = &[
            line(
                concat!($prefix, "garp_master_delay"),
                "Seconds between a takeover and the second round of gratuitous ARP; 0 for none.",
                |raw: &mut $raw, line| {
                    let value = seconds(line);
                    line.set(&mut raw.garp.delay, value);
                },
            )
            .default("5")
            .range("0 to 4294 seconds"),
            line(
                concat!($prefix, "garp_master_repeat"),
                "Packets for an address in a round after a takeover.",
                |raw: &mut $raw, line| {
                    let value = packets(line, 1);
                    line.set(&mut raw.garp.repeat, value);
                },
            )
            .default("5"),
            line(
                concat!($prefix, "garp_master_refresh"),
                "Seconds between refreshing rounds of a master; 0 for none.",
                |raw: &mut $raw, line| {
                    let value = seconds(line);
                    line.set(&mut raw.garp.refresh, value);
                },
            )
            .default("0")
            .range("0 to 4294 seconds"),
            line(
                concat!($prefix, "garp_master_refresh_repeat"),
                "Packets for an address in a refreshing round.",
                |raw: &mut $raw, line| {
                    let value = packets(line, 1);
                    line.set(&mut raw.garp.refresh_repeat, value);
                },
            )
            .default("1"),
            line(
                concat!($prefix, "garp_lower_prio_delay"),
                "Seconds between hearing a master of lower priority and the second round; 0 for none.",
                |raw: &mut $raw, line| {
                    let value = seconds(line);
                    line.set(&mut raw.garp.lower_delay, value);
                },
            )
            .default(concat!($prefix, "garp_master_delay"))
            .range("0 to 4294 seconds"),
            line(
                concat!($prefix, "garp_lower_prio_repeat"),
                "Packets for an address in a round after hearing a master of lower priority; 0 for none.",
                |raw: &mut $raw, line| {
                    let value = packets(line, 0);
                    line.set(&mut raw.garp.lower_repeat, value);
                },
            )
            .default(concat!($prefix, "garp_master_repeat")),
            line(
                concat!($prefix, "down_timer_adverts"),
                "Missed adverts that make a master dead.",
                |raw: &mut $raw, line| {
                    let value = adverts(line);
                    line.set(&mut raw.exchange.down_adverts, value);
                },
            )
            .default("3")
            .range("1 to 100"),
            flag(
                concat!($prefix, "lower_prio_no_advert"),
                "A master does not answer one of lower priority.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.exchange.lower_no_advert, value);
                },
            )
            .default("off"),
            flag(
                concat!($prefix, "higher_prio_send_advert"),
                "A master that yields to a higher priority sends a last advert, so that the other one announces the addresses again.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.exchange.higher_send_advert, value);
                },
            )
            .default("on, in strict mode off"),
            flag(
                concat!($prefix, "owner_ignore_adverts"),
                "The owner of the addresses ignores adverts.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.exchange.owner_ignores, value);
                },
            )
            .default("off"),
            flag(
                concat!($prefix, "check_unicast_src"),
                "Take unicast adverts from peers only.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.exchange.check_src, value);
                },
            )
            .default("off; on with min_ttl or max_ttl"),
            flag(
                concat!($prefix, "skip_check_adv_addr"),
                "Compare an advert's addresses only when its sender is another one than before.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.exchange.skip_addresses, value);
                },
            )
            .default("off"),
        ];
        ROWS
    }};
}
pub(super) use rows;

/// `garp_group`.
pub(crate) static GARP_GROUP: Table<RawSpacing> = Table {
    path: "garp_group",
    groups: &[&[
        line(
            "garp_interval",
            "Seconds between gratuitous ARP packets of these interfaces.",
            |raw: &mut RawSpacing, line| {
                let value = spacing(line);
                line.set(&mut raw.garp, value);
            },
        )
        .default("vrrp_garp_interval"),
        line(
            "gna_interval",
            "Seconds between neighbour advertisements of these interfaces.",
            |raw: &mut RawSpacing, line| {
                let value = spacing(line);
                line.set(&mut raw.gna, value);
            },
        )
        .default("vrrp_gna_interval"),
        line(
            "interface",
            "An interface with this spacing.",
            |raw: &mut RawSpacing, line| raw.interfaces.extend(line.text(1)),
        ),
        block(
            "interfaces",
            "Interfaces that share this spacing.",
            |raw: &mut RawSpacing, item, _| raw.interfaces.extend(top::words(item)),
        ),
    ]],
};
