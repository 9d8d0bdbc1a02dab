// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs trace`: where a packet would go, and why; `--follow` is in `follow.rs`.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lb_common::state::{sctp, tcp};

use super::follow;
use crate::config::model::Protocol;
use crate::control::{ControlArgs, Request, Response, client};
use crate::dataplane::follow::End;
use crate::dataplane::{Answer, Question, Wanted};

#[derive(Clone, Copy, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Args)]
pub(super) struct TraceArgs {
    /// Follow live packets until interrupted, instead of asking about one that never was
    #[arg(long, conflicts_with_all = ["flags", "payload", "interface"])]
    follow: bool,
    /// Protocol [default: tcp; with --follow, any]
    #[arg(long, value_enum)]
    proto: Option<Proto>,
    /// Source address and port; with --follow, the port may be left out, or both
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "follow")]
    from: Option<End>,
    /// Destination address and port; with --follow, the port may be left out, or both
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "follow")]
    to: Option<End>,
    /// TCP flags: any of S A F R P
    #[arg(long, value_name = "FLAGS", default_value = "S")]
    flags: String,
    /// Bytes behind the transport header
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=9000))]
    payload: u16,
    /// Interface that the packet comes in by [default: the first that the program is attached to]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// With --follow: only packets with this verdict, as `xlvs status` names it
    #[arg(long, value_name = "VERDICT", requires = "follow", value_parser = reason)]
    reason: Option<String>,
    /// With --follow: end after so many packets
    #[arg(long, value_name = "N", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print JSON; with --follow, an object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

fn reason(name: &str) -> Result<String, String> {
    crate::dataplane::follow::verdict(name).map(|verdict| verdict.name().to_owned())
}

/// An end with the port that a question needs.
fn socket(end: Option<End>, option: &str) -> Result<SocketAddr> {
    match end {
        Some(End {
            address,
            port: Some(port),
        }) => Ok(SocketAddr::new(address, port)),
        _ => bail!("--{option} needs a port: ADDR:PORT"),
    }
}

pub(super) fn run(args: TraceArgs) -> Result<()> {
    let protocol = args.proto.map(|proto| match proto {
        Proto::Tcp => Protocol::Tcp,
        Proto::Udp => Protocol::Udp,
        Proto::Sctp => Protocol::Sctp,
    });
    if args.follow {
        let wanted = Wanted {
            from: args.from,
            to: args.to,
            protocol,
            reason: args.reason,
        };
        return follow::run(&args.control.control, wanted, args.count, args.json);
    }
    let (from, to) = (socket(args.from, "from")?, socket(args.to, "to")?);
    if from.is_ipv4() != to.is_ipv4() {
        bail!("cannot trace a packet from {from} to {to}: different families");
    }
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    let what = match protocol {
        Protocol::Tcp => tcp_flags(&args.flags)?,
        Protocol::Udp => 0,
        Protocol::Sctp => sctp::CHUNK_INIT,
    };
    let question = Question {
        protocol,
        from,
        to,
        what,
        payload: args.payload,
        interface: args.interface,
    };
    let answer = match client::ask(&args.control.control, &Request::Trace(question.clone()))? {
        Response::Trace(answer) => *answer,
        other => bail!("cannot understand the agent's answer: {other:?}"),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        print!("{}", render(&question, &answer));
    }
    Ok(())
}

fn tcp_flags(text: &str) -> Result<u8> {
    const FLAG_PSH: u8 = 0x08;
    text.chars().try_fold(0, |flags, c| {
        Ok(flags
            | match c.to_ascii_uppercase() {
                'S' => tcp::FLAG_SYN,
                'A' | '.' => tcp::FLAG_ACK,
                'F' => tcp::FLAG_FIN,
                'R' => tcp::FLAG_RST,
                'P' => FLAG_PSH,
                _ => bail!("no TCP flag is called {c:?}: S, A, F, R and P are"),
            })
    })
}

fn render(question: &Question, answer: &Answer) -> String {
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12}{text}");
    };
    let there = if answer.attached {
        ""
    } else {
        " (the program is not attached there: this is what it would do)"
    };
    line(
        "packet",
        format!(
            "{} {} > {} by {}{there}",
            question.protocol, question.from, question.to, answer.interface
        ),
    );
    line(
        "service",
        answer.service.clone().unwrap_or_else(|| "none".to_owned()),
    );
    let known = answer.connection.as_ref().map(|conn| {
        format!(
            "{} to {}, {} s left",
            conn.state, conn.server, conn.remaining_seconds
        )
    });
    let connection = match (known, answer.opens) {
        (Some(known), false) => known,
        (Some(known), true) => format!("{known}; this packet opens another one in its place"),
        (None, true) => "none; this packet opens one".to_owned(),
        (None, false) => "none".to_owned(),
    };
    line("connection", connection);
    if let Some(server) = answer.scheduled {
        line("scheduler", format!("chooses {server}"));
    }
    if let (Some(server), Some(method)) = (answer.server, &answer.method) {
        line("server", format!("{server} by {method}"));
    }
    if let (Some(interface), Some(mac)) = (&answer.out_interface, &answer.next_hop) {
        let ends = answer.leaves_as.as_deref().unwrap_or("?");
        line("leaves", format!("by {interface} to {mac} as {ends}"));
    }
    line(
        "verdict",
        format!("{}: {}", answer.verdict, answer.sentence),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_tcpdump_s() {
        assert_eq!(tcp_flags("S").unwrap(), tcp::FLAG_SYN);
        assert_eq!(tcp_flags("s.").unwrap(), tcp::FLAG_SYN | tcp::FLAG_ACK);
        assert!(tcp_flags("X").is_err());
    }
}
