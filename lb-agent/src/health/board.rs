// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of every check, and what it makes of the real servers.
//!
//! Comes in: the configuration, and the report of each probe. Goes out: which checks to launch and
//! to stop, the events of servers that changed, and a [`Snapshot`].
//!
//! Invariant: an event is made exactly when a configured server's `up` changes; who applies the
//! events in order to a snapshot arrives at the next snapshot. Pure. Called by `runner`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::checker::{Checker, Report};
use super::dampen::{Dampener, Verdict};
use crate::config::model::{RealServer, ServiceId, VirtualServer};

/// A real server of a virtual server. The same address in two virtual servers is two servers, each
/// with its own checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerKey {
    /// The virtual server.
    pub service: ServiceId,
    /// The real server.
    pub server: SocketAddr,
}

/// A real server went up or down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServerEvent {
    /// The virtual server.
    pub service: ServiceId,
    /// The real server.
    pub server: SocketAddr,
    /// Its new state.
    pub up: bool,
    /// Why, for people: `TCP_CHECK to 10.0.0.1:80: connection refused`.
    pub reason: String,
}

/// All real servers as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Each configured real server.
    pub servers: BTreeMap<ServerKey, ServerHealth>,
}

/// One real server as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerHealth {
    /// All its checks are up, or it has none.
    pub up: bool,
    /// Its checks in the order of the file.
    pub checks: Vec<CheckHealth>,
}

/// One check as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckHealth {
    /// Its kind and target: `TCP_CHECK to 10.0.0.1:80`.
    pub check: String,
    /// Whether it holds the server fit.
    pub up: bool,
    /// Whether a probe was made yet; until then `up` is an assumption.
    pub has_run: bool,
    /// How the last probe ended: `connection refused`.
    pub last: Option<String>,
}

impl Snapshot {
    /// Whether a server is up. One that is not in the snapshot has no check that failed.
    pub fn is_up(&self, service: ServiceId, server: SocketAddr) -> bool {
        self.servers
            .get(&ServerKey { service, server })
            .is_none_or(|health| health.up)
    }
}

/// Names one check for as long as its parameters stay as they are.
pub type CheckId = u64;

/// What the runner has to do after a change of the configuration.
#[derive(Debug, Default, PartialEq)]
pub struct Configured {
    /// Checks to probe from here on.
    pub launch: Vec<Launch>,
    /// Checks to stop.
    pub stop: Vec<CheckId>,
    /// Servers whose state the change of checks changed.
    pub events: Vec<RealServerEvent>,
}

/// A check to probe.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Its name on the board.
    pub id: CheckId,
    /// Its real server.
    pub key: ServerKey,
    /// How to probe.
    pub checker: Checker,
}

/// What a report changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    /// What it meant for the check.
    pub verdict: Verdict,
    /// Pause before the next probe.
    pub pause: Duration,
    /// The server's change, if the check's change made one.
    pub event: Option<RealServerEvent>,
    /// Whether the last probe had ended in the same way.
    pub repeated: bool,
    /// `inhibit_on_failure` of the server.
    pub inhibit: bool,
}

/// All checks.
#[derive(Debug, Default)]
pub struct Board {
    servers: BTreeMap<ServerKey, Server>,
    next_id: CheckId,
    started: bool,
}

#[derive(Debug)]
struct Server {
    inhibit: bool,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    id: CheckId,
    checker: Checker,
    dampener: Dampener,
    last: Option<String>,
}

impl Server {
    fn is_up(&self) -> bool {
        self.checks.iter().all(|check| check.dampener.is_up())
    }
}

impl Board {
    /// Takes in a configuration: the first one, or a new one.
    ///
    /// A check whose parameters are all the same goes on as it is; one that asks the same question
    /// at other times is launched anew with its state. Of two real servers with the same key the
    /// first counts.
    pub fn configure(&mut self, virtual_servers: &[VirtualServer]) -> Configured {
        let mut old = std::mem::take(&mut self.servers);
        let mut out = Configured::default();
        for vs in virtual_servers {
            for rs in &vs.real_servers {
                let key = ServerKey {
                    service: vs.id,
                    server: rs.addr,
                };
                if self.servers.contains_key(&key) {
                    continue;
                }
                let before = old.remove(&key);
                let was_up = before.as_ref().map(Server::is_up);
                let server = self.take_over(key, rs, before, &mut out);
                let up = server.is_up();
                if was_up.is_some_and(|was_up| was_up != up) {
                    out.events.push(RealServerEvent {
                        service: key.service,
                        server: key.server,
                        up,
                        reason: "its checks were changed by a reload".into(),
                    });
                }
                self.servers.insert(key, server);
            }
        }
        let gone = old.into_values().flat_map(|server| server.checks);
        out.stop.extend(gone.map(|check| check.id));
        self.started = true;
        out
    }

