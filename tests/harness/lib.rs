// SPDX-License-Identifier: MIT OR Apache-2.0
//! The laboratory: a small data centre out of network namespaces, with real programs on every host.
//!
//! ```text
//!            client .100                    nginx rs1 .11   nginx rs2 .12   nginx rs3 .13
//!                │                               │ VIP on lo     │               │
//!   ─────────────┴───────── bridge (192.0.2.0/24, a namespace of its own) ───────┴─────
//!                │                               │
//!        director d1 .1                  director d2 .2         VIP .200
//! ```
//!
//! In: a name for the experiment. Out: hosts, processes and observations. Invariants: nothing
//! touches the machine's own network; whatever a run raises is gone when it ends, and what a
//! killed run leaves behind is cleared by the next one. Nobody sleeps to wait for logic: [`wait`]
//! awaits conditions. The suites beside this library and `cargo xtask demo|bench` call it.
//!
//! - [`lab`]: raising, hosts, cleaning up. [`netns`], [`process`], [`pass`]: what they are made of.
//! - [`site`]: the standard picture above.
//! - [`director`]: xlvs or Debian's keepalived in that role. [`server`]: nginx. [`client`]: ab, curl.
//! - [`echo`]: data there and back over TCP, UDP, SCTP. [`held`]: many connections kept open. [`tunnel`]: where servers unpack it. [`nics`]:
//!   hosts on network cards.
//! - [`observer`]: adverts and gratuitous ARPs with kernel timestamps. [`requester`]: steady load.
//! - [`experiment`]: what suites, demo and benchmark measure alike.
//! - [`bench`]: what the forwarding benchmarks ask and answer.
//! - [`capture`]: what the wire carried, kept when a test fails. [`xdp`]: who has a program attached.
//! - [`outcome`]: what a test returns.

pub mod bench;
pub mod capture;
pub mod client;
pub mod config;
mod decap;
pub mod director;
pub mod echo;
pub mod experiment;
pub mod held;
pub mod lab;
pub mod netns;
pub mod nics;
pub mod observer;
pub mod outcome;
pub mod pass;
pub mod pinger;
pub mod privilege;
pub mod process;
pub mod requester;
pub mod server;
pub mod site;
pub mod status;
pub mod tunnel;
pub mod wait;
pub mod xdp;
