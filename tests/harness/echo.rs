// SPDX-License-Identifier: MIT OR Apache-2.0
//! Servers that return what they are sent, and clients that compare it byte by byte, over TCP, UDP
//! and SCTP in both families.
//!
//! In: a host, an address, how much. Out: an error as soon as one byte is not what was sent, and on
//! the server's side how many connections it has had. Invariant: no thread outlives its [`Echo`].

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Host;
use crate::netns::Namespace;

/// How often a waiting thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// How long a client waits for its connection, and for each part of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A datagram without an answer is sent again after this time; SCTP and TCP do so by themselves.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a datagram is sent before it counts as lost.
const ATTEMPTS: u32 = 5;

/// Bytes read and written at once.
const BLOCK: usize = 16 * 1024;

/// What the data travels by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
    /// One association, one stream (RFC 6458 section 4).
    Sctp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As a configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Whether this kernel speaks it: not all are built with SCTP.
    pub fn is_spoken_here(self) -> bool {
        self.socket(
            "127.0.0.1:0"
                .parse()
                .unwrap_or(SocketAddr::from(([0; 4], 0))),
        )
        .is_ok()
    }

    fn socket(self, address: SocketAddr) -> io::Result<Socket> {
        let (kind, protocol) = match self {
            Self::Tcp => (Type::STREAM, Protocol::TCP),
            Self::Udp => (Type::DGRAM, Protocol::UDP),
            Self::Sctp => (Type::STREAM, Protocol::from(libc::IPPROTO_SCTP)),
        };
        Socket::new(Domain::for_address(address), kind, Some(protocol))
    }
}

/// Bytes that look random and are the same for the same seed (Marsaglia's xorshift64).
struct Content {
    state: u64,
}

impl Content {
    fn new(seed: u64) -> Self {
        Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    fn fill(&mut self, block: &mut [u8]) {
        for part in block.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            part.copy_from_slice(&self.state.to_le_bytes()[..part.len()]);
        }
    }
}

/// A server that returns what it is sent.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on `address` of `host`.
    pub fn start(host: &Host, transport: Transport, address: SocketAddr) -> Result<Self> {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let socket = inside(host.namespace(), || {
            let socket = transport.socket(address)?;
            socket.set_reuse_address(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket
                .bind(&address.into())
                .with_context(|| format!("cannot bind to {} {address}", transport.name()))?;
            socket.set_read_timeout(Some(LOOK))?;
            if transport != Transport::Udp {
                socket.listen(64)?;
            }
            Ok(socket)
        })?;
        let (stops, counts) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = thread::spawn(move || match transport {
            Transport::Udp => answer_datagrams(&socket.into(), &stops, &counts),
            Transport::Tcp | Transport::Sctp => accept(&socket, &stops, &counts),
        });
        Ok(Self {
            stop,
            served,
            thread: Some(thread),
        })
    }

    /// Connections accepted, or datagrams answered, so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket stays in the namespace that it was made in, so the threads need not enter it.
fn accept(socket: &Socket, stop: &AtomicBool, served: &AtomicU64) {
    thread::scope(|scope| {
        while !stop.load(Ordering::Relaxed) {
            // The read timeout holds for accepting too.
            if let Ok((connection, _)) = socket.accept() {
                served.fetch_add(1, Ordering::Relaxed);
                scope.spawn(move || {
                    // The client notices and tells of any error.
                    let _ = answer_stream(&connection.into(), stop);
                });
            }
        }
    });
}

/// First the length, then as many bytes, which are returned: SCTP knows no half-closed connection.
fn answer_stream(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut block = vec![0; BLOCK];
    let mut left: Option<u64> = None;
    let mut head = Vec::new();
    while left != Some(0) && !stop.load(Ordering::Relaxed) {
        let wanted = left.map_or(8 - head.len(), |left| left.min(BLOCK as u64) as usize);
        let got = match stream.read(&mut block[..wanted]) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        if let Some(left) = &mut left {
            stream.write_all(&block[..got])?;
            *left -= got as u64;
        } else {
            head.extend_from_slice(&block[..got]);
            left = head.as_slice().try_into().map(u64::from_be_bytes).ok();
        }
    }
    // The client closes first, once it has everything.
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut block) {
            Ok(0) => break,
            Err(error) if error.kind() != ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    Ok(())
}

fn answer_datagrams(socket: &UdpSocket, stop: &AtomicBool, served: &AtomicU64) {
    let mut datagram = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, client)) = socket.recv_from(&mut datagram)
            && socket.send_to(&datagram[..length], client).is_ok()
        {
            served.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends `bytes` from address `from` of `host` to `to` and compares what comes back. UDP: in
/// datagrams of up to `datagram` bytes, each awaited before the next.
pub fn exchange(
    host: &Host,
    transport: Transport,
    (from, to): (IpAddr, SocketAddr),
    bytes: u64,
    datagram: usize,
) -> Result<()> {
    inside(host.namespace(), || {
        let socket = transport.socket(to)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        match transport {
            Transport::Udp => exchange_datagrams(&socket.into(), bytes, datagram),
            Transport::Tcp | Transport::Sctp => exchange_stream(&socket.into(), bytes),
        }
    })
    .with_context(|| format!("{} {from} to {to}, {bytes} bytes", transport.name()))
}

fn exchange_stream(stream: &TcpStream, bytes: u64) -> Result<()> {
    let seed = u64::from(stream.local_addr()?.port());
    thread::scope(|scope| {
        let sender = scope.spawn(move || send(stream, bytes, seed));
        let received = receive(stream, bytes, seed);
        if received.is_err() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let sent = sender.join().unwrap_or_else(|_| bail!("a thread panicked"));
        received.and(sent)
    })?;
    close(stream)
}

/// Closes the connection and waits until the server has done so: an end that is left alone would
/// keep its network namespace for as long as it tries to reach the other.
fn close(mut stream: &TcpStream) -> Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => bail!("more came back than was sent"),
        // An SCTP association is gone at both ends at once, maybe before this looks.
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
        Err(error) => Err(error).context("the server does not close the connection"),
    }
}

