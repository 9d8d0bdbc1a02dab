// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kinds of health checks.
//!
//! Comes in: a check of the configuration. Goes out: a [`Report`] for each probe. A new kind is an
//! arm of [`Checker`], a line in each `match` below, and a file beside `tcp.rs`.
//!
//! Invariant: a probe always ends, within a time that the check's own timeout bounds. Called by
//! `runner`.

use std::time::Duration;

use super::dampen::{Policy, Probe};
use super::tcp::{self, TcpOutcome};
use crate::config::model::TcpCheck;

/// A configured check.
#[derive(Clone, Debug, PartialEq)]
pub enum Checker {
    /// `TCP_CHECK`.
    Tcp(TcpCheck),
}

/// The end of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it says of the server.
    pub probe: Probe,
    /// Why, for people: `connection refused`.
    pub text: String,
}

impl Checker {
    /// Makes one probe.
    pub async fn probe(&self) -> Report {
        match self {
            Checker::Tcp(check) => {
                let outcome = tcp::probe(check).await;
                Report {
                    probe: match outcome {
                        TcpOutcome::Connected => Probe::Passed,
                        TcpOutcome::NotMade(_) => Probe::NotMade,
                        _ => Probe::Failed,
                    },
                    text: outcome.to_string(),
                }
            }
        }
    }

    /// Retries and pauses.
    pub fn policy(&self) -> Policy {
        match self {
            Checker::Tcp(check) => Policy {
                retry: check.retry,
                delay_before_retry: check.delay_before_retry,
                delay_loop: check.delay_loop,
            },
        }
    }

    /// `alpha`: down until the first probe passes.
    pub fn alpha(&self) -> bool {
        match self {
            Checker::Tcp(check) => check.alpha,
        }
    }

    /// `warmup`: the first probe starts within this time.
    pub fn warmup(&self) -> Duration {
        match self {
            Checker::Tcp(check) => check.warmup,
        }
    }

    /// `log_all_failures`.
    pub fn log_all_failures(&self) -> bool {
        match self {
            Checker::Tcp(check) => check.log_all_failures,
        }
    }

    /// Whether both ask the same question, be it at other times: then a reload hands on the state.
    ///
    /// KEEPALIVED: `compare_conn_opts`.
    pub fn asks_the_same_as(&self, other: &Checker) -> bool {
        let (Checker::Tcp(a), Checker::Tcp(b)) = (self, other);
        (a.target, a.source, &a.bind_if, a.connect_timeout, a.fwmark)
            == (b.target, b.source, &b.bind_if, b.connect_timeout, b.fwmark)
    }
}

impl std::fmt::Display for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Checker::Tcp(check) => write!(f, "TCP_CHECK to {}", check.target),
        }
    }
}

impl From<TcpCheck> for Checker {
    fn from(check: TcpCheck) -> Self {
        Checker::Tcp(check)
    }
}
