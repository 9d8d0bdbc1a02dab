// SPDX-License-Identifier: MIT OR Apache-2.0
//! When to probe: one task per check.
//!
//! Comes in: the configuration ([`Runner::start`], [`Runner::reconfigure`]). Goes out:
//! [`RealServerEvent`]s, [`Runner::snapshot`], and the log lines an operator searches for.
//!
//! Invariant: events leave in the order in which the board changed, and none is lost; the channel
//! is unbounded for that reason, and stays short because a server changes at most once per probe.
//! Dropping the runner stops every probe. Called by the agent's select loop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::board::{
    Board, CheckId, Configured, Launch, Noted, RealServerEvent, ServerKey, Snapshot,
};
use super::checker::{Checker, Report};
use super::dampen::{Probe, Verdict};
use super::tcp::Seconds;
use crate::config::model::VirtualServer;

/// Probes under way at the same time; each holds one file descriptor, of which a process has 1024
/// by default. Further probes wait their turn: if that many servers are silent at once, a probe
/// may start late by their `connect_timeout`.
pub const MAX_CONCURRENT_PROBES: usize = 256;

/// Shortest pause between two probes of one check, whatever the configuration says: a refused
/// connection costs microseconds, and without a pause a task would never rest.
const MIN_PAUSE: Duration = Duration::from_millis(10);

/// All health checks at work.
pub struct Runner {
    shared: Arc<Shared>,
    tasks: HashMap<CheckId, AbortOnDrop>,
}

struct Shared {
    board: Mutex<Board>,
    events: UnboundedSender<RealServerEvent>,
    permits: Semaphore,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Runner {
    /// Starts the checks of all real servers. Call inside a tokio runtime.
    ///
    /// Events tell of changes only: the state at the start is in [`Runner::snapshot`].
    pub fn start(
        virtual_servers: &[VirtualServer],
        events: UnboundedSender<RealServerEvent>,
    ) -> Self {
        let mut runner = Self {
            shared: Arc::new(Shared {
                board: Mutex::default(),
                events,
                permits: Semaphore::new(MAX_CONCURRENT_PROBES),
            }),
            tasks: HashMap::new(),
        };
        runner.reconfigure(virtual_servers);
        runner
    }

    /// Takes over a new configuration. Checks that did not change go on undisturbed.
    ///
    /// Servers that were added or removed make no event: take a [`Runner::snapshot`] afterwards.
    pub fn reconfigure(&mut self, virtual_servers: &[VirtualServer]) {
        let Configured {
            launch,
            stop,
            events,
        } = self.shared.configure(virtual_servers);
        for id in stop {
            self.tasks.remove(&id);
        }
        for event in events {
            info!(
                "real server {} of virtual server {} is {}: {}",
                event.server,
                event.service,
                if event.up { "up" } else { "down" },
                event.reason
            );
        }
        for launch in launch {
            let id = launch.id;
            let task = tokio::spawn(run(Arc::clone(&self.shared), launch));
            self.tasks.insert(id, AbortOnDrop(task));
        }
    }

    /// All real servers as they stand.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.board().snapshot()
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        // The board is changed in single steps, so it is whole even if a holder panicked.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn configure(&self, virtual_servers: &[VirtualServer]) -> Configured {
        let mut board = self.board();
        let configured = board.configure(virtual_servers);
        for event in &configured.events {
            self.publish(event);
        }
        configured
    }

    fn note(&self, key: ServerKey, id: CheckId, report: &Report) -> Option<Noted> {
        let mut board = self.board();
        let noted = board.note(key, id, report)?;
        if let Some(event) = &noted.event {
            // Under the lock, so that no other task's event overtakes this one.
            self.publish(event);
        }
        Some(noted)
    }

    fn publish(&self, event: &RealServerEvent) {
        // Fails only when the listener is gone, that is while the agent stops.
        let _ = self.events.send(event.clone());
    }
}

