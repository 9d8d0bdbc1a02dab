// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs failover`: moves the MASTER role to a peer.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use crate::control::{ControlArgs, Request, Response, client};

/// Longer than the longest skew: an advert interval of version 3 has up to 41 seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exit status when no peer took over.
const NO_PEER: u8 = 3;

#[derive(Args)]
pub(super) struct FailoverArgs {
    /// Instances to hand over; the other members of their sync groups go with them
    #[arg(value_name = "INSTANCE", required_unless_present = "all")]
    instances: Vec<String>,
    /// Hand over every instance that is MASTER here
    #[arg(long, conflicts_with = "instances")]
    all: bool,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn run(args: FailoverArgs) -> Result<ExitCode> {
    let request = Request::Failover(args.instances);
    let moved = match client::ask_within(&args.control.control, &request, PATIENCE)? {
        Response::Failover(moved) => moved,
        other => bail!("cannot understand the agent's answer: {other:?}"),
    };
    let mut code = ExitCode::SUCCESS;
    for one in moved {
        let name = one.instance;
        match (one.moved, one.to) {
            (true, Some(to)) => println!("{name}: {to} is MASTER now"),
            (true, None) => println!("{name}: not MASTER any more"),
            (false, _) => {
                eprintln!("xlvs: {name}: no peer took over within its skew; MASTER as before");
                code = ExitCode::from(NO_PEER);
            }
        }
    }
    Ok(code)
}
