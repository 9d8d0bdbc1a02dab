// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a supervisor decides: when an agent is started again, and when its place is given up.
//!
//! In: [`Input`]s with their moment. Out: [`Action`]s. Pure. Called by the supervisor's loop:
//! `handle` after any event, `poll_timeout`, `handle(Timer)` once that moment has come.
//!
//! ```text
//!            crashed, for the first time in a while: start at once, hold its place
//!          ┌──────────────────────────────────────────────┐
//!          ▼                                              │
//!   RUNNING ────────────────────────────────────────▸ (ended)
//!          ▲                                              │
//!          └───────── WAITING ◂───────────────────────────┘
//!             back-off          crashed again and again, or before it was ready: give its place up
//! ```
//!
//! Invariant: a place is held no longer than its holder said, and given up before the supervisor
//! ends, unless the agent ended of its own accord.

use std::collections::VecDeque;
use std::time::Duration;

use crate::vrrp::time::Nanos;

/// Crashes within [`CRASH_WINDOW`] after which an agent is not started at once any more.
pub(super) const CRASHES_AT_ONCE: usize = 5;
/// See [`CRASHES_AT_ONCE`].
pub(super) const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// First pause before another try; it doubles with each.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Of its own accord: it was told to stop, or to leave.
    Finished,
    /// It said why it cannot run.
    Refused(u8),
    /// Killed by a signal, or panicked.
    Crashed,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The agent is dead. `ready`: it had come so far as to say what it holds; `hold`: how long its
    /// place may be held for it, zero if it holds nothing.
    Ended {
        /// How.
        end: End,
        /// It ran.
        ready: bool,
        /// For so long.
        hold: Duration,
    },
    /// The new agent has decided about everything that the old one held.
    Settled,
    /// The moment of `poll_timeout` has come.
    Timer,
    /// The supervisor is told to stop, and has told the agent.
    Stop,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start an agent.
    Start,
    /// Send the dead agent's adverts, until `Settle` or `GiveUp`.
    Hold,
    /// The new agent has taken the place.
    Settle,
    /// Remove the dead agent's addresses and tell its peers; detach its program if no agent runs.
    GiveUp,
    /// End with this status.
    Exit(u8),
}

/// The decisions of one supervisor.
#[derive(Debug)]
pub(super) struct Policy {
    running: bool,
    /// An agent ran here.
    was_ready: bool,
    stopping: bool,
    start_at: Option<Nanos>,
    /// A dead agent's place is held until then.
    hold_until: Option<Nanos>,
    /// Moments of the last crashes.
    crashes: VecDeque<Nanos>,
    backoff: Duration,
}

impl Policy {
    /// For an agent that was just started.
    pub(super) fn new() -> Self {
        Self {
            running: true,
            was_ready: false,
            stopping: false,
            start_at: None,
            hold_until: None,
            crashes: VecDeque::new(),
            backoff: BACKOFF_FIRST,
        }
    }

    /// When `handle(Timer)` is due.
    pub(super) fn poll_timeout(&self) -> Option<Nanos> {
        self.start_at.into_iter().chain(self.hold_until).min()
    }

    /// The pause that a `Start` waits for.
    pub(super) fn pause(&self, now: Nanos) -> Option<Duration> {
        self.start_at.map(|at| at.since(now))
    }

