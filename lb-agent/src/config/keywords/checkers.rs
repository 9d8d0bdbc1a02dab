// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of the checkers. `TCP_CHECK` is done; the others are known, so that their words are
//! checked, and refused on their real server (see `real_server`).

use super::super::args::Line;
use super::super::diag::{Code, Diagnostic};
use super::super::keyword::{Keyword, Status, Table, flag, line, off, off_block, off_flag};
use super::super::raw::RawCheck;
use super::timing;

/// `TCP_CHECK`.
pub(crate) static TCP_CHECK: Table<RawCheck> = Table {
    path: "virtual_server/real_server/TCP_CHECK",
    groups: &[CONNECT, timing::rows!(RawCheck), TCP_ONLY],
};

const TCP_ONLY: &[Keyword<RawCheck>] = &[line(
    "nb_get_retry",
    "Old name of `retry` in HTTP_GET; taken as `retry` here.",
    |check: &mut RawCheck, line| {
        // KEEPALIVED: unknown in TCP_CHECK, although many files have it; its 1 retry then holds.
        let span = line.span();
        line.ctx.report(
            Diagnostic::warning(
                Code::MisplacedKeyword,
                span,
                "`nb_get_retry` is no keyword of `TCP_CHECK`; it is taken as `retry`",
            )
            .hint("keepalived ignores it and tries twice in all; write `retry`"),
        );
        timing::retry(&mut check.timing, line);
    },
)
.default("1")];

const CONNECT: &[Keyword<RawCheck>] = &[
    line(
        "connect_ip",
        "Address to probe.",
        |check: &mut RawCheck, line| {
            let value = line.ip(1);
            line.set(&mut check.connect_ip, value);
        },
    )
    .default("the real server's"),
    line(
        "connect_port",
        "Port to probe.",
        |check: &mut RawCheck, line| {
            let value = port(line);
            line.set(&mut check.connect_port, value);
        },
    )
    .default("the real server's")
    .range("1 to 65535"),
    line(
        "bindto",
        "Source address of the probe.",
        |check: &mut RawCheck, line| {
            let value = line.ip(1);
            line.set(&mut check.bindto, value);
        },
    ),
    line(
        "bind_port",
        "Source port of the probe.",
        |check: &mut RawCheck, line| {
            let value = port(line);
            line.set(&mut check.bind_port, value);
        },
    )
    .range("1 to 65535"),
    line(
        "bind_if",
        "Interface of the probe.",
        |check: &mut RawCheck, line| {
            let value = line.text(1);
            line.set(&mut check.bind_if, value);
        },
    ),
    line(
        "fwmark",
        "Firewall mark of the probe's packets.",
        |check: &mut RawCheck, line| {
            let value = line.number(1, 0..=u64::from(u32::MAX));
            line.set(&mut check.fwmark, value.map(|v| v.map(|n| n as u32)));
        },
    )
    .default("0"),
    flag(
        "log_all_failures",
        "Log failures that are forgiven, too.",
        |check: &mut RawCheck, line| {
            let value = line.boolean(1);
            line.set(&mut check.log_all_failures, value);
        },
    )
    .default("off"),
];

fn port(line: &mut Line<'_>) -> Option<super::super::args::Spanned<u16>> {
    line.number(1, 1..=u64::from(u16::MAX))
        .map(|v| v.map(|n| n as u16))
}

/// Inside a checker that is refused as a whole, a word needs no word of its own.
const REFUSED: Status = Status::Refused("its checker is not there yet");

macro_rules! checker {
    ($name:literal, $rows:expr) => {
        Table {
            path: concat!("virtual_server/real_server/", $name),
            groups: &[CONNECT, timing::rows!(RawCheck), $rows],
        }
    };
}

pub(super) static HTTP_GET: Table<RawCheck> = checker!("HTTP_GET|SSL_GET", HTTP_ONLY);
pub(super) static SMTP_CHECK: Table<RawCheck> = checker!("SMTP_CHECK", SMTP_ONLY);
pub(super) static DNS_CHECK: Table<RawCheck> = checker!("DNS_CHECK", DNS_ONLY);
pub(super) static UDP_CHECK: Table<RawCheck> = checker!("UDP_CHECK", UDP_ONLY);
pub(super) static PING_CHECK: Table<RawCheck> = checker!("PING_CHECK", &[]);
pub(super) static MISC_CHECK: Table<RawCheck> = checker!("MISC_CHECK", MISC_ONLY);
pub(super) static FILE_CHECK: Table<RawCheck> = checker!("FILE_CHECK", FILE_ONLY);
pub(super) static BFD_CHECK: Table<RawCheck> = checker!("BFD_CHECK", BFD_ONLY);
static URL: Table<RawCheck> = Table {
    path: "virtual_server/real_server/HTTP_GET|SSL_GET/url",
    groups: &[URL_ROWS],
};
static SMTP_HOST: Table<RawCheck> = Table {
    path: "virtual_server/real_server/SMTP_CHECK/host",
    groups: &[CONNECT],
};

