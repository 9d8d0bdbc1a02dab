// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who follows live packets (`xlvs trace --follow`), and what each is told.
//!
//! ```text
//! control ─ Wanted ─▸ loading the followed programs (a thread) ─▸ attached ─▸ ring buffer ─▸ followers
//!                                                    plain programs back ◂─ the last one is gone
//! ```
//!
//! Invariant: the followed programs are attached only while somebody follows. A follower that does
//! not keep up loses packets, is told how many, and holds nobody up.

use std::time::{Duration, SystemTime};

use aya::maps::{MapData, RingBuf};
use lb_common::abi::{FollowEvent, FollowFilter, MAX_FOLLOWERS};
use lb_ebpf::follow::is_wanted;
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::control::Response;
use crate::control::server::Answer;
use crate::dataplane::{Dataplane, DataplaneError, Following, Wanted, follow};

/// Packets that a follower may be behind.
const BEHIND: usize = 4096;

/// Events taken from the ring buffer before the agent looks at anything else.
const AT_ONCE: usize = 256;

/// What [`Followers::next`] awaits.
pub(crate) enum Event {
    /// The followed programs are loaded, or cannot be.
    Loaded(Box<Result<Following, DataplaneError>>),
    /// Packets.
    Packets(Vec<FollowEvent>),
}

struct Follower {
    row: u32,
    filter: FollowFilter,
    packets: mpsc::Sender<Response>,
    /// Of the row's count in the maps, what it knows of or was before its time.
    known_lost: u64,
    /// Packets that it was too slow for, not told of yet.
    behind: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Followers {
    list: Vec<Follower>,
    /// Those who asked while the programs are being loaded.
    waiting: Vec<(FollowFilter, oneshot::Sender<Answer>)>,
    loading: Option<JoinHandle<Result<Following, DataplaneError>>>,
    events: Option<AsyncFd<RingBuf<MapData>>>,
}

impl Followers {
    /// Somebody wants to follow.
    pub(crate) fn ask(
        &mut self,
        wanted: &Wanted,
        answer: oneshot::Sender<Answer>,
        dataplane: Option<&mut Dataplane>,
    ) {
        let Some(dataplane) = dataplane else {
            return refuse(answer, "no virtual server is configured");
        };
        let filter = match follow::filter(wanted) {
            Ok(filter) => filter,
            Err(why) => return refuse(answer, &why),
        };
        if self.list.len() + self.waiting.len() >= MAX_FOLLOWERS as usize {
            let why = format!("{MAX_FOLLOWERS} are following already, and no more can");
            return refuse(answer, &why);
        }
        if dataplane.following().is_some() {
            return self.admit(filter, answer, dataplane);
        }
        if self.loading.is_none() {
            match dataplane.plan_following() {
                Ok(plan) => {
                    self.loading = Some(tokio::task::spawn_blocking(move || plan.load()));
                }
                Err(err) => return refuse(answer, &err.to_string()),
            }
        }
        self.waiting.push((filter, answer));
    }

    /// How many follow.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// What happens next; never, while nobody follows. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Event {
        if let Some(loading) = &mut self.loading {
            let loaded = loading.await;
            self.loading = None;
            let loaded = loaded.unwrap_or_else(|err| {
                Err(DataplaneError::Conns(std::io::Error::other(
                    err.to_string(),
                )))
            });
            return Event::Loaded(Box::new(loaded));
        }
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        let Ok(mut guard) = events.readable_mut().await else {
            return std::future::pending().await;
        };
        let mut packets = Vec::new();
        while let Some(item) = guard.get_inner_mut().next() {
            if item.len() == size_of::<FollowEvent>() {
                packets.push(bytemuck::pod_read_unaligned(&item));
            }
            if packets.len() == AT_ONCE {
                return Event::Packets(packets);
            }
        }
        guard.clear_ready();
        Event::Packets(packets)
    }

    /// Deals with what [`Followers::next`] returned.
    pub(crate) fn handle(&mut self, event: Event, dataplane: Option<&mut Dataplane>) {
        match (event, dataplane) {
            (Event::Loaded(loaded), Some(dataplane)) => self.begin(*loaded, dataplane),
            (Event::Packets(packets), Some(dataplane)) => self.tell(&packets, dataplane),
            // The configuration has no services any more.
            (_, None) => self.abandon(),
        }
    }

