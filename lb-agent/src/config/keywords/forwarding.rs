// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which real server, and how packets get there: schedulers, their flags, forwarding methods.

use super::super::args::{Line, Spanned};
use super::super::diag::{Code, Diagnostic, quoted};
use super::super::keyword::{ANY, Keyword, flag, line};
use super::super::lexer::Word;
use super::super::model::{ForwardMethod, GueChecksum, Protocol, Scheduler, Tunnel};
use super::super::raw::{Choice, FlagBit, RawFlag, RawVirtualServer};

/// What a forwarding method can be, as printed.
pub(super) const METHOD_RANGE: &str =
    "NAT, DR, TUN [type ipip | gue port N [nocsum, csum, remcsum] | gre [nocsum, csum]]";

/// Rows of `virtual_server`.
pub(super) const ROWS: &[Keyword<RawVirtualServer>] = &[
    line(
        "lb_algo",
        "Which real server takes a new connection.",
        scheduler,
    )
    .default("wlc")
    .range(SCHEDULER_RANGE),
    line("lvs_sched", "Another name of `lb_algo`.", scheduler)
        .default("wlc")
        .range(SCHEDULER_RANGE),
    line(
        "lb_kind",
        "How packets reach the real servers.",
        forward_method,
    )
    .params(1, ANY)
    .default("NAT")
    .range(METHOD_RANGE),
    line("lvs_method", "Another name of `lb_kind`.", forward_method)
        .params(1, ANY)
        .default("NAT")
        .range(METHOD_RANGE),
    line(
        "protocol",
        "Protocol of the service.",
        |service: &mut RawVirtualServer, line| {
            let value = protocol(line);
            line.set(&mut service.protocol, value);
        },
    )
    .default("UDP")
    .range("TCP, UDP, SCTP"),
    flag(
        "ops",
        "Schedule each UDP packet for itself.",
        |service: &mut RawVirtualServer, line| {
            let value = Spanned::new(true, line.span());
            line.set(&mut service.one_packet, Some(value));
        },
    )
    .default("off"),
    scheduler_flag(
        "sh-port",
        "The scheduler sh hashes the client's port, too.",
        |service: &mut RawVirtualServer, line| {
            add_flag(service, line, Some(Scheduler::Sh), FlagBit::Port);
        },
    ),
    scheduler_flag(
        "sh-fallback",
        "The scheduler sh tries another server when the hash's is not usable.",
        |service: &mut RawVirtualServer, line| {
            add_flag(service, line, Some(Scheduler::Sh), FlagBit::Fallback);
        },
    ),
    scheduler_flag(
        "mh-port",
        "The scheduler mh hashes the client's port, too.",
        |service: &mut RawVirtualServer, line| {
            add_flag(service, line, Some(Scheduler::Mh), FlagBit::Port);
        },
    ),
    scheduler_flag(
        "mh-fallback",
        "The scheduler mh tries another server when the hash's is not usable.",
        |service: &mut RawVirtualServer, line| {
            add_flag(service, line, Some(Scheduler::Mh), FlagBit::Fallback);
        },
    ),
    scheduler_flag(
        "flag-1",
        "First flag of the scheduler: `sh-fallback`, `mh-fallback`.",
        |service: &mut RawVirtualServer, line| add_flag(service, line, None, FlagBit::Fallback),
    ),
    scheduler_flag(
        "flag-2",
        "Second flag of the scheduler: `sh-port`, `mh-port`.",
        |service: &mut RawVirtualServer, line| add_flag(service, line, None, FlagBit::Port),
    ),
    scheduler_flag(
        "flag-3",
        "Third flag of the scheduler, which none of them has.",
        |service: &mut RawVirtualServer, line| add_flag(service, line, None, FlagBit::Third),
    ),
];

const SCHEDULER_RANGE: &str =
    "rr, wrr, lc, wlc, sed, nq, sh, dh, mh (maglev), fo, ovf, lblc, lblcr";

