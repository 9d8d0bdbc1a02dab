// SPDX-License-Identifier: MIT OR Apache-2.0
//! A steady stream of HTTP requests from a client, at a fixed pace whatever becomes of them.
//!
//! In: a host, the VIP, a pace. Out: a [`Report`] of what was answered, what was lost and how long
//! nobody was served. Invariant: a slow answer does not delay the next request, so an outage is
//! counted at the full rate.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::lab::Host;
use crate::netns::Namespace;
use crate::wait;

/// A request that has no complete answer after this time is lost.
const PATIENCE: Duration = Duration::from_secs(1);

/// Enough threads that an outage of several seconds never slows the pace down.
const THREADS: usize = 160;

/// What became of all requests.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Requests made.
    pub sent: u32,
    /// Requests without a complete answer of status 200 within one second.
    pub lost: u32,
    /// Of those, the ones whose connection was there: cut off, not unheard.
    pub cut: u32,
    /// The longest time between two answered requests, in milliseconds.
    pub longest_gap_ms: f64,
}

/// Sends until [`Requester::finish`].
#[derive(Debug)]
pub struct Requester {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    vip: Ipv4Addr,
    began: Instant,
    interval: Duration,
    next: AtomicU32,
    stop: AtomicBool,
    /// What became of each request.
    results: Mutex<Vec<Request>>,
}

/// One request, in times since the first one.
#[derive(Debug, Clone, Copy)]
struct Request {
    begun: Duration,
    answered: Result<Duration, Loss>,
}

/// Where a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// No connection came about.
    Unheard,
    /// There was a connection, but no complete answer.
    Cut,
}

impl Requester {
    /// Begins to request `http://VIP/` from `host`, one request every `interval`.
    pub fn start(host: &Host, vip: Ipv4Addr, interval: Duration) -> Result<Self> {
        let shared = Arc::new(Shared {
            vip,
            began: Instant::now(),
            interval,
            next: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            results: Mutex::new(Vec::new()),
        });
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let (shared, namespace) = (Arc::clone(&shared), Arc::clone(host.namespace()));
            let small = std::thread::Builder::new().stack_size(128 * 1024);
            threads.push(small.spawn(move || work(&shared, &namespace))?);
        }
        Ok(Self { shared, threads })
    }

    /// How many requests were answered so far.
    pub fn answered(&self) -> usize {
        let results = self.shared.results();
        results.iter().filter(|one| one.answered.is_ok()).count()
    }

    /// Whether a request that began after `moment` is lost.
    ///
    /// Connections are not told to the other director, so one that is open while the role moves
    /// may be cut; one that begins afterwards has no such excuse.
    pub fn has_lost_since(&self, moment: Instant) -> bool {
        let since = moment.saturating_duration_since(self.shared.began);
        let results = self.shared.results();
        let mut later = results.iter().filter(|one| one.begun >= since);
        later.any(|one| one.answered.is_err())
    }

    /// Stops, waits for what is under way and reports.
    pub fn finish(mut self) -> Result<Report> {
        self.stop()?;
        let results = self.shared.results();
        let mut answered: Vec<Duration> =
            results.iter().filter_map(|one| one.answered.ok()).collect();
        answered.sort();
        let cut = results.iter().filter(|one| one.answered == Err(Loss::Cut));
        let cut = cut.count();
        let gaps = answered
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]));
        Ok(Report {
            sent: u32::try_from(results.len()).unwrap_or(u32::MAX),
            lost: u32::try_from(results.len() - answered.len()).unwrap_or(u32::MAX),
            cut: u32::try_from(cut).unwrap_or(u32::MAX),
            longest_gap_ms: gaps.max().unwrap_or_default().as_secs_f64() * 1e3,
        })
    }
}

impl Requester {
    fn stop(&mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread
                .join()
                .ok()
                .context("a requester's thread panicked")?;
        }
        Ok(())
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        // Its threads hold the client's namespace; they must not outlive the laboratory.
        let _ = self.stop();
    }
}

impl Shared {
    fn results(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes one slot of the schedule after the other.
fn work(shared: &Shared, namespace: &Namespace) {
    if namespace.enter().is_err() {
        return;
    }
    while !shared.stop.load(Ordering::Relaxed) {
        let slot = shared.next.fetch_add(1, Ordering::Relaxed);
        wait::pace(shared.began + shared.interval * slot);
        if shared.stop.load(Ordering::Relaxed) {
            return; // A slot that lies after the end was never requested.
        }
        let begun = shared.began.elapsed();
        let answered = request(shared.vip).map(|()| shared.began.elapsed());
        shared.results().push(Request { begun, answered });
    }
}

/// One request over a connection of its own, to be answered in time with 200.
fn request(vip: Ipv4Addr) -> Result<(), Loss> {
    let end = Instant::now() + PATIENCE;
    let stream = TcpStream::connect_timeout(&SocketAddr::from((vip, 80)), PATIENCE)
        .map_err(|_| Loss::Unheard)?;
    exchange(stream, vip, end).ok_or(Loss::Cut)
}

/// The request over its connection; something if the answer is there before `end`.
fn exchange(mut stream: TcpStream, vip: Ipv4Addr, end: Instant) -> Option<()> {
    let left =
        || Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
    stream.set_write_timeout(left()).ok()?;
    stream
        .write_all(format!("GET / HTTP/1.0\r\nHost: {vip}\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = Vec::new();
    let mut part = [0_u8; 1024];
    loop {
        stream.set_read_timeout(Some(left()?)).ok()?;
        match stream.read(&mut part).ok()? {
            0 => break,
            length => answer.extend_from_slice(part.get(..length)?),
        }
    }
    (answer.starts_with(b"HTTP/1.1 200 ")).then_some(())
}
