// SPDX-License-Identifier: MIT OR Apache-2.0
//! `xlvs run`: the agent in the foreground.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::log;
use crate::app;
use crate::control::ControlArgs;

/// Where keepalived looks for its configuration.
const DEFAULT_CONFIG: &str = "/etc/keepalived/keepalived.conf";

#[derive(Args)]
pub(super) struct RunArgs {
    /// Configuration file, in keepalived's language
    #[arg(short = 'f', long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    #[command(flatten)]
    control: ControlArgs,
}

pub(super) fn run(args: RunArgs) -> Result<()> {
    log::init()?;
    let options = app::Options {
        config: args.config,
        control: args.control.control,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(app::run(options))
}
