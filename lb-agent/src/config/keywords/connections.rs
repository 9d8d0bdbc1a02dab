// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keywords of `global_defs` about connections: `lvs_timeouts`, and words of xlvs's own for what
//! IPVS has as `sysctl net.ipv4.vs` or as a module's parameter.

use std::time::Duration;

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{Keyword, Status, flag, line};
use super::super::model::Timeouts;
use super::super::raw::RawGlobal;

/// KEEPALIVED: the longest timeout of a connection.
const LONGEST: u64 = 31 * 86_400;
const MOST_CONNECTIONS: u64 = 1 << 24;

/// Rows of `global_defs`.
pub(super) const ROWS: &[Keyword<RawGlobal>] = &[
    line(
        "lvs_timeouts",
        "Seconds after which a silent connection is forgotten: `tcp N tcpfin N udp N`, each or not.",
        |raw: &mut RawGlobal, line| {
            let value = timeouts(line);
            line.set(&mut raw.lvs_timeouts, value);
        },
    )
    .params(2, 6)
    .default("tcp 900 tcpfin 120 udp 300")
    .range("1 to 2678400 seconds each"),
    line(
        "xlvs_connections",
        "How many connections the packet program has room for (IPVS: `conn_tab_bits`).",
        |raw: &mut RawGlobal, line| {
            let value = line.number(1, 1..=MOST_CONNECTIONS);
            line.set(&mut raw.connections, value.map(|v| v.map(|n| n as u32)));
        },
    )
    .default("1048576")
    .range("1 to 16777216")
    .status(Status::Own),
    line(
        "xlvs_watchdog",
        "Seconds after which the packet program stops forwarding if the agent is silent.",
        |raw: &mut RawGlobal, line| {
            let value = line.seconds(1, Duration::from_secs(1)..=Duration::from_hours(1));
            line.set(&mut raw.watchdog, value);
        },
    )
    .default("10")
    .range("1 to 3600 seconds")
    .status(Status::Own),
    flag(
        "expire_nodest_conn",
        "A connection to a real server that was removed ends at its next packet.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.expire_nodest_conn, value);
        },
    )
    .default("off")
    .status(Status::Own),
    flag(
        "expire_quiescent_template",
        "Persistence sends no new connection to a real server of weight 0.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.expire_quiescent_template, value);
        },
    )
    .default("off")
    .status(Status::Own),
    flag(
        "sloppy_tcp",
        "Any TCP packet opens a connection, not a SYN alone.",
        |raw: &mut RawGlobal, line| {
            let value = line.boolean(1);
            line.set(&mut raw.sloppy_tcp, value);
        },
    )
    .default("off")
    .status(Status::Own),
];

fn timeouts(line: &mut Line<'_>) -> Option<Spanned<Timeouts>> {
    let mut timeouts = Timeouts::default();
    let mut at = 1;
    while let Some(word) = line.word(at) {
        let field = match word.text.as_str() {
            "tcp" => &mut timeouts.tcp,
            "tcpfin" => &mut timeouts.tcp_fin,
            "udp" => &mut timeouts.udp,
            _ => {
                line.ctx.report(
                    Diagnostic::warning(
                        Code::InvalidValue,
                        word.span,
                        format!(
                            "`lvs_timeouts`: {} is none of tcp, tcpfin, udp; the rest of the line is ignored",
                            quoted(&word.text)
                        ),
                    )
                    .hint("it can be: tcp N tcpfin N udp N"),
                );
                break;
            }
        };
        if line.word(at + 1).is_none() {
            line.invalid(word, "needs a number of seconds behind it");
            break;
        }
        if let Some(seconds) = line.number(at + 1, 1..=LONGEST) {
            *field = Some(Duration::from_secs(seconds.value));
        }
        at += 2;
    }
    (timeouts != Timeouts::default()).then(|| Spanned::new(timeouts, line.span()))
}