    fn begin(&mut self, loaded: Result<Following, DataplaneError>, dataplane: &mut Dataplane) {
        let begun = loaded.and_then(|mut following| {
            self.events = following.take_events().map(readiness).transpose()?;
            dataplane.begin_following(following)
        });
        match begun {
            Ok(()) => {
                info!("packets are followed: the programs that tell of them are attached");
                for (filter, answer) in std::mem::take(&mut self.waiting) {
                    self.admit(filter, answer, dataplane);
                }
            }
            Err(err) => {
                warn!("cannot follow packets: {err}");
                self.events = None;
                for (_, answer) in std::mem::take(&mut self.waiting) {
                    refuse(answer, &err.to_string());
                }
            }
        }
        // All of them may have gone meanwhile.
        self.look_after(Some(dataplane));
    }

    fn admit(
        &mut self,
        filter: FollowFilter,
        answer: oneshot::Sender<Answer>,
        dataplane: &mut Dataplane,
    ) {
        let is_free = |row: &u32| self.list.iter().all(|other| other.row != *row);
        let row = (0..MAX_FOLLOWERS).find(is_free);
        let (Some(row), Some(following)) = (row, dataplane.following()) else {
            return refuse(answer, "nobody can follow now");
        };
        if let Err(err) = following.set_filter(row, Some(filter)) {
            return refuse(answer, &err.to_string());
        }
        let (packets, more) = mpsc::channel(BEHIND);
        self.list.push(Follower {
            row,
            filter,
            packets,
            known_lost: following.lost(row),
            behind: 0,
        });
        // If the asker is gone, so is the receiver of its packets.
        let _ = answer.send(Answer {
            response: Response::Following,
            more: Some(more),
        });
    }

    fn tell(&mut self, packets: &[FollowEvent], dataplane: &Dataplane) {
        let boot = boot();
        for event in packets {
            // An event may still be meant for who had the row before.
            let followers = self.list.iter_mut().filter(|follower| {
                event.followers >> follower.row & 1 != 0 && is_wanted(&follower.filter, event)
            });
            for follower in followers {
                let packet = Box::new(dataplane.describe_followed(event, boot));
                if follower.packets.try_send(Response::Packet(packet)).is_err() {
                    follower.behind += 1;
                }
            }
        }
    }

    /// Tells followers what they have lost, and puts the plain programs back once all of them are
    /// gone. Call it now and then.
    pub(crate) fn look_after(&mut self, dataplane: Option<&mut Dataplane>) {
        let Some(dataplane) = dataplane else {
            return self.abandon();
        };
        if self.loading.is_some() {
            return;
        }
        let Some(following) = dataplane.following() else {
            return self.abandon();
        };
        self.list.retain_mut(|follower| {
            if follower.packets.is_closed() {
                let _ = following.set_filter(follower.row, None);
                return false;
            }
            let lost = following.lost(follower.row);
            let news = lost.saturating_sub(follower.known_lost) + follower.behind;
            if news > 0 && follower.packets.try_send(Response::Lost(news)).is_ok() {
                (follower.known_lost, follower.behind) = (lost, 0);
            }
            true
        });
        if self.list.is_empty() {
            self.end(dataplane);
        }
    }

    /// Everybody is sent away, and the plain programs are attached again.
    pub(crate) fn end(&mut self, dataplane: &mut Dataplane) {
        self.abandon();
        if dataplane.following().is_some() {
            match dataplane.end_following() {
                Ok(()) => info!("nobody follows packets: the plain programs are attached again"),
                Err(err) => warn!("cannot attach the plain programs again: {err}"),
            }
        }
    }

    fn abandon(&mut self) {
        self.list.clear();
        self.events = None;
        for (_, answer) in std::mem::take(&mut self.waiting) {
            refuse(answer, "no virtual server is configured any more");
        }
    }
}

fn refuse(answer: oneshot::Sender<Answer>, why: &str) {
    // The asker may be gone.
    let _ = answer.send(Response::Error(why.to_owned()).into());
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the ring buffer owns its descriptor"
)]
fn readiness(events: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, DataplaneError> {
    AsyncFd::with_interest(events, Interest::READABLE).map_err(DataplaneError::Conns)
}

/// When the machine's monotonic clock was 0, seconds since 1970.
fn boot() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.unwrap_or_default().as_secs_f64() - since_boot.unwrap_or_default().as_secs_f64()
}
