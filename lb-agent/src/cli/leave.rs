// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs leave` and `xlvs detach`: the two ways to end without, and with nothing left.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::control::{ControlArgs, Request, Response, client};
use crate::dataplane::Pins;
use crate::firewall;

#[derive(Args)]
pub(super) struct LeaveArgs {
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn leave(args: &LeaveArgs) -> Result<()> {
    match client::ask(&args.control.control, &Request::Leave)? {
        Response::Leaving => Ok(()),
        other => bail!("cannot understand the agent's answer: {other:?}"),
    }
}

#[derive(Args)]
pub(super) struct DetachArgs {
    /// Where that agent's maps and attachments are pinned
    #[arg(long, value_name = "DIR", env = "XLVS_PINS")]
    pins: Option<PathBuf>,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn detach(args: DetachArgs) -> Result<()> {
    let control = args.control.control;
    if UnixStream::connect(&control).is_ok() {
        bail!(
            "an agent is running at {}: stop it instead",
            control.display()
        );
    }
    Pins::of(&control, args.pins).remove();
    firewall::remove_now(&control);
    Ok(())
}
