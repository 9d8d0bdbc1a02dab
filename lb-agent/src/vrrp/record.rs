// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recordings of what the state machines are told and what they answer, and their replay.
//!
//! In: a line of JSON for each new machine and each input, or a file of them. Out: that file, or
//! whether the machines of this build answer the same. Called by the driver and by `xlvs replay`.
//! Invariants: a recording never holds the driver up, and says so where it has a gap; a replay
//! needs no socket, no clock and no root.
//!
//! ```text
//! {"kind":"machine","at":…,"instance":"VI_1","settings":{…}}
//! {"kind":"step","at":…,"instance":"VI_1","input":{"advert":{…}},"actions":[…]}
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tracing::error;

use super::event::{Action, Input};
use super::fsm::{Instance, Settings};
use super::time::Nanos;

/// Lines that may wait for the disk.
const WAITING_MAX: usize = 65_536;

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A machine in INIT; one of the same name before it is gone.
    Machine {
        /// When.
        at: Nanos,
        /// Name of its instance.
        instance: String,
        /// Its settings.
        settings: Settings,
    },
    /// An input, and what the machine asked for.
    Step {
        /// When.
        at: Nanos,
        /// Name of the instance.
        instance: String,
        /// What it was told.
        input: Input,
        /// What it answered.
        actions: Vec<Action>,
    },
    /// Lines are missing here, because the disk was too slow.
    Gap {
        /// How many.
        lines: u64,
    },
}

/// Writes a recording, from a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    lines: Option<SyncSender<Line>>,
    lost: u64,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Begins a recording, behind what an earlier agent wrote to the same file: an agent that is
    /// started again must not cost the recording of its predecessor's crash.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(open(path)?);
        let (lines, inbox) = sync_channel(WAITING_MAX);
        let name = path.display().to_string();
        let thread = std::thread::Builder::new().name("record".to_owned());
        let thread = thread.spawn(move || {
            if let Err(cause) = write(file, &inbox) {
                error!("cannot write the recording {name}: {cause}; it ends here");
            }
        })?;
        Ok(Self {
            lines: Some(lines),
            lost: 0,
            thread: Some(thread),
        })
    }

    /// Adds a line, if there is room.
    pub fn add(&mut self, line: Line) {
        let Some(lines) = &self.lines else {
            return;
        };
        if self.lost > 0 && lines.try_send(Line::Gap { lines: self.lost }).is_ok() {
            self.lost = 0;
        }
        match lines.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.lost = self.lost.saturating_add(1),
            Err(TrySendError::Disconnected(_)) => self.lines = None,
        }
    }
}

impl Drop for Recorder {
    /// What was added is on the disk afterwards.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens a recording for more lines. One that its writer's death cut off goes, so that the next
/// does not begin in its middle.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let options = options.read(true).append(true).create(true);
    let mut file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(file);
    }
    let mut torn = 0;
    let length = file.seek(SeekFrom::End(0))?;
    // From the end backwards: a recording may be large, a line is short.
    while torn < length {
        file.seek(SeekFrom::Start(length - torn - 1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last == *b"\n" {
            break;
        }
        torn += 1;
    }
    if torn > 0 {
        file.set_len(length - torn)?;
    }
    Ok(file)
}

/// Whenever no line waits, the file is complete.
fn write(mut file: BufWriter<File>, inbox: &Receiver<Line>) -> io::Result<()> {
    while let Ok(first) = inbox.recv() {
        let mut next = Some(first);
        while let Some(line) = next {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
            next = inbox.try_recv().ok();
        }
        file.flush()?;
    }
    Ok(())
}

/// Why a recording cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be read.
    #[error("cannot read the recording: {0}")]
    Read(#[from] io::Error),
    /// It is none.
    #[error("cannot understand line {line} of the recording: {cause}")]
    Line {
        /// From 1.
        line: usize,
        /// What is the matter.
        cause: serde_json::Error,
    },
}

/// An answer that is not the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// From 1.
    pub line: usize,
    /// Name of the instance.
    pub instance: String,
    /// What the machine was told.
    pub input: Input,
    /// What it answered then.
    pub recorded: Vec<Action>,
    /// What it answers now.
    pub replayed: Vec<Action>,
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// Inputs given.
    pub steps: usize,
    /// Lines that the recording lacks.
    pub lost: u64,
    /// Inputs for an instance whose beginning was not recorded.
    pub orphans: usize,
    /// Changes of state: moment, instance, action.
    pub changes: Vec<(Nanos, String, Action)>,
    /// Answers that differ.
    pub differences: Vec<Difference>,
}

