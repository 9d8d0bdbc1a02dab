// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the `vrrp_script`s: one task each, which starts, waits, counts and kills.
//!
//! In: the scripts of a configuration. Out: a [`ScriptEvent`] for each change. Called by the
//! application. Invariants: of a script at most one run exists; a run that takes longer than
//! `timeout` is a failure at once, gets SIGTERM, and SIGKILL [`KILL_AFTER`] later, with everything
//! in its process group; what a script writes goes nowhere.

use std::collections::BTreeMap;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tracing::{info, warn};

use super::count::Count;
use super::program::{self, Runnable};
use crate::config::model::VrrpScript;
use crate::vrrp::priority::Condition;

/// From SIGTERM to SIGKILL. KEEPALIVED: 2 s.
pub const KILL_AFTER: Duration = Duration::from_secs(2);
/// Starts of one script are at least this far apart, whatever `interval` says: starting processes
/// faster than that measures nothing but the host.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A script changed its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptEvent {
    /// Name of the `vrrp_script`.
    pub name: String,
    /// Its condition from here on.
    pub condition: Condition,
}

/// All scripts that run.
#[derive(Debug)]
pub struct Scripts {
    events: UnboundedSender<ScriptEvent>,
    tasks: BTreeMap<String, Task>,
    security: bool,
}

#[derive(Debug)]
struct Task {
    script: VrrpScript,
    /// Its end stops the task. Absent for a script that cannot be run.
    stop: Option<oneshot::Sender<()>>,
}

impl Scripts {
    /// None yet; changes go to `events`.
    pub fn new(events: UnboundedSender<ScriptEvent>) -> Self {
        Self {
            events,
            tasks: BTreeMap::new(),
            security: false,
        }
    }

    /// Makes `scripts` the ones that run; unchanged ones go on. What is known from the start (a
    /// script that cannot be run, one with `init_fail`, a new one) is returned, so that instances
    /// can start with it. Call inside a tokio runtime.
    pub fn reconfigure(&mut self, scripts: &[VrrpScript], security: bool) -> Vec<ScriptEvent> {
        let same_rules = self.security == security;
        self.security = security;
        let mut before = std::mem::take(&mut self.tasks);
        let mut known = Vec::new();
        for script in scripts {
            let old = before.remove(&script.name);
            let (is_new, kept) = (old.is_none(), old.filter(|old| old.script == *script));
            // One that cannot be run may have been repaired.
            let kept = kept.filter(|old| same_rules && old.stop.is_some());
            let task = if let Some(task) = kept {
                task
            } else {
                let (task, condition) = self.start(script);
                // The condition of a changed script holds until the first result of the new one.
                if is_new || condition != Condition::Unknown {
                    let name = script.name.clone();
                    known.push(ScriptEvent { name, condition });
                }
                task
            };
            self.tasks.insert(script.name.clone(), task);
        }
        known
    }

    fn start(&self, script: &VrrpScript) -> (Task, Condition) {
        let name = &script.name;
        let runnable = match program::resolve(&script.program, self.security) {
            Ok(runnable) => runnable,
            Err(cause) => {
                warn!("disabling track script {name}: {cause}");
                let script = script.clone();
                return (Task { script, stop: None }, Condition::Disabled);
            }
        };
        if let Some(path) = &runnable.unsafe_path {
            warn!(
                "script {name} runs as root, and others than root can change {}; \
                 enable_script_security would refuse it",
                path.display()
            );
        }
        let count = Count::new(script.rise, script.fall, script.init_fail);
        let condition = count.condition();
        let (stop, stopped) = oneshot::channel();
        let runner = Runner {
            script: script.clone(),
            runnable,
            count,
            events: self.events.clone(),
        };
        tokio::spawn(runner.run(stopped));
        let script = script.clone();
        let task = Task {
            script,
            stop: Some(stop),
        };
        (task, condition)
    }
}

struct Runner {
    script: VrrpScript,
    runnable: Runnable,
    count: Count,
    events: UnboundedSender<ScriptEvent>,
}

impl Runner {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut ticks = interval(self.script.interval.max(INTERVAL_MIN));
        // A run that takes longer than the interval skips starts, and the pace stays.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                _ = ticks.tick() => {}
            }
            if self.once(&mut stopped).await.is_none() {
                return;
            }
        }
    }

    /// One run to its end; none when the task was stopped meanwhile.
    async fn once(&mut self, stopped: &mut oneshot::Receiver<()>) -> Option<()> {
        let deadline = Instant::now() + self.script.timeout;
        let mut command = self.runnable.command(&[]);
        // Starting a program can take long (a file system that hangs): not on this thread.
        let mut starting = tokio::task::spawn_blocking(move || command.spawn().map(Run::new));
        let mut late = false;
        let started = match timeout_at(deadline, &mut starting).await {
            Ok(started) => started,
            Err(_) => {
                late = true;
                self.timed_out();
                starting.await
            }
        };
        let mut run = match started.map_err(io::Error::other).and_then(|run| run) {
            Ok(run) => run,
            Err(cause) => {
                self.result(Err(format!("it cannot be started: {cause}")));
                return Some(());
            }
        };
        if !late {
            tokio::select! {
                biased;
                ended = timeout_at(deadline, run.ended()) => match ended {
                    Ok(status) => {
                        self.result(success(status));
                        return Some(());
                    }
                    Err(_) => self.timed_out(),
                },
                _ = &mut *stopped => {
                    run.put_down().await;
                    return None;
                }
            }
        }
        run.put_down().await;
        Some(())
    }

    fn timed_out(&mut self) {
        let limit = self.script.timeout.as_secs_f64();
        self.result(Err(format!("no result within {limit} s, stopping it")));
    }

    /// Counts a result and tells of a change.
    fn result(&mut self, result: Result<(), String>) {
        let Some(condition) = self.count.result(result.is_ok()) else {
            return;
        };
        let name = &self.script.name;
        match result {
            Ok(()) => info!("script {name} succeeded"),
            Err(why) => warn!("script {name} failed: {why}"),
        }
        // The application may be gone.
        let _ = self.events.send(ScriptEvent {
            name: name.clone(),
            condition,
        });
    }
}

fn success(status: io::Result<ExitStatus>) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(cause) => Err(format!("cannot wait for it: {cause}")),
    }
}

/// A process group that runs. It does not outlive this value unless it ignores SIGTERM.
pub(crate) struct Run {
    child: Child,
    /// Absent once the leader was waited for: the number may be someone else's.
    group: Option<Pid>,
}

impl Run {
    /// `child` leads a group of its own.
    pub(crate) fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            child,
            group: id.map(Pid::from_raw),
        }
    }

    /// Waits for its leader. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group = None;
        status
    }

    /// Ends it, one way or the other.
    pub(crate) async fn put_down(&mut self) {
        let Some(group) = self.group else { return };
        signal(group, Signal::SIGTERM);
        let ended = timeout(KILL_AFTER, self.ended()).await.is_ok();
        // KEEPALIVED: children that outlived the script go too. As long as there are any, the
        // number of the group is not given to anyone else.
        signal(group, Signal::SIGKILL);
        if !ended {
            // One that not even this ends hangs in the kernel; its next run has to wait.
            let _ = self.ended().await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            signal(group, Signal::SIGTERM);
        }
    }
}

fn signal(group: Pid, signal: Signal) {
    // A group that is gone needs no signal.
    let _ = killpg(group, signal);
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