/// Tables of the checkers that are refused.
pub(super) static OTHERS: [&Table<RawCheck>; 10] = [
    &HTTP_GET,
    &URL,
    &SMTP_CHECK,
    &SMTP_HOST,
    &DNS_CHECK,
    &UDP_CHECK,
    &PING_CHECK,
    &MISC_CHECK,
    &FILE_CHECK,
    &BFD_CHECK,
];

const HTTP_ONLY: &[Keyword<RawCheck>] = &[
    off_block("url", "A page to ask for.", REFUSED)
        .within(|_, item, ctx| ctx.walk(&URL, item, &mut RawCheck::default())),
    line(
        "nb_get_retry",
        "Old name of `retry`.",
        |check: &mut RawCheck, line| {
            let span = line.span();
            line.ctx.report(
                Diagnostic::warning(Code::MisplacedKeyword, span, "`nb_get_retry` is deprecated")
                    .hint("write `retry`"),
            );
            timing::retry(&mut check.timing, line);
        },
    )
    .default("1"),
    off("http_protocol", "Version of HTTP to speak.", REFUSED),
    off_flag(
        "enable_sni",
        "Send the server's name in the TLS handshake.",
        REFUSED,
    ),
    off("sni_name", "Name to send in the TLS handshake.", REFUSED),
    off("virtualhost", "Host header of the request.", REFUSED),
    off_flag("fast_recovery", "Mark up after the first success.", REFUSED),
    off_flag(
        "tls_compliant",
        "Treat a missing TLS close as an error.",
        REFUSED,
    ),
];

const URL_ROWS: &[Keyword<RawCheck>] = &[
    off("path", "Path of the page.", REFUSED),
    off("digest", "MD5 of the page.", REFUSED),
    off(
        "status_code",
        "Status codes that count as success.",
        REFUSED,
    ),
    off("virtualhost", "Host header of the request.", REFUSED),
    off("regex", "Text that the page must hold.", REFUSED),
    off_flag(
        "regex_no_match",
        "The page must not hold the text.",
        REFUSED,
    ),
    off("regex_options", "Options of the text search.", REFUSED),
    off("regex_min_offset", "Where the search begins.", REFUSED),
    off("regex_max_offset", "Where the search ends.", REFUSED),
    off("regex_stack", "Stack of the search.", REFUSED),
    off_flag(
        "tls_compliant",
        "Treat a missing TLS close as an error.",
        REFUSED,
    ),
];

const SMTP_ONLY: &[Keyword<RawCheck>] = &[
    off("helo_name", "Name to say in HELO.", REFUSED),
    off_block("host", "A mail server to probe.", REFUSED)
        .within(|_, item, ctx| ctx.walk(&SMTP_HOST, item, &mut RawCheck::default())),
];

const DNS_ONLY: &[Keyword<RawCheck>] = &[
    off("type", "Type of the query.", REFUSED).default("SOA"),
    off("name", "Name to ask for.", REFUSED).default("."),
];

const UDP_ONLY: &[Keyword<RawCheck>] = &[
    off("payload", "Bytes to send, in hexadecimal.", REFUSED),
    off_flag("require_reply", "Fail without a reply.", REFUSED),
    off("min_reply_length", "Shortest reply.", REFUSED),
    off("max_reply_length", "Longest reply.", REFUSED),
];

const MISC_ONLY: &[Keyword<RawCheck>] = &[
    off("misc_path", "Program to run.", REFUSED),
    off("misc_timeout", "Seconds it may run.", REFUSED),
    off_flag("misc_dynamic", "Its exit status sets the weight.", REFUSED),
    off("user", "User it runs as.", REFUSED),
];

const FILE_ONLY: &[Keyword<RawCheck>] = &[
    off("track_file", "Tracked file to follow.", REFUSED),
    off("weight", "Factor of the file's number.", REFUSED),
];

const BFD_ONLY: &[Keyword<RawCheck>] = &[off("name", "BFD session to follow.", REFUSED)];
