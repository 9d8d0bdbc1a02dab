// SPDX-License-Identifier: MIT OR Apache-2.0
//! An observer on the LAN: who sends adverts and gratuitous ARPs, and when, by the kernel's clock.
//!
//! In: the bridge's namespace. Out: [`Event`]s with the sender's port and a time in nanoseconds.
//! Invariant: a frame is seen once, on the port where it enters the bridge, and stamped there by
//! the kernel, so a busy machine delays the reading but not the figure.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::netns::Namespace;

/// A moment by the machine's real-time clock, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Milliseconds from `earlier` to this moment; negative if it was before.
    pub fn ms_since(self, earlier: Self) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1e6
    }
}

/// What a frame said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A VRRP advertisement (IP protocol 112, or inside an authentication header).
    Advert {
        /// 2 or 3.
        version: u8,
        /// The virtual router.
        vrid: u8,
        /// 0 when its sender gives up the MASTER role.
        priority: u8,
    },
    /// An ARP frame whose sender and target addresses are the same: "this address is here".
    GratuitousArp {
        /// The address.
        address: Ipv4Addr,
        /// The hardware address that claims it.
        mac: [u8; 6],
    },
}

/// One frame of interest.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it entered the bridge.
    pub at: Moment,
    /// The host that sent it.
    pub from: String,
    /// What it said.
    pub said: Said,
}

impl Event {
    /// Whether it shows its sender in the MASTER role.
    pub fn claims_mastership(&self) -> bool {
        match self.said {
            Said::Advert { priority, .. } => priority > 0,
            Said::GratuitousArp { .. } => true,
        }
    }
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Observer {
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to watch every port of the bridge.
    pub fn start(lan: &Arc<Namespace>) -> Result<Self> {
        let events = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, opened) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let (lan, events, stop) = (Arc::clone(lan), Arc::clone(&events), Arc::clone(&stop));
            move || {
                let socket = lan.enter().and_then(|()| open());
                let socket = match socket {
                    Ok(socket) => socket,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                drop(ready.send(Ok(())));
                watch(&socket, &events, &stop);
            }
        });
        opened.recv().context("the observer ended at once")??;
        Ok(Self {
            events,
            stop,
            thread: Some(thread),
        })
    }

    /// Everything seen so far, in order of arrival.
    pub fn events(&self) -> Vec<Event> {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The first sign after `moment` that another host than `old_master` is MASTER.
    pub fn takeover(&self, moment: Moment, old_master: &str) -> Option<Event> {
        self.events().into_iter().find(|event| {
            event.at >= moment && event.from != old_master && event.claims_mastership()
        })
    }

    /// Adverts that `host` sent after `moment`.
    pub fn adverts(&self, moment: Moment, host: &str) -> Vec<Event> {
        let wanted = |event: &Event| {
            event.at >= moment && event.from == host && matches!(event.said, Said::Advert { .. })
        };
        self.events().into_iter().filter(wanted).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket on all interfaces of this namespace that passes adverts and ARP only.
fn open() -> Result<Socket> {
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all)))
        .context("cannot open a packet socket")?;
    socket
        .attach_filter(&filter())
        .context("cannot filter a packet socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("cannot ask for timestamps")?;
    Ok(socket)
}

/// Classic BPF: drop what is outgoing; accept ARP; accept IPv4 with protocol 112 (VRRP) or 51 (AH).
fn filter() -> [SockFilter; 10] {
    const LOAD_WORD: u16 = 0x20;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    // linux/filter.h: SKF_AD_OFF + SKF_AD_PKTTYPE; linux/if_packet.h: PACKET_OUTGOING is 4.
    const PACKET_TYPE: u32 = 0xffff_f004;
    let step = |code, jt, jf, k| SockFilter::new(code, jt, jf, k);
    [
        step(LOAD_WORD, 0, 0, PACKET_TYPE),
        step(JUMP_EQUAL, 7, 0, 4),
        step(LOAD_HALF, 0, 0, 12),
        step(JUMP_EQUAL, 4, 0, 0x0806),
        step(JUMP_EQUAL, 0, 4, 0x0800),
        step(LOAD_BYTE, 0, 0, 23),
        step(JUMP_EQUAL, 1, 0, 112),
        step(JUMP_EQUAL, 0, 1, 51),
        step(RETURN, 0, 0, 256),
        step(RETURN, 0, 0, 0),
    ]
}

fn watch(socket: &Socket, events: &Mutex<Vec<Event>>, stop: &AtomicBool) {
    let mut names: HashMap<usize, String> = HashMap::new();
    while !stop.load(Ordering::Relaxed) {
        let Some((at, interface, said)) = receive(socket) else {
            continue;
        };
        let from = names
            .entry(interface)
            .or_insert_with(|| name_of(interface))
            .clone();
        if from != "br0" {
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            events.push(Event { at, from, said });
        }
    }
}

fn name_of(interface: usize) -> String {
    let index = u32::try_from(interface).unwrap_or(0);
    nix::net::if_::if_indextoname(index).map_or_else(
        |_| interface.to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// One frame with its kernel timestamp and the index of the port; none after the read timeout.
fn receive(socket: &Socket) -> Option<(Moment, usize, Said)> {
    let mut buffer = [0_u8; 256];
    let mut control = nix::cmsg_space!(libc::timespec);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .ok()?;
    let stamp = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(time),
        _ => None,
    })?;
    let at =
        Moment(stamp.tv_sec().cast_unsigned() * 1_000_000_000 + stamp.tv_nsec().cast_unsigned());
    let address = message.address?;
    let interface = address
        .as_link_addr()
        .filter(|link| link.len() > 0)?
        .ifindex();
    let length = message.bytes;
    let said = read_frame(buffer.get(..length)?)?;
    Some((at, interface, said))
}

/// Reads an Ethernet frame; none if it is neither an advert nor a gratuitous ARP.
fn read_frame(frame: &[u8]) -> Option<Said> {
    let payload = frame.get(14..)?;
    match frame.get(12..14)? {
        [0x08, 0x06] => read_arp(payload),
        [0x08, 0x00] => {
            let header = usize::from(payload.first()? & 0x0f) * 4;
            let inner = payload.get(header..)?;
            match payload.get(9)? {
                112 => read_advert(inner),
                // RFC 4302 §2.2: the second byte counts 32-bit words, less two.
                51 => read_advert(inner.get((usize::from(*inner.get(1)?) + 2) * 4..)?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn read_advert(bytes: &[u8]) -> Option<Said> {
    let &[kind, vrid, priority, ..] = bytes else {
        return None;
    };
    (kind & 0x0f == 1).then_some(Said::Advert {
        version: kind >> 4,
        vrid,
        priority,
    })
}

fn read_arp(bytes: &[u8]) -> Option<Said> {
    let sender: [u8; 4] = bytes.get(14..18)?.try_into().ok()?;
    let target: [u8; 4] = bytes.get(24..28)?.try_into().ok()?;
    let mac = bytes.get(8..14)?.try_into().ok()?;
    (sender == target).then_some(Said::GratuitousArp {
        address: sender.into(),
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_request_for_somebody_else_is_not_gratuitous() {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([2, 0, 0, 0, 0, 1, 192, 0, 2, 9]);
        frame.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 9]);
        let address = Ipv4Addr::new(192, 0, 2, 9);
        let said = Said::GratuitousArp {
            address,
            mac: [2, 0, 0, 0, 0, 1],
        };
        assert_eq!(read_frame(&frame), Some(said));
        *frame.last_mut().unwrap() = 10;
        assert_eq!(read_frame(&frame), None);
    }
}
