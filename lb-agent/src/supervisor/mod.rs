// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parent of the agent: starts it, passes signals on, and takes its place when it crashes.
//!
//! ```text
//!            signals              page of memory
//!  operator ─────────▸ supervisor ◂────────────── agent (same binary, its child)
//!                        │    │                     │
//!                 policy ┘    └ stand_in            └ link
//!          when to start again   adverts, addresses    what it holds, what was left
//! ```
//!
//! - `policy`: what is decided. Pure.
//! - [`page`]: what the agent holds, as bytes. Pure but for reading and writing them.
//! - `stand_in`: adverts sent, and the role given up, for a dead agent.
//! - `relay`: what the agent tells systemd.
//! - [`link`]: the agent's end.
//!
//! Invariants: it reads no configuration, runs no scripts, and has no runtime; it sleeps until
//! a signal comes. docs/lifecycle.md tells what a crash looks like from outside.

pub mod link;
pub mod page;
mod policy;
mod relay;
mod stand_in;

use std::env;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use tracing::{debug, error, info, warn};

use crate::dataplane::Pins;
use crate::firewall;
use crate::vrrp::driver::now;
use crate::vrrp::time::Nanos;
use page::{Held, Holdings};
use policy::{Action, End, Input, Policy};
use relay::Relay;
use stand_in::StandIn;

/// Longest time that a dead agent's place is held for the next one: a start takes the verifier's
/// time, seconds on a slow and busy host.
const HOLD_MAX: Duration = Duration::from_secs(8);

/// How often it is looked whether a new agent has taken its predecessor's place.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Exit status of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Signals that are passed on.
const PASSED_ON: [Signal; 5] = [
    Signal::SIGHUP,
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Signals that an agent inherits as blocked, and has to take.
pub fn blocked_signals() -> SigSet {
    PASSED_ON.into_iter().chain([Signal::SIGCHLD]).collect()
}

/// How long the place of an agent that held `masters` is held: as long as a start and an election
/// may take, while its program forwards, and while no peer misses its adverts.
pub fn hold(masters: &[Held], watchdog: Duration) -> Duration {
    let patience = |held: &Held| {
        if held.adverts.is_empty() {
            // The last one was sent up to an interval ago, and peers wait for three.
            held.interval * 2
        } else {
            HOLD_MAX
        }
    };
    let patience = masters.iter().map(patience).min();
    patience
        .unwrap_or_default()
        .min(watchdog * 4 / 5)
        .min(HOLD_MAX)
}

/// Runs this program's own command line as an agent, and stands by it until it ends for good.
/// `control` is its control socket, beside which the socket for systemd's messages is.
pub fn run(control: &Path, pins: Pins) -> Result<ExitCode> {
    let mask = blocked_signals();
    mask.thread_block().context("cannot block signals")?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&mask, flags).context("cannot wait for signals")?;
    let notify = control.with_extension("notify");
    let relay = Relay::open(&notify, env::var_os("NOTIFY_SOCKET").as_deref())
        .with_context(|| format!("cannot open {}", notify.display()))?;
    let page = memfd_create("xlvs-holdings", MFdFlags::MFD_CLOEXEC)
        .context("cannot make a page of memory")?;
    let mut supervisor = Supervisor {
        signals,
        relay,
        page: File::from(page),
        pins,
        control: control.to_owned(),
        policy: Policy::new(),
        stand_in: StandIn::default(),
        holds: false,
        left: false,
        crashes: 0,
        crashed_at: Nanos::default(),
        agent: None,
    };
    supervisor.agent = Some(supervisor.start().context("cannot start the agent")?);
    loop {
        if let Some(status) = supervisor.turn() {
            return Ok(ExitCode::from(status));
        }
    }
}

struct Supervisor {
    signals: SignalFd,
    relay: Option<Relay>,
    page: File,
    pins: Pins,
    /// The agent's control socket.
    control: PathBuf,
    policy: Policy,
    stand_in: StandIn,
    /// A dead agent's place is held.
    holds: bool,
    /// The last agent that ran did not end of its own accord.
    left: bool,
    crashes: u64,
    crashed_at: Nanos,
    agent: Option<Child>,
}

