// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs status`: what a running agent does, for people (tables) or machines (`--json`).

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::control::status::{Bfd, Instance, RealServer, Service, Status};
use crate::control::{ControlArgs, Request, Response, client};

#[derive(Args)]
pub(super) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn run(args: &StatusArgs) -> Result<()> {
    let status = match client::ask(&args.control.control, &Request::Status)? {
        Response::Status(status) => *status,
        Response::Error(message) => bail!("the agent says: {message}"),
        other => bail!("cannot understand the agent's answer: {other:?}"),
    };
    let text = if args.json {
        let mut json = serde_json::to_string_pretty(&status)?;
        json.push('\n');
        json
    } else {
        render(&status)
    };
    print!("{text}");
    Ok(())
}

/// The status as text.
fn render(status: &Status) -> String {
    let mut out = format!(
        "xlvs {} on {}, pid {}, {}\n",
        status.version, status.router_id, status.pid, status.config
    );
    if status.crashes > 0 {
        let _ = writeln!(out, "started again after a crash: {} times", status.crashes);
    }
    let program = &status.program;
    let attached: Vec<String> = program
        .attached
        .iter()
        .map(|a| format!("{} ({})", a.interface, a.mode))
        .collect();
    let line = match (program.loaded, attached.is_empty()) {
        (false, _) => "packet program: not loaded (no virtual servers)".to_owned(),
        (true, true) => "packet program: loaded, attached nowhere (no MASTER here)".to_owned(),
        (true, false) => format!("packet program: attached to {}", attached.join(", ")),
    };
    let _ = writeln!(out, "{line}");
    if program.followers > 0 {
        let _ = writeln!(out, "live packets are followed by {}", program.followers);
    }
    if !status.instances.is_empty() {
        let _ = write!(out, "\n{}\n", instances(&status.instances));
    }
    for instance in &status.instances {
        split_brain(instance, &mut out);
        tracks(instance, &mut out);
    }
    if !status.bfd.is_empty() {
        let _ = write!(out, "\n{}\n", sessions(&status.bfd));
    }
    for service in &status.services {
        let _ = write!(out, "\n{}", services(service));
    }
    let mut verdicts: Vec<_> = status.verdicts.iter().filter(|(_, n)| **n > 0).collect();
    verdicts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    if !verdicts.is_empty() {
        let counts: Vec<String> = verdicts
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        let _ = writeln!(out, "\npackets: {}", counts.join(", "));
    }
    out
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

/// Trailing blanks help nobody.
fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn instances(instances: &[Instance]) -> String {
    let mut table = table(&[
        "Instance",
        "State",
        "Since",
        "Priority",
        "MASTER",
        "Interface",
        "VRID",
        "Addresses",
    ]);
    for i in instances {
        let master = match (&i.master, i.state.as_str()) {
            (_, "MASTER") => "this host".to_owned(),
            (Some(master), _) => master.to_string(),
            (None, _) => "-".to_owned(),
        };
        let priority = if i.priority == i.effective_priority {
            i.priority.to_string()
        } else {
            format!("{} (of {})", i.effective_priority, i.priority)
        };
        table.add_row([
            i.name.clone(),
            i.state.clone(),
            format!("{:.0} s", i.since_seconds),
            priority,
            master,
            i.interface.clone(),
            format!("{} (v{})", i.vrid, i.version),
            i.vips.join(" "),
        ]);
    }
    trimmed(&table)
}

/// Who else claims to be MASTER, and does not stop.
fn split_brain(instance: &Instance, out: &mut String) {
    for rival in instance.rivals.iter().filter(|rival| rival.split_brain) {
        let refused = rival.refused.as_ref().map_or(String::new(), |counter| {
            format!("; its adverts are refused: {counter}")
        });
        let _ = writeln!(
            out,
            "{}: SPLIT BRAIN: {} (priority {}) claims to be MASTER, too, for {:.0} s, last heard \
             {:.1} s ago{refused}",
            instance.name,
            rival.address,
            rival.priority,
            rival.claims_seconds,
            rival.heard_seconds_ago
        );
    }
}

/// One line for the sync group and one for each thing that an instance tracks.
fn tracks(instance: &Instance, out: &mut String) {
    if let Some(group) = &instance.group {
        let _ = writeln!(out, "{}: in sync group {group}", instance.name);
    }
    for track in &instance.tracks {
        let effect = match (track.weight, track.reverse) {
            (0, false) => "a failure is a fault".to_owned(),
            (0, true) => "a success is a fault".to_owned(),
            (weight, false) => format!("weight {weight}"),
            (weight, true) => format!("weight {weight} reversed"),
        };
        let _ = writeln!(
            out,
            "{}: tracks {} {}: {} ({effect})",
            instance.name, track.kind, track.name, track.state
        );
    }
}

fn sessions(sessions: &[Bfd]) -> String {
    let mut table = table(&[
        "BFD session",
        "State",
        "Since",
        "Neighbor",
        "Its state",
        "TX ms",
        "Detection ms",
        "Last reason",
    ]);
    for session in sessions {
        let detection = session.detection_time_ms;
        table.add_row([
            session.name.clone(),
            session.state.clone(),
            format!("{:.0} s", session.since_seconds),
            session.neighbor.to_string(),
            session.remote_state.clone(),
            format!("{}", session.tx_interval_ms),
            detection.map_or_else(|| "-".to_owned(), |ms| format!("{ms}")),
            session.diagnostic.clone(),
        ]);
    }
    trimmed(&table)
}

fn services(service: &Service) -> String {
    let servers = || service.real_servers.iter().chain(&service.sorry_server);
    let limited = servers().any(|rs| rs.upper_threshold > 0);
    let mut header = vec!["Real server", "Forward", "Weight"];
    if limited {
        header.push("Limit");
    }
    // State and MAC stand between the columns of numbers.
    let figures = header.len() + 2;
    header.extend(["State", "MAC"]);
    header.extend(["ActiveConn", "InActConn", "Conns", "InPkts", "InBytes"]);
    let mut table = table(&header);
    for rs in servers() {
        let mut row = vec![
            format!("  {}", SocketAddr::new(rs.address, rs.port)),
            forward(rs),
            rs.effective_weight.to_string(),
        ];
        if limited {
            row.push(limit(rs));
        }
        row.extend([
            state(rs),
            rs.mac.clone().unwrap_or_else(|| "unresolved".to_owned()),
            rs.active_conns.to_string(),
            rs.inactive_conns.to_string(),
            rs.conns.to_string(),
            rs.in_packets.to_string(),
            rs.in_bytes.to_string(),
        ]);
        table.add_row(row);
    }
    for column in (2..figures - 2).chain(figures..figures + 5) {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{}, {} connections, {} packets, {} bytes in\n{}{}\n",
        head(service),
        service.conns,
        service.in_packets,
        service.in_bytes,
        quorum(service),
        trimmed(&table)
    )
}

/// As `ipvsadm` lists it: `TCP 192.0.2.1:80 mh (mh-port) persistent 600 mask 24 ops`.
fn head(service: &Service) -> String {
    let addr = SocketAddr::new(service.address, service.port);
    let mut head = format!("{} {addr} {}", service.protocol, service.scheduler);
    if !service.flags.is_empty() {
        let _ = write!(head, " ({})", service.flags.join(","));
    }
    if let Some(persistence) = service.persistence {
        let _ = write!(head, " persistent {}", persistence.timeout_seconds);
        let width = if service.address.is_ipv4() { 32 } else { 128 };
        if persistence.granularity < width {
            let _ = write!(head, " mask {}", persistence.granularity);
        }
    }
    if service.one_packet {
        head.push_str(" ops");
    }
    if let Some(group) = &service.group {
        let _ = write!(head, ", group {group}");
    }
    head
}

/// A line where quorum is more than one server, or lacks.
fn quorum(service: &Service) -> String {
    let quorum = service.quorum;
    if quorum.holds && quorum.wanted == 1 {
        return String::new();
    }
    let up = service.real_servers.iter().filter(|rs| rs.state == "UP");
    let weight: u64 = up.map(|rs| u64::from(rs.weight)).sum();
    let state = if quorum.holds { "there" } else { "LOST" };
    let hysteresis = match quorum.hysteresis {
        0 => String::new(),
        hysteresis => format!(" (hysteresis {hysteresis})"),
    };
    format!(
        "  quorum {state}: a weight of {weight} is up, {}{hysteresis} is wanted\n",
        quorum.wanted
    )
}

fn forward(rs: &RealServer) -> String {
    match &rs.tunnel {
        Some(tunnel) => format!("{} {tunnel}", rs.method),
        None => rs.method.clone(),
    }
}

/// Where it takes no new connection, and where it takes them again.
fn limit(rs: &RealServer) -> String {
    match (rs.lower_threshold, rs.upper_threshold) {
        (_, 0) => "-".to_owned(),
        (0, upper) => upper.to_string(),
        (lower, upper) => format!("{lower}-{upper}"),
    }
}

fn state(rs: &RealServer) -> String {
    let failed = rs.checks.iter().find(|check| !check.up);
    match (failed.and_then(|check| check.last.as_ref()), &*rs.state) {
        (Some(last), state) => format!("{state} ({last})"),
        (None, "IN USE" | "STANDBY") => format!("sorry server, {}", rs.state.to_lowercase()),
        (None, state) => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Check, Persistence, Quorum};

    fn real_server(address: &str, method: &str) -> RealServer {
        let address: SocketAddr = address.parse().unwrap();
        RealServer {
            address: address.ip(),
            port: address.port(),
            method: method.to_owned(),
            tunnel: None,
            weight: 1,
            effective_weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            state: "UP".to_owned(),
            mac: Some("02:00:00:00:00:01".to_owned()),
            checks: Vec::new(),
            active_conns: 2,
            inactive_conns: 3,
            conns: 5,
            in_packets: 50,
            in_bytes: 5000,
            out_packets: 0,
            out_bytes: 0,
            rates: crate::dataplane::rates::Rates::default(),
        }
    }

    fn service(address: &str, real_servers: Vec<RealServer>) -> Service {
        let address: SocketAddr = address.parse().unwrap();
        Service {
            protocol: "TCP".to_owned(),
            address: address.ip(),
            port: address.port(),
            scheduler: "wrr".to_owned(),
            flags: Vec::new(),
            persistence: None,
            one_packet: false,
            group: None,
            quorum: Quorum {
                holds: true,
                wanted: 1,
                hysteresis: 0,
            },
            conns: 5,
            in_packets: 50,
            in_bytes: 5000,
            out_packets: 0,
            out_bytes: 0,
            rates: crate::dataplane::rates::Rates::default(),
            real_servers,
            sorry_server: None,
        }
    }

    #[test]
    fn a_plain_service_is_a_line_and_a_table() {
        let plain = service("192.0.2.1:80", vec![real_server("192.0.2.11:80", "DR")]);
        expect_test::expect![[r#"
            TCP 192.0.2.1:80 wrr, 5 connections, 50 packets, 5000 bytes in
             Real server      Forward  Weight  State  MAC                ActiveConn  InActConn  Conns  InPkts  InBytes
               192.0.2.11:80  DR            1  UP     02:00:00:00:00:01           2          3      5      50     5000
        "#]].assert_eq(&services(&plain));
    }

    #[test]
    fn a_service_with_everything_shows_everything() {
        let mut down = real_server("[2001:db8::b]:53", "TUN");
        down.tunnel = Some("gue port 6080 csum".to_owned());
        down.state = "DOWN".to_owned();
        down.effective_weight = 0;
        down.mac = None;
        (down.lower_threshold, down.upper_threshold) = (800, 1000);
        down.checks.push(Check {
            check: "TCP_CHECK to [2001:db8::b]:53".to_owned(),
            up: false,
            last: Some("connection refused".to_owned()),
        });
        let mut full = service(
            "[2001:db8::1]:53",
            vec![down, real_server("192.0.2.12:53", "NAT")],
        );
        full.scheduler = "mh".to_owned();
        full.flags = vec!["mh-fallback".to_owned(), "mh-port".to_owned()];
        full.persistence = Some(Persistence {
            timeout_seconds: 600,
            granularity: 64,
        });
        full.one_packet = true;
        full.group = Some("dns".to_owned());
        full.quorum = Quorum {
            holds: false,
            wanted: 2,
            hysteresis: 1,
        };
        let mut sorry = real_server("192.0.2.99:53", "NAT");
        sorry.state = "IN USE".to_owned();
        full.sorry_server = Some(sorry);
        expect_test::expect![[r#"
            TCP [2001:db8::1]:53 mh (mh-fallback,mh-port) persistent 600 mask 64 ops, group dns, 5 connections, 50 packets, 5000 bytes in
              quorum LOST: a weight of 1 is up, 2 (hysteresis 1) is wanted
             Real server         Forward                 Weight     Limit  State                      MAC                ActiveConn  InActConn  Conns  InPkts  InBytes
               [2001:db8::b]:53  TUN gue port 6080 csum       0  800-1000  DOWN (connection refused)  unresolved                  2          3      5      50     5000
               192.0.2.12:53     NAT                          1         -  UP                         02:00:00:00:00:01           2          3      5      50     5000
               192.0.2.99:53     NAT                          1         -  sorry server, in use       02:00:00:00:00:01           2          3      5      50     5000
        "#]].assert_eq(&services(&full));
    }
}
