// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `track_file` and `vrrp_track_process`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Keyword, Table, flag, line};
use super::super::model::{InitFile, ParamMatch};
use super::super::raw::{RawTrackFile, RawTrackProcess};
use super::tracking::weight_within;

/// KEEPALIVED: the factor of a file's number can be large.
const FACTORS: RangeInclusive<i32> = -i32::MAX..=i32::MAX;
const WEIGHTS: RangeInclusive<i32> = -254..=254;
const LONGEST: Duration = Duration::from_secs(3600);

const FILE: &[Keyword<RawTrackFile>] = &[
    line(
        "file",
        "Path of the file, whose first number counts.",
        |raw: &mut RawTrackFile, line| {
            let value = line.text(1);
            line.set(&mut raw.path, value);
        },
    ),
    line(
        "weight",
        "The number is multiplied by it and added to the priority; with 0 any other number than 0 is a fault.",
        |raw: &mut RawTrackFile, line| {
            let value = weight_within(line, FACTORS);
            line.set(&mut raw.weight, value);
        },
    )
    .params(1, 2)
    .default("1"),
    flag(
        "init_file",
        "Number to write at start, if the file is not there or `overwrite` follows.",
        init_file,
    )
    .params(0, 2),
];

/// `track_file`.
pub(crate) static TRACK_FILE: Table<RawTrackFile> = Table {
    path: "track_file",
    groups: &[FILE],
};

/// `vrrp_track_file`.
pub(crate) static VRRP_TRACK_FILE: Table<RawTrackFile> = Table {
    path: "vrrp_track_file",
    groups: &[FILE],
};

fn init_file(raw: &mut RawTrackFile, line: &mut Line<'_>) {
    let mut init = InitFile {
        value: 0,
        overwrite: false,
    };
    for index in 1..=2 {
        let Some(word) = line.word(index) else {
            break;
        };
        match (word.text.as_str(), word.text.parse()) {
            ("overwrite", _) => init.overwrite = true,
            (_, Ok(value)) => init.value = value,
            _ => line.invalid(word, "is no number"),
        }
    }
    let value = Spanned::new(init, line.span());
    line.set(&mut raw.init, Some(value));
}

/// `vrrp_track_process`.
pub(crate) static TRACK_PROCESS: Table<RawTrackProcess> = Table {
    path: "vrrp_track_process",
    groups: &[&[
        line(
            "process",
            "Name of the process, or its command with parameters.",
            process,
        )
        .params(1, usize::MAX),
        flag(
            "param_match",
            "How parameters are compared: `partial`, `initial`; alone: there are none.",
            |raw: &mut RawTrackProcess, line| {
                let value = if line.word(1).is_some() {
                    let choices = [
                        ("initial", ParamMatch::Initial),
                        ("partial", ParamMatch::Partial),
                    ];
                    line.choice(1, &choices)
                } else {
                    Some(Spanned::new(ParamMatch::None, line.span()))
                };
                line.set(&mut raw.params, value);
            },
        ),
        line(
            "weight",
            "Added to the priority (above 0 while enough run, below 0 while not); with 0 too few are a fault.",
            |raw: &mut RawTrackProcess, line| {
                let value = weight_within(line, WEIGHTS);
                line.set(&mut raw.weight, value);
            },
        )
        .params(1, 2)
        .default("1")
        .range("-254 to 254, then `reverse` or not"),
        line(
            "quorum",
            "How many must run.",
            |raw: &mut RawTrackProcess, line| {
                let value = count(line);
                line.set(&mut raw.quorum, value);
            },
        )
        .default("1"),
        line(
            "quorum_max",
            "How many may run.",
            |raw: &mut RawTrackProcess, line| {
                let value = count(line);
                line.set(&mut raw.quorum_max, value);
            },
        ),
        line(
            "delay",
            "Seconds before a change counts.",
            |raw: &mut RawTrackProcess, line| {
                let value = line.seconds(1, Duration::ZERO..=LONGEST);
                line.set(&mut raw.fork_delay, value);
                raw.terminate_delay = raw.fork_delay;
            },
        )
        .default("0"),
        line(
            "terminate_delay",
            "Seconds before an end counts.",
            |raw: &mut RawTrackProcess, line| {
                raw.terminate_delay = line.seconds(1, Duration::ZERO..=LONGEST);
            },
        )
        .default("0"),
        line(
            "fork_delay",
            "Seconds before a start counts.",
            |raw: &mut RawTrackProcess, line| {
                raw.fork_delay = line.seconds(1, Duration::ZERO..=LONGEST);
            },
        )
        .default("0"),
        flag(
            "full_command",
            "Compare the whole command line.",
            |raw: &mut RawTrackProcess, line| {
                let value = line.boolean(1);
                line.set(&mut raw.full_command, value);
            },
        )
        .default("off"),
    ]],
};

fn count(line: &mut Line<'_>) -> Option<Spanned<u32>> {
    let value = line.number(1, 0..=65535)?;
    Some(value.map(|n| n as u32))
}

/// KEEPALIVED: one quoted string is one word.
fn process(raw: &mut RawTrackProcess, line: &mut Line<'_>) {
    let words = line.item.words.iter().skip(1);
    let argv: Vec<String> = words.map(|word| word.text.clone()).collect();
    if argv.first().is_none_or(String::is_empty) {
        let span = line.span();
        line.ctx.report(Diagnostic::warning(
            Code::InvalidValue,
            span,
            format!("{} names no process", quoted(line.info.name)),
        ));
        return;
    }
    let value = Spanned::new(argv, line.span());
    line.set(&mut raw.argv, Some(value));
}
