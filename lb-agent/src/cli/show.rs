// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs status`: what a running agent does, for people (tables) or machines (`--json`).

use std::fmt::Write as _;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use crate::control::status::{Instance, Service, Status};
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
    let status = match client::ask(&args.control.control, Request::Status)? {
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
    if !status.instances.is_empty() {
        let _ = write!(out, "\n{}\n", instances(&status.instances));
    }
    for instance in &status.instances {
        split_brain(instance, &mut out);
        tracks(instance, &mut out);
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

/// Two masters are normal for the moment of a takeover; three silent intervals later they are not.
fn split_brain(instance: &Instance, out: &mut String) {
    if instance.state != "MASTER" {
        return;
    }
    let lately = 3.0 * instance.advert_interval_seconds;
    for rival in &instance.rivals {
        if rival.heard_seconds_ago < lately && instance.since_seconds > lately {
            let _ = writeln!(
                out,
                "{}: SPLIT BRAIN: {} (priority {}) claims to be MASTER, too",
                instance.name, rival.address, rival.priority
            );
        }
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

fn services(service: &Service) -> String {
    let mut table = table(&[
        "Real server",
        "Forward",
        "Weight",
        "State",
        "MAC",
        "ActiveConn",
        "InActConn",
        "Conns",
        "InPkts",
        "InBytes",
    ]);
    for rs in &service.real_servers {
        let failed = rs.checks.iter().find(|check| !check.up);
        let state = match failed.and_then(|check| check.last.as_ref()) {
            Some(last) => format!("{} ({last})", rs.state),
            None => rs.state.clone(),
        };
        table.add_row([
            format!("  {}:{}", rs.address, rs.port),
            service.method.clone(),
            rs.effective_weight.to_string(),
            state,
            rs.mac.clone().unwrap_or_else(|| "unresolved".to_owned()),
            rs.active_conns.to_string(),
            rs.inactive_conns.to_string(),
            rs.conns.to_string(),
            rs.in_packets.to_string(),
            rs.in_bytes.to_string(),
        ]);
    }
    for column in [2, 5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{} {}:{} {}, {} connections, {} packets, {} bytes in\n{}\n",
        service.protocol,
        service.address,
        service.port,
        service.scheduler,
        service.conns,
        service.in_packets,
        service.in_bytes,
        trimmed(&table)
    )
}