/// The life of one check.
async fn run(shared: Arc<Shared>, launch: Launch) {
    let Launch { id, key, checker } = launch;
    // The first probes are spread, so that a start does not hit a server with all at once.
    let mut pause = checker.warmup().mul_f64(fastrand::f64());
    info!(
        "real server {} of virtual server {}: {checker} begins in {}",
        key.server,
        key.service,
        Seconds(pause)
    );
    loop {
        tokio::time::sleep(pause).await;
        let report = {
            let Ok(_permit) = shared.permits.acquire().await else {
                return;
            };
            checker.probe().await
        };
        let Some(noted) = shared.note(key, id, &report) else {
            return;
        };
        log(key, &checker, &report, &noted);
        pause = noted.pause.max(MIN_PAUSE);
    }
}

fn log(key: ServerKey, checker: &Checker, report: &Report, noted: &Noted) {
    let ServerKey { service, server } = key;
    let text = &report.text;
    let next = Seconds(noted.pause.max(MIN_PAUSE));
    if report.probe == Probe::NotMade {
        if !noted.repeated {
            warn!(
                "real server {server} of virtual server {service}: {checker} was not made: {text}; \
                 the server's state stays, next try in {next}"
            );
        }
        return;
    }
    match (noted.verdict, &noted.event) {
        (Verdict::WentDown, Some(_)) => {
            let then = if noted.inhibit {
                "its weight becomes 0"
            } else {
                "it is removed from the service"
            };
            warn!(
                "real server {server} of virtual server {service} is down: {checker}: {text}; \
                 {then}, next probe in {next}"
            );
        }
        (Verdict::WentUp, Some(_)) => {
            info!(
                "real server {server} of virtual server {service} is up: {checker}: {text}; \
                 it takes connections again"
            );
        }
        (Verdict::WentDown, None) => warn!(
            "real server {server} of virtual server {service}: {checker} failed too: {text}; \
             the server was down already, next probe in {next}"
        ),
        (Verdict::WentUp, None) => info!(
            "real server {server} of virtual server {service}: {checker} passes again; \
             the server stays down until its other checks pass"
        ),
        (Verdict::Confirmed, _) => info!(
            "real server {server} of virtual server {service}: first {checker}: {text}; \
             next probe in {next}"
        ),
        (Verdict::Forgiven { failures, of }, _) if checker.log_all_failures() => info!(
            "real server {server} of virtual server {service}: {checker}: {text}; \
             failure {failures} of {of} that are forgiven, next probe in {next}"
        ),
        (Verdict::Forgiven { .. } | Verdict::Unchanged, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{real_server, service, virtual_server};
    use super::*;
    use crate::config::model::RealServer;
    use std::net::SocketAddr;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    async fn listen(addr: SocketAddr) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    /// A listener on an address of its own: each test has one, so that a port that a test gives up
    /// and takes again is not given to another.
    async fn server(n: u8) -> (TcpListener, SocketAddr) {
        listen(SocketAddr::from(([127, 8, 0, n], 0))).await
    }

    fn start(config: &[VirtualServer]) -> (Runner, UnboundedReceiver<RealServerEvent>) {
        let (tx, rx) = unbounded_channel();
        (Runner::start(config, tx), rx)
    }

    /// Waits until every check of the runner has run.
    async fn all_ran(runner: &Runner) {
        let ran = || {
            let snapshot = runner.snapshot();
            let mut checks = snapshot.servers.values().flat_map(|s| &s.checks);
            checks.all(|check| check.has_run)
        };
        while !ran() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Probed every few milliseconds.
    ///
    /// Most of these tests run by the real clock: a paused one jumps to `connect_timeout` while
    /// the kernel still works on a handshake.
    fn eager(addr: SocketAddr) -> RealServer {
        let mut rs = real_server(addr);
        for check in &mut rs.checks {
            check.delay_loop = Duration::from_millis(20);
            check.delay_before_retry = Duration::from_millis(10);
            check.warmup = Duration::from_millis(10);
        }
        rs
    }

    async fn next(events: &mut UnboundedReceiver<RealServerEvent>) -> RealServerEvent {
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await;
        event.expect("an event within 20 s").unwrap()
    }

    #[tokio::test]
    async fn server_goes_down_when_its_port_closes_and_up_when_it_opens() {
        let (listener, addr) = server(1).await;
        let config = [virtual_server(1, vec![eager(addr)])];
        let (runner, mut events) = start(&config);
        assert!(
            runner.snapshot().is_up(service(1), addr),
            "before any probe"
        );
        all_ran(&runner).await;

        drop(listener);
        let down = next(&mut events).await;
        assert_eq!(
            (down.service, down.server, down.up),
            (service(1), addr, false)
        );
        assert_eq!(
            down.reason,
            format!("TCP_CHECK to {addr}: connection refused")
        );
        assert!(!runner.snapshot().is_up(service(1), addr));

        let (_listener, _) = listen(addr).await;
        assert!(next(&mut events).await.up);
        assert!(runner.snapshot().is_up(service(1), addr));
    }

    #[tokio::test]
    async fn reload_keeps_the_state_of_unchanged_checks() {
        let (dead, addr) = server(2).await;
        drop(dead);
        let (_listener, other) = server(2).await;
        let mut config = vec![virtual_server(1, vec![eager(addr)])];
        let (mut runner, mut events) = start(&config);
        assert!(!next(&mut events).await.up);

        config.push(virtual_server(2, vec![eager(other)]));
        runner.reconfigure(&config);
        assert!(!runner.snapshot().is_up(service(1), addr));
        assert!(runner.snapshot().is_up(service(2), other));
        all_ran(&runner).await;
        assert!(events.try_recv().is_err(), "no event without a change");

        runner.reconfigure(&config[1..]);
        assert_eq!(runner.snapshot().servers.len(), 1);
        assert_eq!(runner.tasks.len(), 1);
    }

    #[tokio::test]
    async fn alpha_server_is_down_until_its_first_probe_passes() {
        let (_listener, addr) = server(3).await;
        let mut rs = eager(addr);
        rs.checks[0].alpha = true;
        let (runner, mut events) = start(&[virtual_server(1, vec![rs])]);
        assert!(!runner.snapshot().is_up(service(1), addr));
        assert!(next(&mut events).await.up);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_of_this_host_leaves_the_server_as_it_is() {
        let (_listener, addr) = server(4).await;
        let mut rs = real_server(addr);
        rs.checks[0].bind_if = Some("hl-none".into());
        let (runner, mut events) = start(&[virtual_server(1, vec![rs])]);
        let last = || {
            runner
                .snapshot()
                .servers
                .into_values()
                .next()?
                .checks
                .pop()?
                .last
        };
        while last().is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(
            last()
                .unwrap()
                .starts_with("cannot bind the probe to interface hl-none")
        );
        assert!(runner.snapshot().is_up(service(1), addr));
        assert!(events.try_recv().is_err());
    }

    #[tokio::test]
    async fn dropped_runner_stops_all_probes() {
        let (_listener, addr) = server(5).await;
        let (runner, mut events) = start(&[virtual_server(1, vec![eager(addr)])]);
        drop(runner);
        // Each task holds a sender: the channel ends once the last task is gone.
        assert_eq!(events.recv().await, None);
    }

    #[tokio::test]
    async fn more_checks_than_permits_all_get_their_turn() {
        let (listener, addr) = server(6).await;
        // So many connections would fill the listener's queue.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let config: Vec<_> = (0..3)
            .flat_map(|_| 0..=255u8)
            .enumerate()
            .map(|(i, n)| {
                let mut vs = virtual_server(n, vec![eager(addr)]);
                vs.id.port = 1 + i as u16;
                vs
            })
            .collect();
        assert!(config.len() > MAX_CONCURRENT_PROBES);
        let (runner, mut events) = start(&config);
        all_ran(&runner).await;
        assert!(events.try_recv().is_err(), "all are up");
    }
}