    pub(super) fn handle(&mut self, now: Nanos, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Ended { end, ready, hold } => {
                self.running = false;
                self.was_ready |= ready;
                self.ended(now, end, ready, hold, &mut out);
            }
            Input::Settled => {
                if self.hold_until.take().is_some() {
                    out.push(Action::Settle);
                }
            }
            Input::Timer => {
                if self.hold_until.is_some_and(|at| now >= at) {
                    self.give_up(&mut out);
                }
                if self.start_at.is_some_and(|at| now >= at) {
                    self.start(&mut out);
                }
            }
            Input::Stop => {
                self.stopping = true;
                if !self.running {
                    self.give_up(&mut out);
                    out.push(Action::Exit(0));
                }
            }
        }
        out
    }

    fn ended(&mut self, now: Nanos, end: End, ready: bool, hold: Duration, out: &mut Vec<Action>) {
        match end {
            End::Finished => return out.push(Action::Exit(0)),
            End::Refused(status) if !self.was_ready => return out.push(Action::Exit(status)),
            End::Crashed if !self.was_ready => return out.push(Action::Exit(1)),
            End::Refused(_) | End::Crashed => {}
        }
        if ready && !hold.is_zero() {
            // What an earlier one held, and this one did not decide, is held no longer than that.
            self.hold_until.get_or_insert(now + hold);
        }
        if self.stopping {
            self.give_up(out);
            return out.push(Action::Exit(1));
        }
        self.crashes.push_back(now);
        while let Some(first) = self.crashes.front()
            && now.since(*first) > CRASH_WINDOW
        {
            self.crashes.pop_front();
        }
        if ready && self.crashes.len() <= CRASHES_AT_ONCE {
            self.backoff = BACKOFF_FIRST;
            self.start(out);
            if self.hold_until.is_some() {
                out.push(Action::Hold);
            }
        } else {
            self.give_up(out);
            self.start_at = Some(now + self.backoff);
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn start(&mut self, out: &mut Vec<Action>) {
        self.start_at = None;
        self.running = true;
        out.push(Action::Start);
    }

    fn give_up(&mut self, out: &mut Vec<Action>) {
        if self.hold_until.take().is_some() {
            out.push(Action::GiveUp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(3);

    fn at(ms: u64) -> Nanos {
        Nanos::new(ms * 1_000_000)
    }

    fn crash(ready: bool) -> Input {
        Input::Ended {
            end: End::Crashed,
            ready,
            hold: if ready { HOLD } else { Duration::ZERO },
        }
    }

    fn ended(end: End) -> Input {
        Input::Ended {
            end,
            ready: false,
            hold: Duration::ZERO,
        }
    }

    #[test]
    fn a_crashed_agent_is_started_at_once_and_its_place_is_held_until_it_is_back() {
        let mut policy = Policy::new();
        let actions = policy.handle(at(0), crash(true));
        assert_eq!(actions, [Action::Start, Action::Hold]);
        assert_eq!(policy.poll_timeout(), Some(at(3000)));
        assert_eq!(policy.handle(at(500), Input::Settled), [Action::Settle]);
        assert_eq!(policy.poll_timeout(), None);
        assert_eq!(policy.handle(at(600), Input::Settled), []);
    }

    #[test]
    fn its_place_is_given_up_when_it_does_not_come_back_in_time() {
        let mut policy = Policy::new();
        policy.handle(at(0), crash(true));
        assert_eq!(policy.handle(at(2999), Input::Timer), []);
        assert_eq!(policy.handle(at(3000), Input::Timer), [Action::GiveUp]);
        assert_eq!(policy.handle(at(3001), Input::Settled), []);
    }

    #[test]
    fn its_place_is_given_up_at_once_when_it_dies_again_before_it_runs() {
        for end in [End::Crashed, End::Refused(1)] {
            let mut policy = Policy::new();
            policy.handle(at(0), crash(true));
            assert_eq!(policy.handle(at(10), ended(end)), [Action::GiveUp]);
            assert_eq!(policy.poll_timeout(), Some(at(1010)));
            assert_eq!(policy.handle(at(1010), Input::Timer), [Action::Start]);
            assert_eq!(policy.handle(at(1020), ended(end)), []);
            assert_eq!(policy.pause(at(1020)), Some(Duration::from_secs(2)));
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_one_that_ran() {
        let mut policy = Policy::new();
        policy.handle(at(0), crash(true));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            policy.handle(now, crash(false));
            pauses.push(policy.pause(now).unwrap().as_secs());
            now = policy.poll_timeout().unwrap();
            assert_eq!(policy.handle(now, Input::Timer), [Action::Start]);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        let later = now + CRASH_WINDOW * 2;
        let actions = policy.handle(later, crash(true));
        assert_eq!(actions, [Action::Start, Action::Hold]);
    }

    #[test]
    fn an_agent_that_crashes_again_and_again_gives_its_place_up() {
        let mut policy = Policy::new();
        for n in 0..CRASHES_AT_ONCE as u64 {
            assert_eq!(policy.handle(at(n * 2000), crash(true))[0], Action::Start);
            policy.handle(at(n * 2000 + 1000), Input::Settled);
        }
        assert_eq!(policy.handle(at(20_000), crash(true)), [Action::GiveUp]);
    }

    #[test]
    fn the_end_of_the_first_agent_is_the_supervisors_end() {
        for (end, status) in [
            (End::Finished, 0),
            (End::Refused(1), 1),
            (End::Refused(2), 2),
            (End::Crashed, 1),
        ] {
            let actions = Policy::new().handle(at(0), ended(end));
            assert_eq!(actions, [Action::Exit(status)]);
        }
    }

    #[test]
    fn a_stop_ends_what_waits_and_an_agent_that_crashes_meanwhile_is_cleaned_up_after() {
        let mut policy = Policy::new();
        assert_eq!(policy.handle(at(0), Input::Stop), []);
        let actions = policy.handle(at(1), crash(true));
        assert_eq!(actions, [Action::GiveUp, Action::Exit(1)]);

        let mut policy = Policy::new();
        policy.handle(at(0), crash(true));
        policy.handle(at(1), crash(false));
        assert_eq!(policy.handle(at(2), Input::Stop), [Action::Exit(0)]);
    }
}