impl Supervisor {
    fn start(&self) -> Result<Child> {
        let mut arguments = env::args_os();
        let name = arguments.next().unwrap_or_else(|| "xlvs".into());
        // Whatever has become of the file, it is the same program.
        let mut command = Command::new("/proc/self/exe");
        let told = format!(
            "{}:{}:{}",
            process::id(),
            self.crashed_at.as_nanos(),
            self.crashes
        );
        command
            .arg0(name)
            .args(arguments)
            .env(link::VARIABLE, told)
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(self.page.try_clone()?));
        if let Some(relay) = &self.relay {
            command.env("NOTIFY_SOCKET", relay.path());
        }
        Ok(command.spawn()?)
    }

    /// Waits for something to do and does it; the exit status at the end.
    fn turn(&mut self) -> Option<u8> {
        self.wait();
        if let Some(relay) = &self.relay {
            relay.pass_on();
        }
        while let Ok(Some(told)) = self.signals.read_signal() {
            let signal = i32::try_from(told.ssi_signo).ok();
            let signal = signal.and_then(|number| Signal::try_from(number).ok());
            if let Some(status) = signal.and_then(|signal| self.signalled(signal)) {
                return Some(status);
            }
        }
        if let Some(status) = self.look_after_agent() {
            return Some(status);
        }
        if self.holds {
            if self.is_settled() {
                self.decide(Input::Settled);
            }
            self.stand_in.send_due(now());
        }
        self.decide(Input::Timer)
    }

    fn wait(&self) {
        let timers = [
            self.policy.poll_timeout(),
            self.stand_in.poll_timeout().filter(|_| self.holds),
            self.holds.then(|| now() + LOOK_EVERY),
        ];
        let due = timers.into_iter().flatten().min();
        let timeout = due.map(|at| TimeSpec::from_duration(at.since(now())));
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let socket = self.relay.as_ref().map(Relay::socket);
        fds.extend(socket.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(cause) => warn!("supervisor: cannot wait: {cause}"),
        }
    }

    fn signalled(&mut self, signal: Signal) -> Option<u8> {
        if signal == Signal::SIGCHLD {
            return None;
        }
        if let Some(agent) = &self.agent {
            let pid = Pid::from_raw(agent.id().cast_signed());
            debug!("supervisor: {signal} passed on");
            if let Err(cause) = kill(pid, signal) {
                warn!("supervisor: cannot pass {signal} on: {cause}");
            }
        }
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.decide(Input::Stop),
            _ => None,
        }
    }

    /// Reaps the agent if it has ended.
    fn look_after_agent(&mut self) -> Option<u8> {
        let agent = self.agent.as_mut()?;
        let pid = agent.id();
        let status = match agent.try_wait() {
            Ok(status) => status?,
            Err(cause) => {
                warn!("supervisor: cannot ask for the agent's end: {cause}");
                return None;
            }
        };
        self.agent = None;
        let (end, at) = (End::of(status), now());
        let left = self.holdings().filter(|left| left.pid == pid);
        let ready = left.is_some();
        let mut hold = Duration::ZERO;
        self.left = end != End::Finished && (ready || self.left);
        if end != End::Finished && ready {
            (self.crashed_at, self.crashes) = (at, self.crashes + 1);
            let left = left.unwrap_or_default();
            if !left.masters.is_empty() {
                hold = left.hold;
            }
            self.stand_in.take(at, left);
        }
        if end == End::Crashed {
            error!("supervisor: the agent (pid {pid}) crashed: {status}");
        }
        let status = self.decide(Input::Ended { end, ready, hold });
        if let Some(pause) = self.policy.pause(at) {
            let seconds = pause.as_secs_f64();
            error!("supervisor: the agent ended ({status:?}); next try in {seconds:.0} s");
        }
        status
    }

    fn holdings(&self) -> Option<Holdings> {
        page::read(&self.page).map(|(_, holdings)| holdings)
    }

    fn is_settled(&self) -> bool {
        let pid = self.agent.as_ref().map(Child::id);
        self.holdings()
            .is_some_and(|told| Some(told.pid) == pid && told.settled)
    }

    fn decide(&mut self, input: Input) -> Option<u8> {
        let mut exit = None;
        for action in self.policy.handle(now(), input) {
            match action {
                Action::Start => match self.start() {
                    Ok(agent) => {
                        info!("supervisor: agent started again, pid {}", agent.id());
                        self.agent = Some(agent);
                    }
                    Err(cause) => {
                        error!("supervisor: cannot start the agent: {cause:#}");
                        let input = Input::Ended {
                            end: End::Crashed,
                            ready: false,
                            hold: Duration::ZERO,
                        };
                        return self.decide(input);
                    }
                },
                Action::Hold => {
                    self.holds = true;
                    self.stand_in.send_due(now());
                }
                Action::Settle => {
                    self.holds = false;
                    self.stand_in.clear();
                }
                Action::GiveUp => {
                    self.holds = false;
                    self.stand_in.give_up(&self.pins, self.agent.is_some());
                    // A new agent has written its own rules before it held anything.
                    if self.agent.is_none() {
                        firewall::remove_now(&self.control);
                    }
                }
                Action::Exit(status) => {
                    if self.left {
                        firewall::remove_now(&self.control);
                    }
                    if let Some(relay) = &self.relay {
                        relay.pass_on();
                    }
                    exit = Some(status);
                }
            }
        }
        exit
    }
}

impl End {
    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Finished,
            (Some(PANICKED) | None, _) => Self::Crashed,
            (Some(code), _) => Self::Refused(u8::try_from(code).unwrap_or(1)),
        }
    }
}
