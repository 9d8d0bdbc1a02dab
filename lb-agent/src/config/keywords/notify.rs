// SPDX-License-Identifier: MIT OR Apache-2.0
//! `notify…`: the keywords that `vrrp_instance` and `vrrp_sync_group` have in common.

use super::super::args::{Line, Spanned};
use super::super::model::Program;
use super::tracking;

/// `PROGRAM [USER [GROUP]]`.
pub(super) fn program(line: &mut Line<'_>) -> Option<Spanned<Program>> {
    let argv = tracking::program(line)?;
    let user = tracking::run_as(line, 2).map(|user| user.value);
    Some(argv.map(|argv| Program { argv, user }))
}

/// The rows for a raw type that has a field `notify`.
macro_rules! rows {
    ($raw:ty) => {{
        use $crate::config::keyword::{Keyword, flag, line};
        use $crate::config::keywords::notify::program;
        const ROWS: &[Keyword<$raw>] = &[
            line(
                "notify",
                "Program to run on every change, after the others, with four more arguments: \
                 INSTANCE or GROUP, name, state, priority.",
                |raw: &mut $raw, line| {
                    let value = program(line);
                    line.set(&mut raw.notify.any, value);
                },
            )
            .params(1, 3),
            line(
                "notify_master",
                "Program to run when it becomes master.",
                |raw: &mut $raw, line| {
                    let value = program(line);
                    line.set(&mut raw.notify.master, value);
                },
            )
            .params(1, 3),
            line(
                "notify_backup",
                "Program to run when it becomes backup.",
                |raw: &mut $raw, line| {
                    let value = program(line);
                    line.set(&mut raw.notify.backup, value);
                },
            )
            .params(1, 3),
            line(
                "notify_fault",
                "Program to run on a fault.",
                |raw: &mut $raw, line| {
                    let value = program(line);
                    line.set(&mut raw.notify.fault, value);
                },
            )
            .params(1, 3),
            line(
                "notify_stop",
                "Program to run at the end.",
                |raw: &mut $raw, line| {
                    let value = program(line);
                    line.set(&mut raw.notify.stop, value);
                },
            )
            .params(1, 3),
            flag(
                "notify_priority_changes",
                "Tell the FIFO of priority changes.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.notify.priority_changes, value);
                },
            )
            .default("vrrp_notify_priority_changes"),
            flag(
                "smtp_alert",
                "Send mail on changes.",
                |raw: &mut $raw, line| {
                    let value = line.boolean(1);
                    line.set(&mut raw.notify.mail, value);
                },
            )
            .default("smtp_alert_vrrp"),
        ];
        ROWS
    }};
}
pub(super) use rows;