    /// The server `rs` with what can be kept of `before`.
    fn take_over(
        &mut self,
        key: ServerKey,
        rs: &RealServer,
        before: Option<Server>,
        out: &mut Configured,
    ) -> Server {
        let known = before.is_some();
        let was_up = before.as_ref().is_none_or(Server::is_up);
        let mut old = before.map_or_else(Vec::new, |server| server.checks);
        let wanted: Vec<Checker> = rs.checks.iter().cloned().map(Checker::from).collect();

        // Whole matches first, so that a changed check cannot take the place of an unchanged one.
        let mut found: Vec<Option<Check>> = wanted
            .iter()
            .map(|checker| take(&mut old, |c| c.checker == *checker))
            .collect();
        for (checker, slot) in wanted.iter().zip(&mut found) {
            if slot.is_none()
                && let Some(check) = take(&mut old, |c| {
                    c.dampener.has_run() && c.checker.asks_the_same_as(checker)
                })
            {
                out.stop.push(check.id);
                let dampener = check.dampener.with_policy(checker.policy());
                *slot = Some(self.launch(key, checker, dampener, check.last, out));
            }
        }
        out.stop.extend(old.into_iter().map(|check| check.id));

        // KEEPALIVED: `migrate_checkers`. Beside a check that failed, a new check has one probe to
        // prove itself, and with `alpha` counts as failed until then.
        let carried = || found.iter().flatten().map(|check| check.dampener);
        let doubtful = carried().any(|d| d.has_run() && !d.is_up())
            || (!was_up && !carried().any(|d| d.has_run()));
        let checks = wanted.iter().zip(found).map(|(checker, slot)| {
            let fresh = match (self.started, known) {
                (false, _) => Dampener::at_start(checker.alpha(), checker.policy()),
                (true, false) => Dampener::at_reload(checker.alpha()),
                (true, true) if doubtful => Dampener::at_start(checker.alpha(), checker.policy()),
                (true, true) => Dampener::at_reload(false),
            };
            slot.unwrap_or_else(|| self.launch(key, checker, fresh, None, out))
        });
        Server {
            inhibit: rs.inhibit_on_failure,
            checks: checks.collect(),
        }
    }

    fn launch(
        &mut self,
        key: ServerKey,
        checker: &Checker,
        dampener: Dampener,
        last: Option<String>,
        out: &mut Configured,
    ) -> Check {
        let id = self.next_id;
        self.next_id += 1;
        out.launch.push(Launch {
            id,
            key,
            checker: checker.clone(),
        });
        Check {
            id,
            checker: checker.clone(),
            dampener,
            last,
        }
    }

    /// Takes in the end of one probe. None if the check is not on the board any more.
    pub fn note(&mut self, key: ServerKey, id: CheckId, report: &Report) -> Option<Noted> {
        let server = self.servers.get_mut(&key)?;
        let was_up = server.is_up();
        let check = server.checks.iter_mut().find(|check| check.id == id)?;
        let step = check.dampener.apply(report.probe, check.checker.policy());
        let repeated = check.last.as_ref() == Some(&report.text);
        check.last = Some(report.text.clone());
        let reason = format!("{}: {}", check.checker, report.text);
        let up = server.is_up();
        Some(Noted {
            verdict: step.verdict,
            pause: step.pause,
            event: (was_up != up).then_some(RealServerEvent {
                service: key.service,
                server: key.server,
                up,
                reason,
            }),
            repeated,
            inhibit: server.inhibit,
        })
    }

    /// All servers as they stand.
    pub fn snapshot(&self) -> Snapshot {
        let servers = self.servers.iter().map(|(key, server)| {
            let checks = server.checks.iter().map(|check| CheckHealth {
                check: check.checker.to_string(),
                up: check.dampener.is_up(),
                has_run: check.dampener.has_run(),
                last: check.last.clone(),
            });
            let health = ServerHealth {
                up: server.is_up(),
                checks: checks.collect(),
            };
            (*key, health)
        });
        Snapshot {
            servers: servers.collect(),
        }
    }
}

fn take(checks: &mut Vec<Check>, wanted: impl Fn(&Check) -> bool) -> Option<Check> {
    let at = checks.iter().position(wanted)?;
    Some(checks.remove(at))
}

#[cfg(test)]
mod tests {
    use super::super::dampen::Probe;
    use super::super::fixture::{check, real_server, server, service, virtual_server};
    use super::*;

    fn report(probe: Probe) -> Report {
        Report {
            probe,
            text: format!("{probe:?}"),
        }
    }

