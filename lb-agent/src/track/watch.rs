// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at tracked files and processes: one task each.
//!
//! In: the `track_file` and `vrrp_track_process` blocks of a configuration. Out: a [`WatchEvent`]
//! for each change. Called by the application. Invariants: a file that is not there counts as 0;
//! what is known at the start is told before an instance starts.
//!
//! Both are looked at in intervals: the kernel's notices of files are lost on network file systems
//! and with directories that come later, those of processes inside network namespaces. A process
//! that is known is looked at more often than new ones are searched for.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use super::process::{self, Settle};
use crate::config::model::{Config, TrackFile, TrackProcess, Tracked};
use crate::vrrp::priority::Condition;

/// Between two looks at a file, or at known processes.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks at known processes until all processes are searched again.
pub const SEARCH_EVERY: u32 = 10;

/// Something tracked changed its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What.
    pub what: Tracked,
    /// Its condition from here on.
    pub condition: Condition,
}

/// All that is watched.
#[derive(Debug)]
pub struct Watches {
    events: UnboundedSender<WatchEvent>,
    tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq)]
enum Subject {
    File(TrackFile),
    Process(TrackProcess),
}

#[derive(Debug)]
struct Task {
    subject: Subject,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Watches {
    /// None yet; changes go to `events`.
    pub fn new(events: UnboundedSender<WatchEvent>) -> Self {
        Self {
            events,
            tasks: Vec::new(),
        }
    }

    /// Watches what the instances of `config` track, and nothing else; unchanged subjects go on.
    /// What is known from the start is returned. Call inside a tokio runtime.
    pub fn reconfigure(&mut self, config: &Config) -> Vec<WatchEvent> {
        let mut before = std::mem::take(&mut self.tasks);
        let mut known = Vec::new();
        for subject in subjects(config) {
            if let Some(at) = before.iter().position(|task| task.subject == subject) {
                self.tasks.push(before.swap_remove(at));
                continue;
            }
            let (first, handle) = match &subject {
                Subject::File(file) => start_file(file.clone(), self.events.clone()),
                Subject::Process(process) => start_process(process.clone(), self.events.clone()),
            };
            known.push(first);
            self.tasks.push(Task { subject, handle });
        }
        known
    }
}

fn subjects(config: &Config) -> Vec<Subject> {
    let tracks = config.vrrp_instances.iter().flat_map(|i| &i.tracks);
    let tracked: BTreeSet<&Tracked> = tracks.map(|track| &track.what).collect();
    let files = config
        .track_files
        .iter()
        .map(|file| (Tracked::File(file.name.clone()), file));
    let files = files
        .filter(|(what, _)| tracked.contains(what))
        .map(|(_, file)| Subject::File(file.clone()));
    let processes = config.track_processes.iter();
    let processes = processes
        .filter(|process| tracked.contains(&Tracked::Process(process.name.clone())))
        .map(|process| Subject::Process(process.clone()));
    files.chain(processes).collect()
}

fn start_file(
    file: TrackFile,
    events: UnboundedSender<WatchEvent>,
) -> (WatchEvent, JoinHandle<()>) {
    if let Some(init) = &file.init
        && (init.overwrite || !std::path::Path::new(&file.path).exists())
        && let Err(cause) = std::fs::write(&file.path, format!("{}\n", init.value))
    {
        error!(
            "track_file {}: cannot write {}: {cause}",
            file.name, file.path
        );
    }
    let what = Tracked::File(file.name.clone());
    let mut value = read(&file.path);
    let first = WatchEvent {
        what: what.clone(),
        condition: Condition::Value(value),
    };
    let handle = tokio::spawn(async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = read(&file.path);
            if now != value {
                info!("track_file {}: {value} -> {now}", file.name);
                value = now;
                let condition = Condition::Value(value);
                let what = what.clone();
                if events.send(WatchEvent { what, condition }).is_err() {
                    return;
                }
            }
        }
    });
    (first, handle)
}

/// The number at the beginning of a file; 0 if there is none.
///
/// KEEPALIVED: so a missing file, and one without a number, are 0.
fn read(path: &str) -> i64 {
    const LONGEST: usize = 64;
    let Ok(bytes) = std::fs::read(path) else {
        return 0;
    };
    let text = String::from_utf8_lossy(bytes.get(..LONGEST).unwrap_or(&bytes)).into_owned();
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || *at == 0 && matches!(c, '-' | '+')))
        .map_or(text.len(), |(at, _)| at);
    let number = text.get(..end).and_then(|number| number.parse().ok());
    number.unwrap_or_default()
}

