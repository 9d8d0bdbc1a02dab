// SPDX-License-Identifier: MIT OR Apache-2.0
//! The control socket: how `xlvs status` asks a running agent.
//!
//! A Unix stream socket, one JSON request a line, one JSON answer a line; many answers to who
//! follows packets. Only root may connect (mode 0600).

pub mod client;
pub mod server;
pub mod status;

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::dataplane::{Answer, Followed, Question, Wanted};

/// Where the socket is unless `--control` or `XLVS_CONTROL` says otherwise.
pub const DEFAULT_PATH: &str = "/run/xlvs/control.sock";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The state of everything.
    Status,
    /// To end, and to leave program, connections and addresses as they are for a successor.
    Leave,
    /// To hand these instances over; all MASTERs if none is named.
    Failover(Vec<String>),
    /// Where a packet would go, and why.
    Trace(Question),
    /// To tell of live packets, until the asker closes the connection.
    Follow(Wanted),
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<status::Status>),
    /// To [`Request::Leave`].
    Leaving,
    /// To [`Request::Failover`], when it is over.
    Failover(Vec<Moved>),
    /// To [`Request::Trace`].
    Trace(Box<Answer>),
    /// To [`Request::Follow`]: any number of the two below come after it.
    Following,
    /// A packet that is followed.
    Packet(Box<Followed>),
    /// So many more packets than it has told of.
    Lost(u64),
    /// The request was not understood or could not be served.
    Error(String),
}

/// Where a role went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Instance.
    pub instance: String,
    /// Whether another router took over; else this one is MASTER as before.
    pub moved: bool,
    /// The new MASTER, if it is known.
    pub to: Option<IpAddr>,
}

/// `--control PATH`, shared by the commands.
#[derive(Clone, Debug, clap::Args)]
pub struct ControlArgs {
    /// Control socket of the agent
    #[arg(long, value_name = "PATH", env = "XLVS_CONTROL", default_value = DEFAULT_PATH)]
    pub control: PathBuf,
}