fn send(mut stream: &TcpStream, bytes: u64, seed: u64) -> Result<()> {
    stream.write_all(&bytes.to_be_bytes())?;
    let (mut content, mut block, mut left) = (Content::new(seed), vec![0; BLOCK], bytes);
    while left > 0 {
        content.fill(&mut block);
        let length = left.min(BLOCK as u64) as usize;
        stream
            .write_all(&block[..length])
            .with_context(|| format!("cannot send, {left} bytes left"))?;
        left -= length as u64;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, bytes: u64, seed: u64) -> Result<()> {
    let (mut content, mut left) = (Content::new(seed), bytes);
    let (mut expected, mut block) = (vec![0; BLOCK], vec![0; BLOCK]);
    while left > 0 {
        content.fill(&mut expected);
        let length = left.min(BLOCK as u64) as usize;
        stream
            .read_exact(&mut block[..length])
            .with_context(|| format!("cannot receive, {left} bytes left"))?;
        ensure!(
            block[..length] == expected[..length],
            "the content differs, {left} bytes before the end"
        );
        left -= length as u64;
    }
    Ok(())
}

fn exchange_datagrams(socket: &UdpSocket, bytes: u64, datagram: usize) -> Result<()> {
    socket.set_read_timeout(Some(AGAIN))?;
    let mut content = Content::new(u64::from(socket.local_addr()?.port()));
    let (mut block, mut answer) = (vec![0; datagram], vec![0; 65536]);
    let mut left = bytes;
    while left > 0 {
        let length = left.min(datagram as u64) as usize;
        content.fill(&mut block);
        // What is left tells datagrams apart: one that was sent again is answered twice.
        let number = left.to_be_bytes();
        let front = length.min(number.len());
        block[..front].copy_from_slice(&number[..front]);
        let mut attempts = 0..ATTEMPTS;
        socket.send(&block[..length])?;
        loop {
            match socket.recv(&mut answer) {
                Ok(got) if answer[..got] == block[..length] => break,
                Ok(got) if got >= front && answer[..front] > block[..front] => {}
                Ok(got) => bail!("the answer to {length} bytes is {got} others"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ensure!(
                        attempts.next().is_some(),
                        "no answer to a datagram of {length} bytes"
                    );
                    socket.send(&block[..length])?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        left -= length as u64;
    }
    Ok(())
}

/// Calls `work` in a thread inside `namespace`.
pub(crate) fn inside<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            namespace.enter()?;
            work()
        });
        thread.join().unwrap_or_else(|_| bail!("a thread panicked"))
    })
}
