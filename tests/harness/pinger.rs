// SPDX-License-Identifier: MIT OR Apache-2.0
//! An echo request to an address every millisecond, whatever becomes of the one before.
//!
//! In: a host, an address. Out: the longest time without an answer, and how many requests had none.
//! Invariant: nothing is waited for but the next millisecond, so an outage is seen to the
//! millisecond. On a busy machine requests leave late, which the time shows and the number does not.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;

const PACE: Duration = Duration::from_millis(1);

/// How long answers to the last requests are waited for.
const DRAIN: Duration = Duration::from_millis(200);

/// What became of all requests.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// The longest time between two answers, milliseconds.
    pub longest_ms: f64,
    /// Requests without an answer.
    pub lost: usize,
}

/// Sends until [`Pinger::finish`].
#[derive(Debug)]
pub struct Pinger {
    answers: Arc<Mutex<Vec<Instant>>>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pinger {
    /// Begins.
    pub fn start(host: &Host, address: Ipv4Addr) -> Result<Self> {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let namespace = Arc::clone(host.namespace());
            let (answers, stop) = (Arc::clone(&answers), Arc::clone(&stop));
            let sent = Arc::clone(&sent);
            move || {
                let socket = namespace.enter().and_then(|()| open());
                match socket {
                    Ok(socket) => {
                        drop(ready.send(Ok(())));
                        ping(&socket, address, &answers, &sent, &stop);
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            }
        });
        opened.recv().context("the pinger ended at once")??;
        Ok(Self {
            answers,
            sent,
            stop,
            thread: Some(thread),
        })
    }

    /// How many were answered so far.
    pub fn answered(&self) -> usize {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Stops, waits for the last answers and reports.
    pub fn finish(mut self) -> Outage {
        self.end();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let gaps = answers.windows(2).filter_map(|pair| match pair {
            [one, next] => Some(next.duration_since(*one)),
            _ => None,
        });
        Outage {
            longest_ms: gaps.max().unwrap_or_default().as_secs_f64() * 1e3,
            lost: self.sent.load(Ordering::Relaxed) - answers.len(),
        }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.end();
    }
}

fn open() -> Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))
        .context("cannot open a socket for ICMP")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn ping(
    socket: &Socket,
    address: Ipv4Addr,
    answers: &Mutex<Vec<Instant>>,
    sent: &AtomicUsize,
    stop: &AtomicBool,
) {
    let to = SocketAddrV4::new(address, 0).into();
    // Type 8, code 0, checksum, identifier 0x786c, sequence 0: always the same bytes.
    let request = [8, 0, 0x7f, 0x93, 0x78, 0x6c, 0, 0];
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // Nobody may be there to send to: lost as well.
        let _ = socket.send_to(&request, &to);
        sent.fetch_add(1, Ordering::Relaxed);
        next += PACE;
        read(socket, address, answers, next);
    }
    read(socket, address, answers, Instant::now() + DRAIN);
}

/// Takes the answers that come before `end`.
fn read(socket: &Socket, address: Ipv4Addr, answers: &Mutex<Vec<Instant>>, end: Instant) {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut answer = [0; 128];
        // A socket's own timeout is counted in ticks of the kernel, which are longer.
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
        let mut socket = socket;
        if let Ok(28) = socket.read(&mut answer)
            && answer.get(12..16) == Some(&address.octets())
            && answer.get(20) == Some(&0)
        {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push(Instant::now());
        }
    }
}