/// Gives new machines the recorded inputs.
pub fn replay(recording: impl BufRead) -> Result<Replay, ReplayError> {
    let mut machines: BTreeMap<String, Instance> = BTreeMap::new();
    let mut replay = Replay::default();
    for (at, text) in recording.lines().enumerate() {
        let (text, line) = (text?, at.saturating_add(1));
        if text.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str(&text);
        match read.map_err(|cause| ReplayError::Line { line, cause })? {
            Line::Machine {
                instance, settings, ..
            } => {
                machines.insert(instance, Instance::new(settings));
            }
            Line::Gap { lines } => replay.lost = replay.lost.saturating_add(lines),
            Line::Step {
                at,
                instance,
                input,
                actions: recorded,
            } => {
                let Some(machine) = machines.get_mut(&instance) else {
                    replay.orphans += 1;
                    continue;
                };
                let mut replayed = Vec::new();
                machine.handle(at, input, &mut replayed);
                replay.steps += 1;
                let changes = replayed.iter();
                let changes = changes.filter(|a| matches!(a, Action::StateChanged { .. }));
                replay
                    .changes
                    .extend(changes.map(|action| (at, instance.clone(), *action)));
                if replayed != recorded {
                    replay.differences.push(Difference {
                        line,
                        instance,
                        input,
                        recorded,
                        replayed,
                    });
                }
            }
        }
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Announcing, Exchange, VrrpVersion};

    fn settings() -> Settings {
        Settings {
            version: VrrpVersion::V3,
            priority: 100,
            interval: Duration::from_millis(100),
            preempt: true,
            preempt_delay: Duration::ZERO,
            grouped: false,
            announcing: Announcing::default(),
            exchange: Exchange::default(),
        }
    }

    /// A machine of its own, recorded.
    fn record(path: &Path) -> usize {
        let mut recorder = Recorder::append(path).unwrap();
        let (instance, settings) = ("VI_1".to_owned(), settings());
        let mut machine = Instance::new(settings);
        let mut now = Nanos::new(5);
        let name = instance.clone();
        recorder.add(Line::Machine {
            at: now,
            instance,
            settings,
        });
        let source = Some("192.0.2.1".parse().unwrap());
        let mut steps = 0;
        for round in 0..50 {
            let input = if round == 0 {
                Input::Start { source }
            } else {
                Input::Timer
            };
            now = machine.poll_timeout().unwrap_or(now);
            let mut actions = Vec::new();
            machine.handle(now, input, &mut actions);
            steps += 1;
            recorder.add(Line::Step {
                at: now,
                instance: name.clone(),
                input,
                actions,
            });
        }
        steps
    }

    fn temporary(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("xlvs-{name}-{}.jsonl", std::process::id()))
    }

    #[test]
    fn a_recording_replays_and_a_change_in_it_is_found() {
        let path = temporary("record");
        let steps = record(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = replay(text.as_bytes()).unwrap();
        assert_eq!((found.steps, found.lost, found.orphans), (steps, 0, 0));
        assert_eq!(found.differences, []);
        let states: Vec<String> = found
            .changes
            .iter()
            .map(|(_, name, _)| name.clone())
            .collect();
        assert_eq!(states, ["VI_1"; 2], "BACKUP, MASTER");

        let changed = text.replacen(
            "\"send_advert\":{\"priority\":100}",
            "\"send_advert\":{\"priority\":99}",
            1,
        );
        assert_ne!(changed, text);
        let found = replay(changed.as_bytes()).unwrap();
        assert_eq!(found.differences.len(), 1);
        assert_eq!(
            found.differences[0].replayed[0],
            Action::SendAdvert { priority: 100 }
        );
    }

    #[test]
    fn a_recording_goes_on_behind_one_that_a_crash_cut_off() {
        let path = temporary("record-twice");
        let mut steps = record(&path);
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{\"kind\":\"step\",\"at\":12").unwrap();
        steps += record(&path) + record(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = replay(text.as_bytes()).unwrap();
        assert_eq!((found.steps, found.lost, found.orphans), (steps, 0, 0));
        assert_eq!(found.differences, []);
    }

    #[test]
    fn a_recording_with_gaps_and_without_its_beginning_is_read_as_far_as_it_goes() {
        let text = "{\"kind\":\"gap\",\"lines\":7}\n\n\
                    {\"kind\":\"step\",\"at\":1,\"instance\":\"A\",\"input\":\"timer\",\"actions\":[]}\n";
        let found = replay(text.as_bytes()).unwrap();
        assert_eq!((found.steps, found.lost, found.orphans), (0, 7, 1));
        let error = replay(&b"{\"kind\":\"gap\",\"lines\":7}\nno json\n"[..]).unwrap_err();
        assert!(
            error.to_string().starts_with("cannot understand line 2"),
            "{error}"
        );
    }

    /// Recordings of real pairs.
    #[test]
    fn what_was_recorded_is_still_answered_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "jsonl") {
                continue;
            }
            let file = io::BufReader::new(File::open(&path).unwrap());
            let found = replay(file).unwrap();
            assert_eq!(found.differences, [], "{}", path.display());
            assert!(found.steps > 0 && found.orphans == 0, "{}", path.display());
            count += 1;
        }
        assert!(count > 0, "there are recordings");
    }
}