const SCHEDULERS: [(&str, Choice<Scheduler>); 15] = [
    ("rr", Choice::Done(Scheduler::Rr)),
    ("wrr", Choice::Done(Scheduler::Wrr)),
    ("lc", Choice::Done(Scheduler::Lc)),
    ("wlc", Choice::Done(Scheduler::Wlc)),
    ("sed", Choice::Done(Scheduler::Sed)),
    ("nq", Choice::Done(Scheduler::Nq)),
    ("sh", Choice::Done(Scheduler::Sh)),
    ("dh", Choice::Done(Scheduler::Dh)),
    ("mh", Choice::Done(Scheduler::Mh)),
    ("maglev", Choice::Done(Scheduler::Mh)),
    ("fo", Choice::Done(Scheduler::Fo)),
    ("ovf", Choice::Done(Scheduler::Ovf)),
    ("lblc", Choice::Done(Scheduler::Lblc)),
    ("lblcr", Choice::Done(Scheduler::Lblcr)),
    ("twos", Choice::NotYet("twos")),
];

#[derive(Clone, Copy)]
enum Kind {
    Nat,
    Dr,
    Tun,
}

const METHODS: [(&str, Kind); 3] = [("NAT", Kind::Nat), ("DR", Kind::Dr), ("TUN", Kind::Tun)];

const fn scheduler_flag(
    name: &'static str,
    doc: &'static str,
    apply: super::super::keyword::Apply<RawVirtualServer>,
) -> Keyword<RawVirtualServer> {
    line(name, doc, apply).params(0, 0).default("off")
}

fn add_flag(
    service: &mut RawVirtualServer,
    line: &Line<'_>,
    only: Option<Scheduler>,
    bit: FlagBit,
) {
    let name = line.info.name;
    service
        .flags
        .push(Spanned::new(RawFlag { name, only, bit }, line.span()));
}

fn scheduler(service: &mut RawVirtualServer, line: &mut Line<'_>) {
    let value = line.choice(1, &SCHEDULERS);
    line.set(&mut service.scheduler, value);
}

fn forward_method(service: &mut RawVirtualServer, line: &mut Line<'_>) {
    let value = method(line);
    line.set(&mut service.method, value);
}

/// KEEPALIVED: in capitals or not.
fn protocol(line: &mut Line<'_>) -> Option<Spanned<Protocol>> {
    const PROTOCOLS: [(&str, Protocol); 3] = [
        ("TCP", Protocol::Tcp),
        ("UDP", Protocol::Udp),
        ("SCTP", Protocol::Sctp),
    ];
    let word = line.word(1)?;
    PROTOCOLS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(&word.text))
        .map(|(_, protocol)| Spanned::new(*protocol, word.span))
        .or_else(|| line.choice(1, &PROTOCOLS))
}

/// `NAT`, `DR` or `TUN` with its options.
pub(super) fn method(line: &mut Line<'_>) -> Option<Spanned<ForwardMethod>> {
    let kind = line.choice(1, &METHODS)?;
    let method = match kind.value {
        Kind::Tun => ForwardMethod::Tun(tunnel(line)?),
        kind => {
            if let Some(word) = line.word(2) {
                let span = word.span;
                line.ctx.report(Diagnostic::warning(
                    Code::ExtraWords,
                    span,
                    "only TUN has options; these are ignored",
                ));
            }
            match kind {
                Kind::Nat => ForwardMethod::Nat,
                _ => ForwardMethod::Dr,
            }
        }
    };
    Some(Spanned::new(method, kind.span))
}

/// The options of TUN, as their words say them.
#[derive(Default)]
struct Options<'a> {
    kind: Option<&'a Word>,
    port: Option<(&'a Word, u16)>,
    checksum: Option<(&'a Word, GueChecksum)>,
}

/// KEEPALIVED: with options that do not go together the line counts for nothing.
fn tunnel(line: &mut Line<'_>) -> Option<Tunnel> {
    let options = options(line)?;
    let refuse = |line: &mut Line<'_>, word: &Word, why: &str| {
        line.invalid(word, why);
        None
    };
    let checksum = options.checksum.map(|(_, checksum)| checksum);
    match options.kind.map_or("ipip", |word| word.text.as_str()) {
        "gue" => match options.port {
            Some((_, port)) => Some(Tunnel::Gue {
                port,
                checksum: checksum.unwrap_or_default(),
            }),
            None => refuse(line, options.kind?, "needs a port"),
        },
        kind => match (options.port, options.checksum) {
            (Some((word, _)), _) | (None, Some((word, GueChecksum::Remote))) => {
                refuse(line, word, "is for gue only")
            }
            (None, Some((word, GueChecksum::Full))) if kind == "ipip" => {
                refuse(line, word, "is for gue and gre only")
            }
            (None, _) if kind == "gre" => Some(Tunnel::Gre {
                checksum: checksum == Some(GueChecksum::Full),
            }),
            (None, _) => Some(Tunnel::Ipip),
        },
    }
}

