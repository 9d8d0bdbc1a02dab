// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `global_defs` about mail.

use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Keyword, block, flag, line};
use super::super::raw::RawGlobal;
use super::top;

const SMTP_PORT: u16 = 25;
const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);

pub(super) const ROWS: &[Keyword<RawGlobal>] = &[
    block(
        "notification_email",
        "Who gets mail.",
        |raw: &mut RawGlobal, item, ctx| {
            for address in top::words(item) {
                if address.value.contains('@') {
                    raw.mail.to.push(address);
                } else {
                    ctx.report(Diagnostic::warning(
                        Code::InvalidValue,
                        address.span,
                        format!(
                            "{} is no mail address; it is ignored",
                            quoted(&address.value)
                        ),
                    ));
                }
            }
        },
    ),
    line(
        "notification_email_from",
        "Sender of mail.",
        |raw: &mut RawGlobal, line| {
            let value = line.text(1);
            line.set(&mut raw.mail.from, value);
        },
    )
    .default("keepalived@ the host name"),
    line("smtp_server", "Mail server, and its port.", server)
        .params(1, 2)
        .default("127.0.0.1 25"),
    line(
        "smtp_helo_name",
        "Name to say in HELO.",
        |raw: &mut RawGlobal, line| {
            let value = line.text(1);
            line.set(&mut raw.mail.helo, value);
        },
    )
    .default("the host name"),
    line(
        "smtp_connect_timeout",
        "Seconds a connection to the mail server may take.",
        |raw: &mut RawGlobal, line| {
            let value = line.seconds(1, Duration::from_secs(1)..=LONGEST);
            line.set(&mut raw.mail.timeout, value);
        },
    )
    .default("30"),
    flag(
        "smtp_alert",
        "Send mail for everything that does not say otherwise.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.mail.alert, value);
        },
    )
    .default("off"),
    flag(
        "smtp_alert_vrrp",
        "Send mail for instances and groups that do not say otherwise.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.mail.alert_vrrp, value);
        },
    )
    .default("smtp_alert"),
    flag(
        "no_email_faults",
        "Send no mail for faults.",
        |raw: &mut RawGlobal, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut raw.mail.no_faults, Some(value));
        },
    )
    .default("off"),
];

fn server(raw: &mut RawGlobal, line: &mut Line<'_>) {
    let Some(host) = line.text(1) else { return };
    let port = line.number(2, 1..=65535);
    let port = port.map_or(SMTP_PORT, |port| port.value as u16);
    line.set(&mut raw.mail.server, Some(host.map(|host| (host, port))));
}
