// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which processes a `vrrp_track_process` means, and when their number counts.
//!
//! In: /proc, the configuration. Out: process ids; changes of mind. Called by `watch`. `Settle` is
//! pure. Invariant: a process that has ended but was not waited for does not count.
//!
//! KEEPALIVED: the name is compared with the kernel's (15 bytes of it); with parameters or
//! `full_command` the whole command line is.

use std::time::{Duration, Instant};

use crate::config::model::{ParamMatch, TrackProcess};

/// The kernel's TASK_COMM_LEN, without the final zero.
const NAME_LENGTH: usize = 15;

/// All processes that match now.
pub(super) fn search(process: &TrackProcess) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| is_match(*pid, process))
        .collect()
}

/// Whether process `pid` is there and matches.
pub(super) fn is_match(pid: u32, process: &TrackProcess) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // `pid (name) state …`; a name may hold brackets.
    let Some((head, rest)) = stat.rsplit_once(") ") else {
        return false;
    };
    if rest.starts_with(['Z', 'X']) {
        return false;
    }
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let Some(command) = process.argv.first() else {
        return false;
    };
    let by_name = process.argv.len() == 1 && !process.full_command && process.params.is_none();
    if by_name {
        let end = command.len().min(NAME_LENGTH);
        return command.get(..end) == Some(name);
    }
    let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    matches(&words, name, process)
}

fn matches(words: &[String], name: &str, process: &TrackProcess) -> bool {
    let (Some((run, params)), Some((command, wanted))) =
        (words.split_first(), process.argv.split_first())
    else {
        return false;
    };
    if process.full_command && process.argv.len() == 1 {
        return words.join(" ") == *command || run == command;
    }
    let end = command.len().min(NAME_LENGTH);
    if run != command && command.get(..end) != Some(name) {
        return false;
    }
    match process.params {
        None => params == wanted,
        Some(ParamMatch::None) => params.is_empty(),
        Some(ParamMatch::Partial) => params.starts_with(wanted),
        Some(ParamMatch::Initial) => match (wanted.split_last(), params.split_last()) {
            (Some((last, before)), Some((own, own_before))) => {
                before == own_before && own.starts_with(last.as_str())
            }
            (None, _) => true,
            (Some(_), None) => false,
        },
    }
}

/// Whether the number of processes is as wanted, once it has been so for long enough.
#[derive(Debug)]
pub(super) struct Settle {
    quorum: u32,
    quorum_max: Option<u32>,
    fork_delay: Duration,
    terminate_delay: Duration,
    up: bool,
    since: Option<Instant>,
}

impl Settle {
    /// The first count counts at once.
    pub(super) fn new(process: &TrackProcess, count: usize) -> Self {
        let mut settle = Self {
            quorum: process.quorum,
            quorum_max: process.quorum_max,
            fork_delay: process.fork_delay,
            terminate_delay: process.terminate_delay,
            up: false,
            since: None,
        };
        settle.up = settle.is_wanted(count);
        settle
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    fn is_wanted(&self, count: usize) -> bool {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        count >= self.quorum && self.quorum_max.is_none_or(|max| count <= max)
    }

    /// Takes a count; the new state if that settles it.
    pub(super) fn count(&mut self, now: Instant, count: usize) -> Option<bool> {
        let wanted = self.is_wanted(count);
        if wanted == self.up {
            self.since = None;
            return None;
        }
        let delay = if wanted {
            self.fork_delay
        } else {
            self.terminate_delay
        };
        let since = *self.since.get_or_insert(now);
        if now.duration_since(since) < delay {
            return None;
        }
        (self.up, self.since) = (wanted, None);
        Some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(argv: &[&str], params: Option<ParamMatch>) -> TrackProcess {
        TrackProcess {
            name: "p".to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            params,
            full_command: false,
            quorum: 1,
            quorum_max: None,
            fork_delay: Duration::ZERO,
            terminate_delay: Duration::ZERO,
        }
    }

    #[test]
    fn parameters_are_compared_as_asked() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        let is = |line: &str, argv: &[&str], params| {
            matches(&words(line), "nginx", &process(argv, params))
        };
        assert!(is("/usr/sbin/nginx -g x", &["nginx", "-g", "x"], None));
        assert!(is(
            "/usr/sbin/nginx -g x",
            &["/usr/sbin/nginx", "-g", "x"],
            None
        ));
        assert!(!is("/usr/sbin/nginx -g x", &["nginx", "-g"], None));
        assert!(is(
            "/usr/sbin/nginx -g x",
            &["nginx", "-g"],
            Some(ParamMatch::Partial)
        ));
        assert!(is(
            "/usr/sbin/nginx -g xyz",
            &["nginx", "-g", "x"],
            Some(ParamMatch::Initial)
        ));
        assert!(!is(
            "/usr/sbin/nginx -g xyz y",
            &["nginx", "-g", "x"],
            Some(ParamMatch::Initial)
        ));
        assert!(!is(
            "/usr/sbin/nginx -g x",
            &["nginx"],
            Some(ParamMatch::None)
        ));
        assert!(is("/usr/sbin/nginx", &["nginx"], Some(ParamMatch::None)));
    }

    #[test]
    fn this_test_is_found_by_its_kernel_name() {
        let own = std::process::id();
        let name = std::fs::read_to_string(format!("/proc/{own}/comm")).unwrap();
        let found = search(&process(&[name.trim()], None));
        assert!(found.contains(&own), "{name:?} {found:?}");
        assert_eq!(
            search(&process(&["no-such-process"], None)),
            Vec::<u32>::new()
        );
    }

    #[test]
    fn a_count_settles_after_its_delay_and_a_bounce_does_not() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut wanted = process(&["p"], None);
        (wanted.quorum, wanted.quorum_max) = (2, Some(3));
        wanted.terminate_delay = Duration::from_millis(500);
        let mut settle = Settle::new(&wanted, 2);
        assert!(settle.is_up());
        assert_eq!(settle.count(at(0), 1), None);
        assert_eq!(settle.count(at(400), 2), None, "it is back");
        assert_eq!(settle.count(at(600), 4), None);
        assert_eq!(settle.count(at(1_100), 4), Some(false), "too many");
        assert_eq!(
            settle.count(at(1_200), 3),
            Some(true),
            "no delay for starting"
        );
    }
}
