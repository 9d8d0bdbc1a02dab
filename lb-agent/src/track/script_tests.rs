// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real processes: good ones, and every way in which a script can misbehave.

use std::fs;
use std::path::PathBuf;
use std::time::Instant as Clock;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::model::Program;

const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tr-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).map_or(0, |text| text.lines().count())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn argv(words: &[&str], interval_ms: u64, timeout_ms: u64) -> VrrpScript {
    VrrpScript {
        name: "s".to_owned(),
        program: Program {
            argv: words.iter().map(ToString::to_string).collect(),
            user: None,
        },
        interval: Duration::from_millis(interval_ms),
        timeout: Duration::from_millis(timeout_ms),
        rise: 1,
        fall: 1,
        init_fail: false,
    }
}

fn shell(text: &str, interval_ms: u64, timeout_ms: u64) -> VrrpScript {
    argv(&["sh", "-c", text], interval_ms, timeout_ms)
}

fn start(script: VrrpScript) -> (Scripts, UnboundedReceiver<ScriptEvent>, Vec<ScriptEvent>) {
    let (sender, events) = unbounded_channel();
    let mut scripts = Scripts::new(sender);
    let known = scripts.reconfigure(&[script], false);
    (scripts, events, known)
}

async fn next(events: &mut UnboundedReceiver<ScriptEvent>) -> Condition {
    let event = timeout(PATIENCE, events.recv()).await;
    event
        .expect("a result in time")
        .expect("a result")
        .condition
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Clock::now();
    while !condition() {
        assert!(
            start.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_exit_status_decides_and_only_changes_are_told() {
    let scratch = Scratch::new("status");
    let flag = scratch.path("flag");
    let (_scripts, mut events, known) = start(shell(&format!("test -e {flag}"), 20, 5000));
    assert_eq!(known[0].condition, Condition::Unknown);
    assert_eq!(next(&mut events).await, Condition::Down);
    fs::write(&flag, "").unwrap();
    assert_eq!(next(&mut events).await, Condition::Up);
    fs::remove_file(&flag).unwrap();
    assert_eq!(next(&mut events).await, Condition::Down);
}

#[tokio::test]
async fn a_script_that_is_not_there_is_disabled_and_others_go_on() {
    let (_scripts, mut events, known) = start(argv(&["/no/such/check.sh"], 20, 20));
    assert_eq!(known[0].condition, Condition::Disabled);
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_script_that_hangs_fails_at_its_timeout_and_dies_with_its_children() {
    let scratch = Scratch::new("hang");
    let (pids, runs) = (scratch.path("pids"), scratch.path("runs"));
    // Deaf to SIGTERM, and so is its child.
    let text = format!(
        "trap '' TERM; echo x >> {runs}; echo $$ >> {pids}; \
         sh -c 'trap \"\" TERM; echo $$ >> {pids}; while :; do sleep 1; done' & \
         while :; do sleep 1; done"
    );
    let (_scripts, mut events, _) = start(shell(&text, 20, 200));
    assert_eq!(next(&mut events).await, Condition::Down);
    eventually("script and child wrote their numbers", || {
        scratch.lines("pids") >= 2
    })
    .await;
    let first: Vec<i32> = fs::read_to_string(&pids)
        .unwrap()
        .lines()
        .take(2)
        .map(|line| line.parse().unwrap())
        .collect();
    // What init has not collected yet is dead as well.
    let dead = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    eventually("both are dead", || first.iter().all(dead)).await;
    eventually("the next run", || scratch.lines("runs") >= 2).await;
}

#[tokio::test]
async fn a_run_that_takes_longer_than_the_interval_is_not_started_twice() {
    let scratch = Scratch::new("twice");
    let (lock, twice) = (scratch.path("lock"), scratch.path("twice"));
    let runs = scratch.path("runs");
    let text =
        format!("echo x >> {runs}; mkdir {lock} || echo x >> {twice}; sleep 0.1; rmdir {lock}");
    let (_scripts, mut events, _) = start(shell(&text, 10, 10_000));
    assert_eq!(next(&mut events).await, Condition::Up);
    eventually("five runs", || scratch.lines("runs") >= 5).await;
    assert_eq!(scratch.lines("twice"), 0);
}

#[tokio::test]
async fn a_flood_of_output_goes_nowhere() {
    let text = "head -c 20000000 /dev/zero; head -c 20000000 /dev/zero >&2; read x";
    let (_scripts, mut events, _) = start(shell(text, 20, 10_000));
    // `read` finds nothing to read, which is a failure.
    assert_eq!(next(&mut events).await, Condition::Down);
}

#[tokio::test]
async fn a_script_that_leaves_a_daemon_behind_is_over_when_it_exits() {
    let scratch = Scratch::new("daemon");
    let pid = scratch.path("pid");
    let text = format!("sleep 300 & echo $! > {pid}; exit 0");
    let (_scripts, mut events, _) = start(shell(&text, 3_600_000, 10_000));
    assert_eq!(next(&mut events).await, Condition::Up);
    let daemon = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(Pid::from_raw(daemon), Signal::SIGKILL).expect("it goes on");
}

#[tokio::test]
async fn a_script_that_a_reload_removes_is_stopped() {
    let scratch = Scratch::new("left");
    let pid = scratch.path("pid");
    let text = format!("echo $$ > {pid}; exec sleep 600");
    let (mut scripts, _events, _) = start(shell(&text, 20, 600_000));
    eventually("it runs", || scratch.lines("pid") == 1).await;
    let number: String = fs::read_to_string(&pid).unwrap().trim().to_owned();
    scripts.reconfigure(&[], false);
    eventually("it is gone", || {
        !PathBuf::from(format!("/proc/{number}")).exists()
    })
    .await;
}

#[tokio::test]
async fn a_reload_keeps_unchanged_scripts_running_and_tells_only_news() {
    let scratch = Scratch::new("reload");
    let runs = scratch.path("runs");
    let once = shell(&format!("echo x >> {runs}"), 3_600_000, 10_000);
    let (mut scripts, mut events, _) = start(once.clone());
    assert_eq!(next(&mut events).await, Condition::Up);
    assert_eq!(scripts.reconfigure(std::slice::from_ref(&once), false), []);
    // A changed one keeps its condition until its first result.
    let changed = VrrpScript { fall: 3, ..once };
    assert_eq!(scripts.reconfigure(&[changed], false), []);
    assert_eq!(next(&mut events).await, Condition::Up);
    assert_eq!(scratch.lines("runs"), 2);
}
