// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logging on standard error.
//!
//! `XLVS_LOG` chooses what is logged, in the syntax of tracing's `EnvFilter` (`debug`,
//! `info,lb_agent::vrrp=debug`). Colours on a terminal only, and not with `NO_COLOR`.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

pub(super) fn init() -> Result<()> {
    let filter = EnvFilter::builder()
        .with_env_var("XLVS_LOG")
        .with_default_directive(tracing::Level::INFO.into())
        .from_env()
        .context("cannot read XLVS_LOG")?;
    let colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Libraries that speak `log` (aya-log among them) come in through the bridge.
    tracing_log::LogTracer::init().context("cannot bridge logs")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(colours)
        .with_target(false)
        .try_init()
        .map_err(|err| anyhow::anyhow!("cannot start logging: {err}"))
}