fn start_process(
    process: TrackProcess,
    events: UnboundedSender<WatchEvent>,
) -> (WatchEvent, JoinHandle<()>) {
    let what = Tracked::Process(process.name.clone());
    let mut known = process::search(&process);
    let mut settle = Settle::new(&process, known.len());
    let first = WatchEvent {
        what: what.clone(),
        condition: condition(settle.is_up()),
    };
    let handle = tokio::spawn(async move {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 1_u32.. {
            ticks.tick().await;
            known.retain(|pid| process::is_match(*pid, &process));
            if round % SEARCH_EVERY == 0 {
                known = process::search(&process);
            }
            let now = tokio::time::Instant::now().into_std();
            if let Some(up) = settle.count(now, known.len()) {
                let (name, count) = (&process.name, known.len());
                if up {
                    info!("vrrp_track_process {name}: up, {count} processes");
                } else {
                    warn!("vrrp_track_process {name}: down, {count} processes");
                }
                let what = what.clone();
                let condition = condition(up);
                if events.send(WatchEvent { what, condition }).is_err() {
                    return;
                }
            }
        }
    });
    (first, handle)
}

fn condition(up: bool) -> Condition {
    if up { Condition::Up } else { Condition::Down }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::config::parse;

    /// A directory of its own, gone with the test.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xlvs-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str) -> String {
            self.0.join(name).into_os_string().into_string().unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn config(block: &str, track: &str) -> Config {
        let text = format!(
            "{block}\nvrrp_instance A {{\ninterface e\nvirtual_router_id 5\n\
             virtual_ipaddress {{\n192.0.2.9\n}}\n{track}\n}}\n"
        );
        let loaded = parse("t", &text);
        assert!(loaded.is_applicable(), "{:?}", loaded.diagnostics);
        loaded.config
    }

    #[test]
    fn the_number_at_the_beginning_counts_and_nothing_is_0() {
        let dir = Dir::new("number");
        let path = dir.file("n");
        for (text, value) in [
            ("5\n", 5),
            ("  -254", -254),
            ("+7 nginx", 7),
            ("12abc", 12),
            ("abc", 0),
            ("", 0),
            ("-", 0),
            ("99999999999999999999", 0),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path), value, "{text}");
        }
        assert_eq!(read(&dir.file("missing")), 0);
    }

    #[tokio::test]
    async fn a_file_is_followed_through_changes_removal_and_return() {
        let dir = Dir::new("file");
        let path = dir.file("f");
        let block = format!("track_file f {{\nfile \"{path}\"\ninit_file 3\n}}");
        let config = config(&block, "track_file {\nf weight 1\n}");
        let (sender, mut events) = unbounded_channel();
        let mut watches = Watches::new(sender);
        let known = watches.reconfigure(&config);
        assert_eq!(known[0].condition, Condition::Value(3));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
        std::fs::write(&path, "-20").unwrap();
        assert_eq!(
            events.recv().await.unwrap().condition,
            Condition::Value(-20)
        );
        std::fs::remove_file(&path).unwrap();
        assert_eq!(events.recv().await.unwrap().condition, Condition::Value(0));
        std::fs::write(dir.file("new"), "9").unwrap();
        std::fs::rename(dir.file("new"), &path).unwrap();
        assert_eq!(events.recv().await.unwrap().condition, Condition::Value(9));
        assert_eq!(watches.reconfigure(&config), [], "an unchanged one goes on");
    }

    #[tokio::test]
    async fn a_process_is_followed_from_its_start_to_its_end() {
        let block = "vrrp_track_process p {\nprocess sleep 987.5\n}";
        let config = config(block, "track_process {\np\n}");
        let (sender, mut events) = unbounded_channel();
        let mut watches = Watches::new(sender);
        let known = watches.reconfigure(&config);
        assert_eq!(known[0].condition, Condition::Down);
        let mut child = std::process::Command::new("sleep")
            .arg("987.5")
            .spawn()
            .unwrap();
        assert_eq!(events.recv().await.unwrap().condition, Condition::Up);
        // A zombie, which nobody has waited for, does not run any more.
        child.kill().unwrap();
        assert_eq!(events.recv().await.unwrap().condition, Condition::Down);
        child.wait().unwrap();
    }
}
