// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs trace --follow`: live packets as the agent tells of them, a line each.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::control::{Request, Response, client};
use crate::dataplane::follow::End;
use crate::dataplane::{Followed, Wanted};

/// `ADDR` or `ADDR:PORT`, an IPv6 address with a port in brackets.
impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Self {
                address: both.ip(),
                port: Some(both.port()),
            });
        }
        let alone = text.trim_start_matches('[').trim_end_matches(']');
        match alone.parse::<IpAddr>() {
            Ok(address) => Ok(Self {
                address,
                port: None,
            }),
            Err(_) => Err("neither an address nor an address with a port".to_owned()),
        }
    }
}

/// Prints packets until there were `count`, or for ever.
pub(super) fn run(control: &Path, wanted: Wanted, count: Option<u64>, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let mut left = count;
    let begun = || eprintln!("xlvs: following packets");
    let enough = client::follow(control, &Request::Follow(wanted), begun, |response| {
        match response {
            Response::Packet(packet) => {
                let line = if json {
                    serde_json::to_string(&packet)?
                } else {
                    line(&packet)
                };
                // Whoever reads this may have enough, too.
                if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                    return Ok(true);
                }
                left = left.map(|left| left.saturating_sub(1));
            }
            Response::Lost(packets) => {
                eprintln!("xlvs: {packets} packets more came than could be told of");
            }
            other => bail!("cannot understand the agent's answer: {other:?}"),
        }
        Ok(left == Some(0))
    })?;
    if enough {
        Ok(())
    } else {
        bail!("the agent has stopped to tell of packets")
    }
}

/// `12:34:56.123456 eth0 TCP 192.0.2.1:1000 > 192.0.2.200:80 S 74 bytes: transmit to 192.0.2.11:80 by DR`
fn line(packet: &Followed) -> String {
    let mut text = time_of_day(packet.time);
    let mut word = |word: &str| {
        text.push(' ');
        text.push_str(word);
    };
    word(&packet.interface);
    match (&packet.from, &packet.to) {
        (Some(from), Some(to)) => {
            let protocol = packet.protocol.as_deref().unwrap_or("?");
            match protocol.parse::<u8>() {
                Ok(number) => word(&format!("protocol {number}")),
                Err(_) => word(protocol),
            }
            word(&format!("{from} > {to}"));
        }
        _ => word("a frame that is not IP"),
    }
    if let Some(flags) = &packet.flags {
        word(flags);
    }
    let _ = write!(text, " {} bytes: {}", packet.length, packet.verdict);
    if let (Some(server), Some(method)) = (packet.server, &packet.method) {
        let _ = write!(text, " to {server} by {method}");
    }
    if let Some(interface) = &packet.out_interface {
        let _ = write!(text, " out of {interface}");
    }
    text
}

/// Time of day (UTC) with microseconds.
fn time_of_day(time: f64) -> String {
    const DAY: u64 = 86_400;
    let micros = (time * 1e6).round().max(0.0) as u64;
    let seconds = micros / 1_000_000 % DAY;
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        micros % 1_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_addresses_with_or_without_port() {
        let end = |text: &str| text.parse::<End>();
        let port = |text: &str| end(text).unwrap().port;
        assert_eq!(port("192.0.2.1:80"), Some(80));
        assert_eq!(port("192.0.2.1"), None);
        assert_eq!(port("[2001:db8::1]:80"), Some(80));
        assert_eq!(port("2001:db8::1"), None);
        assert_eq!(port("[2001:db8::1]"), None);
        assert!(end("web").is_err());
    }

    #[test]
    fn a_packet_is_one_line() {
        let mut packet = Followed {
            time: 45_296.000_007,
            interface: "eth0".to_owned(),
            protocol: Some("TCP".to_owned()),
            from: Some("192.0.2.1:1000".to_owned()),
            to: Some("192.0.2.200:80".to_owned()),
            flags: Some("S".to_owned()),
            length: 74,
            verdict: "transmit".to_owned(),
            sentence: String::new(),
            server: Some("192.0.2.11:80".parse().unwrap()),
            method: Some("DR".to_owned()),
            out_interface: None,
        };
        assert_eq!(
            line(&packet),
            "12:34:56.000007 eth0 TCP 192.0.2.1:1000 > 192.0.2.200:80 S 74 bytes: transmit to \
             192.0.2.11:80 by DR"
        );
        packet.protocol = Some("112".to_owned());
        (packet.flags, packet.server) = (None, None);
        packet.verdict = "pass_other_protocol".to_owned();
        let said = line(&packet);
        assert!(said.contains("protocol 112 192.0.2.1"), "{said}");
        assert!(said.ends_with("74 bytes: pass_other_protocol"), "{said}");
        (packet.from, packet.to) = (None, None);
        assert!(line(&packet).contains("not IP"));
    }
}
