// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: one file a command.

pub mod check;
mod failover;
mod follow;
mod leave;
mod log;
mod replay;
mod run;
mod show;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An eBPF/XDP layer-4 load balancer with a VRRP control plane: the swap-in for keepalived + IPVS.
#[derive(Parser)]
#[command(name = "xlvs", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent in the foreground, logging on standard error
    ///
    /// SIGTERM releases gracefully and exits 0; SIGHUP reads the configuration again. A small
    /// supervisor process stands by the agent and starts it again when it crashes.
    Run(run::RunArgs),
    /// Read a configuration file and say what is wrong with it
    Check(check::CheckArgs),
    /// Give the VRRP state machines what `run --record` wrote down, and compare their answers
    ///
    /// Needs no root. Exit status 1 if an answer differs.
    Replay(replay::ReplayArgs),
    /// Show what a running agent does
    Status(show::StatusArgs),
    /// Say where a packet would go and why, without sending one and without changing anything, or
    /// follow live packets
    Trace(trace::TraceArgs),
    /// End a running agent and leave everything as it is: packets are forwarded until a successor
    /// is there, or the watchdog's time has passed
    Leave(leave::LeaveArgs),
    /// Hand the MASTER role over to a peer, without a moment in which nobody serves
    ///
    /// This router goes on until its successor is heard, and does not take the role back by itself:
    /// hand it back on the other one. Exit status 3 if no peer took over; then it is MASTER as
    /// before.
    Failover(failover::FailoverArgs),
    /// Detach what a killed agent left, and forget its connections
    Detach(leave::DetachArgs),
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => match run::run(args) {
            Ok(code) => return code,
            Err(err) => Err(err),
        },
        Command::Check(args) => return check::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Status(args) => show::run(&args),
        Command::Trace(args) => trace::run(args),
        Command::Leave(args) => leave::leave(&args),
        Command::Failover(args) => match failover::run(args) {
            Ok(code) => return code,
            Err(err) => Err(err),
        },
        Command::Detach(args) => leave::detach(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("xlvs: {err:#}");
            ExitCode::FAILURE
        }
    }
}
