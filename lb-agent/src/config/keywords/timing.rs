// SPDX-License-Identifier: MIT OR Apache-2.0
//! How checks are timed: keywords that stand in a virtual server, a real server and a check alike.

use std::time::Duration;

use super::super::args::Line;
use super::super::raw::RawTiming;

/// KEEPALIVED: the longest timer it reads, 2³² µs.
const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);
/// KEEPALIVED: a timer that cannot be 0.
const SHORTEST: Duration = Duration::from_micros(1);

pub(super) fn retry(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.number(1, 0..=u64::from(u32::MAX));
    line.set(&mut timing.retry, value.map(|v| v.map(|n| n as u32)));
}

pub(super) fn delay_before_retry(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.seconds(1, Duration::ZERO..=LONGEST);
    line.set(&mut timing.delay_before_retry, value);
}

pub(super) fn connect_timeout(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.seconds(1, SHORTEST..=LONGEST);
    line.set(&mut timing.connect_timeout, value);
}

pub(super) fn delay_loop(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.seconds(1, SHORTEST..=LONGEST);
    line.set(&mut timing.delay_loop, value);
}

pub(super) fn warmup(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.seconds(1, Duration::ZERO..=LONGEST);
    line.set(&mut timing.warmup, value);
}

pub(super) fn alpha(timing: &mut RawTiming, line: &mut Line<'_>) {
    let value = line.boolean(1);
    line.set(&mut timing.alpha, value);
}

/// The rows for a raw type that has a field `timing`.
macro_rules! rows {
    ($raw:ty) => {{
        use $crate::config::keyword::{Keyword, flag, line};
        use $crate::config::keywords::timing;
        const ROWS: &[Keyword<$raw>] = &[
            line(
                "retry",
                "Failures in a row that are forgiven.",
                |raw: &mut $raw, line| {
                    timing::retry(&mut raw.timing, line);
                },
            )
            .default("1"),
            line(
                "delay_before_retry",
                "Seconds between a failure and the next try.",
                |raw: &mut $raw, line| {
                    timing::delay_before_retry(&mut raw.timing, line);
                },
            )
            .default("1")
            .range("seconds"),
            line(
                "connect_timeout",
                "Seconds a connection may take.",
                |raw: &mut $raw, line| {
                    timing::connect_timeout(&mut raw.timing, line);
                },
            )
            .default("5")
            .range("0.000001 to 4294.967295 seconds"),
            line(
                "delay_loop",
                "Seconds between probes.",
                |raw: &mut $raw, line| {
                    timing::delay_loop(&mut raw.timing, line);
                },
            )
            .default("60")
            .range("0.000001 to 4294.967295 seconds"),
            line(
                "warmup",
                "The first probe starts at a random moment within these seconds.",
                |raw: &mut $raw, line| {
                    timing::warmup(&mut raw.timing, line);
                },
            )
            .default("delay_loop")
            .range("seconds"),
            flag(
                "alpha",
                "A real server starts as down until its first successful probe.",
                |raw: &mut $raw, line| {
                    timing::alpha(&mut raw.timing, line);
                },
            )
            .default("off"),
        ];
        ROWS
    }};
}
pub(super) use rows;