fn options<'a>(line: &mut Line<'a>) -> Option<Options<'a>> {
    let mut options = Options::default();
    let mut at = 2;
    while let Some(word) = line.word(at) {
        let checksum = match word.text.as_str() {
            "nocsum" => Some(GueChecksum::None),
            "csum" => Some(GueChecksum::Full),
            "remcsum" => Some(GueChecksum::Remote),
            _ => None,
        };
        at += 1;
        match (word.text.as_str(), checksum) {
            (_, Some(checksum)) => options.checksum = Some((word, checksum)),
            ("type", _) => {
                let Some(kind) = line.word(at) else {
                    line.invalid(word, "needs one of ipip, gue, gre behind it");
                    return None;
                };
                if !matches!(kind.text.as_str(), "ipip" | "gue" | "gre") {
                    line.invalid(kind, "is none of ipip, gue, gre");
                    return None;
                }
                options.kind = Some(kind);
                at += 1;
            }
            ("port", _) => {
                let port = line.number(at, 1..=u64::from(u16::MAX));
                let Some(port) = port else {
                    if line.word(at).is_none() {
                        line.invalid(word, "needs a number behind it");
                    }
                    return None;
                };
                options.port = Some((word, port.value as u16));
                at += 1;
            }
            _ => {
                line.invalid(word, &format!("is no option of {}", quoted("TUN")));
                return None;
            }
        }
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use super::super::super::parse;
    use super::*;

    /// The method that `lb_kind` with these words gives, and what is said about it.
    fn method_of(words: &str) -> (Option<ForwardMethod>, Vec<String>) {
        let loaded = parse(
            "t",
            &format!(
                "virtual_server 192.0.2.1 80 {{\nlb_algo rr\nprotocol TCP\nlb_kind {words}\n\
                 real_server 192.0.2.2 80 {{\nTCP_CHECK {{\n}}\n}}\n}}\n"
            ),
        );
        let servers = loaded
            .config
            .virtual_servers
            .first()
            .map(|vs| &vs.real_servers);
        (
            servers.and_then(|servers| Some(servers.first()?.method)),
            loaded.diagnostics.into_iter().map(|d| d.message).collect(),
        )
    }

    #[test]
    fn tunnels_have_their_types_and_checksums() {
        let gue = |checksum| {
            ForwardMethod::Tun(Tunnel::Gue {
                port: 6080,
                checksum,
            })
        };
        let gre = |checksum| ForwardMethod::Tun(Tunnel::Gre { checksum });
        for (words, method) in [
            ("NAT", ForwardMethod::Nat),
            ("DR", ForwardMethod::Dr),
            ("TUN", ForwardMethod::Tun(Tunnel::Ipip)),
            ("TUN type ipip", ForwardMethod::Tun(Tunnel::Ipip)),
            ("TUN type gue port 6080", gue(GueChecksum::None)),
            ("TUN type gue port 6080 csum", gue(GueChecksum::Full)),
            ("TUN remcsum port 6080 type gue", gue(GueChecksum::Remote)),
            ("TUN type gre", gre(false)),
            ("TUN type gre nocsum", gre(false)),
            ("TUN type gre csum", gre(true)),
        ] {
            assert_eq!(method_of(words), (Some(method), vec![]), "{words}");
        }
    }

    #[test]
    fn tunnel_options_that_do_not_go_together_leave_the_default() {
        for words in [
            "TUN type gue",
            "TUN type gre port 7",
            "TUN port 7",
            "TUN type ipip csum",
            "TUN type gre remcsum",
            "TUN type",
            "TUN type l2tp",
            "TUN type gue port",
            "TUN type gue port 70000",
            "TUN fast",
        ] {
            let (method, said) = method_of(words);
            assert_eq!(method, Some(ForwardMethod::Nat), "{words}");
            assert_eq!(said.len(), 2, "the words, and the default: {said:?}");
        }
    }
}
