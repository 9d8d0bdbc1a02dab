// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs trace`: where a packet would go, and why.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lb_common::state::{sctp, tcp};

use crate::config::model::Protocol;
use crate::control::{ControlArgs, Request, Response, client};
use crate::dataplane::{Answer, Question};

#[derive(Clone, Copy, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Args)]
pub(super) struct TraceArgs {
    /// Protocol
    #[arg(long, value_enum, default_value = "tcp")]
    proto: Proto,
    /// Source address and port
    #[arg(long, value_name = "ADDR:PORT")]
    from: SocketAddr,
    /// Destination address and port
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// TCP flags: any of S A F R P
    #[arg(long, value_name = "FLAGS", default_value = "S")]
    flags: String,
    /// Bytes behind the transport header
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=9000))]
    payload: u16,
    /// Interface that the packet comes in by [default: the first that the program is attached to]
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn run(args: TraceArgs) -> Result<()> {
    if args.from.is_ipv4() != args.to.is_ipv4() {
        bail!(
            "cannot trace a packet from {} to {}: different families",
            args.from,
            args.to
        );
    }
    let (protocol, what) = match args.proto {
        Proto::Tcp => (Protocol::Tcp, tcp_flags(&args.flags)?),
        Proto::Udp => (Protocol::Udp, 0),
        Proto::Sctp => (Protocol::Sctp, sctp::CHUNK_INIT),
    };
    let question = Question {
        protocol,
        from: args.from,
        to: args.to,
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
