// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits for packets and timers of the BFD sessions, in a thread of its own.
//!
//! In: sessions to run. Out: [`WatchEvent`]s on the application's channel, and status when asked.
//! Called by the application. Invariants: datagrams that waited are read before a timer is judged,
//! so a late thread does not mistake its own absence for silence; without sessions there is no
//! thread and no socket.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::error;

use super::counters::Counters;
use super::sessions::{SessionStatus, Sessions};
use super::socket::Inlet;
use crate::config::model::BfdInstance;
use crate::track::watch::WatchEvent;
use crate::vrrp::time::Nanos;

/// Datagrams read from one socket before timers get their turn.
const DRAIN_MAX: usize = 64;
/// How often a socket that could not be opened is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The BFD sessions of the agent.
#[derive(Debug)]
pub struct Bfd {
    sessions: Arc<Mutex<Sessions>>,
    /// Wakes the thread, which looks at the sessions anew; closing it ends the thread.
    changed: Option<UnboundedSender<()>>,
}

impl Bfd {
    /// No session yet; changes go to `events`.
    pub fn new(events: UnboundedSender<WatchEvent>) -> Self {
        Self {
            sessions: Arc::new(Mutex::new(Sessions::new(events))),
            changed: None,
        }
    }

    /// Runs these sessions and no others; what is known of the new ones is returned.
    pub fn reconfigure(&mut self, configs: &[BfdInstance]) -> io::Result<Vec<WatchEvent>> {
        let known = lock(&self.sessions).reconfigure(now(), configs);
        if configs.is_empty() {
            self.changed = None;
            return Ok(known);
        }
        if let Some(changed) = &self.changed {
            // A thread that is gone has said so.
            let _ = changed.send(());
            return Ok(known);
        }
        let (changed, changes) = unbounded_channel();
        let sessions = Arc::clone(&self.sessions);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || runtime.block_on(run(&sessions, changes)))?;
        self.changed = Some(changed);
        Ok(known)
    }

    /// All sessions in the order of the file.
    pub fn snapshot(&self) -> Vec<SessionStatus> {
        lock(&self.sessions).snapshot()
    }

    /// Figures of packets that belonged to no session.
    pub fn strangers(&self) -> Counters {
        lock(&self.sessions).strangers()
    }
}

fn lock(sessions: &Mutex<Sessions>) -> MutexGuard<'_, Sessions> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(sessions: &Mutex<Sessions>, mut changes: UnboundedReceiver<()>) {
    let mut inlets: Vec<Inlet> = Vec::new();
    let mut complained = false;
    loop {
        let missing = refresh(sessions, &mut inlets, &mut complained);
        let due = lock(sessions).poll_timeout();
        let retry = missing.then(|| now() + RETRY_EVERY);
        let timer = async {
            match due.into_iter().chain(retry).min() {
                Some(at) => tokio::time::sleep(at.since(now())).await,
                None => pending().await,
            }
        };
        tokio::select! {
            told = changes.recv() => if told.is_none() {
                return;
            },
            () = timer => {}
            () = readable(&inlets) => {}
        }
        for inlet in &inlets {
            drain(sessions, inlet);
        }
        lock(sessions).timers(now());
    }
}

/// Opens the sockets that are needed and closes the others; true if one could not be opened.
fn refresh(sessions: &Mutex<Sessions>, inlets: &mut Vec<Inlet>, complained: &mut bool) -> bool {
    let needed = lock(sessions).inlets();
    inlets.retain(|inlet| needed.contains(&(inlet.v6, inlet.port)));
    let mut missing = false;
    for (v6, port) in needed {
        let is_open = |inlet: &Inlet| (inlet.v6, inlet.port) == (v6, port);
        if inlets.iter().any(is_open) {
            continue;
        }
        match Inlet::open(v6, port) {
            Ok(inlet) => inlets.push(inlet),
            Err(cause) => {
                missing = true;
                if !std::mem::replace(complained, true) {
                    error!("cannot hear BFD packets on UDP port {port}: {cause}; trying again");
                }
            }
        }
    }
    *complained &= missing;
    missing
}

fn drain(sessions: &Mutex<Sessions>, inlet: &Inlet) {
    let mut buffer = [0; 256];
    for _ in 0..DRAIN_MAX {
        let Some(arrived) = inlet.receive(&mut buffer) else {
            return;
        };
        lock(sessions).receive(now(), &arrived);
    }
}

/// Waits until any of `inlets` is readable.
async fn readable(inlets: &[Inlet]) {
    poll_fn(|cx| {
        // All are polled, so that all will wake this task.
        let ready = inlets
            .iter()
            .filter(|inlet| inlet.poll_readable(cx).is_ready());
        if ready.count() > 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// CLOCK_BOOTTIME, as the VRRP driver has it.
fn now() -> Nanos {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Nanos::default(), |time| {
        Nanos::default() + Duration::from(time)
    })
}