    fn key(n: u8) -> ServerKey {
        ServerKey {
            service: service(1),
            server: server(n),
        }
    }

    /// A board with one server that has two checks, and the checks' names.
    fn two_checks() -> (Board, Vec<VirtualServer>, CheckId, CheckId) {
        let mut rs = real_server(server(1));
        rs.checks.push(check(server(2)));
        let config = vec![virtual_server(1, vec![rs])];
        let mut board = Board::default();
        let ids: Vec<CheckId> = board
            .configure(&config)
            .launch
            .iter()
            .map(|launch| launch.id)
            .collect();
        (board, config, ids[0], ids[1])
    }

    fn fail(board: &mut Board, id: CheckId, times: usize) -> Option<RealServerEvent> {
        (0..times)
            .filter_map(|_| {
                board
                    .note(key(1), id, &report(Probe::Failed))
                    .unwrap()
                    .event
            })
            .last()
    }

    #[test]
    fn server_is_up_only_while_all_its_checks_are() {
        let (mut board, _, a, b) = two_checks();
        assert!(!fail(&mut board, a, 1).unwrap().up);
        assert_eq!(fail(&mut board, b, 1), None, "down already");
        let first = board.note(key(1), a, &report(Probe::Passed)).unwrap();
        assert_eq!((first.verdict, first.event), (Verdict::WentUp, None));
        let second = board.note(key(1), b, &report(Probe::Passed)).unwrap();
        assert!(second.event.unwrap().up);
    }

    #[test]
    fn server_without_checks_is_up() {
        let mut rs = real_server(server(1));
        rs.checks.clear();
        let mut board = Board::default();
        board.configure(&[virtual_server(1, vec![rs])]);
        assert!(board.snapshot().is_up(service(1), server(1)));
    }

    #[test]
    fn unchanged_configuration_changes_nothing() {
        let (mut board, config, a, _) = two_checks();
        fail(&mut board, a, 1);
        let before = board.snapshot();
        assert_eq!(board.configure(&config), Configured::default());
        assert_eq!(board.snapshot(), before);
    }

    #[test]
    fn check_with_other_timing_is_launched_anew_with_its_state() {
        let (mut board, mut config, a, _) = two_checks();
        fail(&mut board, a, 1);
        config[0].real_servers[0].checks[0].delay_loop = Duration::from_secs(5);
        let configured = board.configure(&config);
        assert_eq!(configured.stop, [a]);
        assert_eq!(configured.launch.len(), 1);
        assert_eq!(configured.events, []);
        assert!(!board.snapshot().is_up(service(1), server(1)));
    }

    #[test]
    fn server_comes_up_when_a_reload_takes_away_the_check_that_failed() {
        let (mut board, mut config, a, b) = two_checks();
        board.note(key(1), b, &report(Probe::Passed));
        fail(&mut board, a, 1);
        config[0].real_servers[0].checks.remove(0);
        let configured = board.configure(&config);
        assert_eq!(configured.stop, [a]);
        assert!(configured.events[0].up);
    }

    #[test]
    fn removed_server_stops_its_checks_and_a_late_report_finds_nobody() {
        let (mut board, _, a, b) = two_checks();
        assert_eq!(board.configure(&[]).stop, [a, b]);
        assert_eq!(board.note(key(1), a, &report(Probe::Failed)), None);
        assert_eq!(board.snapshot(), Snapshot::default());
    }

    #[test]
    fn alpha_check_added_to_a_healthy_server_does_not_take_it_down() {
        let (mut board, mut config, a, b) = two_checks();
        for id in [a, b] {
            board.note(key(1), id, &report(Probe::Passed));
        }
        let mut added = check(server(3));
        added.alpha = true;
        config[0].real_servers[0].checks.push(added);
        assert_eq!(board.configure(&config).events, []);
        assert!(board.snapshot().is_up(service(1), server(1)));
    }

    #[test]
    fn alpha_server_added_by_a_reload_starts_down() {
        let (mut board, mut config, ..) = two_checks();
        let mut added = real_server(server(9));
        added.checks[0].alpha = true;
        config[0].real_servers.push(added);
        board.configure(&config);
        assert!(!board.snapshot().is_up(service(1), server(9)));
    }

    #[test]
    fn same_address_in_two_virtual_servers_is_two_servers() {
        let config = [1, 2].map(|n| virtual_server(n, vec![real_server(server(1))]));
        let mut board = Board::default();
        let launched = board.configure(&config).launch;
        fail(&mut board, launched[0].id, 1);
        assert!(!board.snapshot().is_up(service(1), server(1)));
        assert!(board.snapshot().is_up(service(2), server(1)));
    }
}
