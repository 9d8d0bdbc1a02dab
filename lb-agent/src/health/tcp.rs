// SPDX-License-Identifier: MIT OR Apache-2.0
//! `TCP_CHECK`: one TCP connection to the real server, opened and closed.
//!
//! Comes in: a [`TcpCheck`]. Goes out: a [`TcpOutcome`]. Nothing is sent on the connection.
//!
//! Invariant: the caller's thread never blocks, and every socket is closed when the probe ends or
//! its future is dropped. Called by `checker`.
//!
//! KEEPALIVED: `socket_bind_connect` and `socket_state` of `layer4.c`. An error that comes from
//! this host's own set-up (no socket, `bindto` not ours, no such interface) says nothing of the
//! server: its state stays and the probe is made again after `delay_loop`.
//!
//! How the connection is closed. keepalived sets `SO_LINGER` to 5 seconds, so that `close` sends
//! FIN and waits for its acknowledgement (releases before 2.0 lingered 0 seconds and sent RST). A
//! plain `close` sends the same FIN without holding up the thread, so no linger is set here. The
//! exception is a check with `bind_port`: after a FIN its port would rest in TIME_WAIT for 60
//! seconds and the next probes could not be made; such a probe ends with RST, which frees it.

use std::io;
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::config::model::TcpCheck;

/// How one probe ended. The text completes the sentence "TCP_CHECK to ADDR:PORT: …".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TcpOutcome {
    /// The handshake was completed.
    #[error("connected")]
    Connected,
    /// The server answered with RST: nobody listens on the port.
    #[error("connection refused")]
    Refused,
    /// No answer within `connect_timeout`.
    #[error("no answer within {}", Seconds(*.0))]
    TimedOut(Duration),
    /// No way to the server: no route, no answer to ARP, or a router said so.
    #[error("unreachable: {}", .0.desc())]
    Unreachable(Errno),
    /// The connection failed in another way.
    #[error("connection failed: {}", .0.desc())]
    Failed(Errno),
    /// The probe could not be made.
    #[error(transparent)]
    NotMade(#[from] ProbeError),
}

/// Why a probe could not be made: the fault is on this host.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProbeError {
    /// `socket(2)`, or its registration with the event loop.
    #[error("cannot create the probe's socket: {}", .0.desc())]
    Socket(Errno),
    /// `fwmark`.
    #[error("cannot mark the probe with {mark}: {}", .cause.desc())]
    Mark {
        /// The mark.
        mark: u32,
        /// What the kernel said.
        cause: Errno,
    },
    /// `bind_if`.
    #[error("cannot bind the probe to interface {interface}: {}", .cause.desc())]
    Interface {
        /// The interface.
        interface: String,
        /// What the kernel said.
        cause: Errno,
    },
    /// `bindto` or `bind_port`.
    #[error("cannot bind the probe to {source_addr}: {}", .cause.desc())]
    Bind {
        /// The address.
        source_addr: SocketAddr,
        /// What the kernel said.
        cause: Errno,
    },
    /// `connect(2)` refused to start.
    #[error("cannot start the connection: {}", .0.desc())]
    Connect(Errno),
}

/// Makes one probe.
pub async fn probe(check: &TcpCheck) -> TcpOutcome {
    let stream = match open(check) {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match tokio::time::timeout(check.connect_timeout, established(&stream)).await {
        Err(_elapsed) => TcpOutcome::TimedOut(check.connect_timeout),
        Ok(Ok(())) => TcpOutcome::Connected,
        // KEEPALIVED: once connect(2) is under way, any error is the server's.
        Ok(Err(e)) => {
            let errno = errno_of(&e);
            refusal(errno, check.connect_timeout).unwrap_or(TcpOutcome::Failed(errno))
        }
    }
}

/// A socket set up as the check says, with its connection under way.
fn open(check: &TcpCheck) -> Result<TcpStream, TcpOutcome> {
    let socket = set_up(check)?;
    match socket.connect(&check.target.into()) {
        Ok(()) => {}
        Err(e) => match errno_of(&e) {
            Errno::EINPROGRESS => {}
            errno => {
                return Err(refusal(errno, check.connect_timeout)
                    .unwrap_or(TcpOutcome::NotMade(ProbeError::Connect(errno))));
            }
        },
    }
    TcpStream::from_std(StdTcpStream::from(socket))
        .map_err(|e| ProbeError::Socket(errno_of(&e)).into())
}

fn set_up(check: &TcpCheck) -> Result<Socket, ProbeError> {
    let socket_error = |e: io::Error| ProbeError::Socket(errno_of(&e));
    let socket = Socket::new(
        Domain::for_address(check.target),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(socket_error)?;
    socket.set_nonblocking(true).map_err(socket_error)?;
    if check.fwmark != 0 {
        socket
            .set_mark(check.fwmark)
            .map_err(|e| ProbeError::Mark {
                mark: check.fwmark,
                cause: errno_of(&e),
            })?;
    }
    if let Some(interface) = &check.bind_if {
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(|e| ProbeError::Interface {
                interface: interface.clone(),
                cause: errno_of(&e),
            })?;
    }
    if let Some(source) = check.source {
        if source.port() != 0 {
            // See the head of this file.
            socket
                .set_linger(Some(Duration::ZERO))
                .map_err(socket_error)?;
        }
        socket.bind(&source.into()).map_err(|e| ProbeError::Bind {
            source_addr: source,
            cause: errno_of(&e),
        })?;
    }
    Ok(socket)
}

/// Waits until the connection stands or has failed.
async fn established(stream: &TcpStream) -> io::Result<()> {
    stream
        .async_io(Interest::WRITABLE, || {
            if let Some(e) = stream.take_error()? {
                return Err(e);
            }
            match stream.peer_addr() {
                Ok(_) => Ok(()),
                // Woken too early: the handshake goes on.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Err(e) => Err(e),
            }
        })
        .await
}

/// The errors that are an answer about the server, whenever they come.
///
/// KEEPALIVED: the list of `socket_bind_connect`.
fn refusal(errno: Errno, connect_timeout: Duration) -> Option<TcpOutcome> {
    match errno {
        Errno::ECONNREFUSED => Some(TcpOutcome::Refused),
        Errno::ETIMEDOUT => Some(TcpOutcome::TimedOut(connect_timeout)),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN => {
            Some(TcpOutcome::Unreachable(errno))
        }
        Errno::ECONNRESET | Errno::ECONNABORTED => Some(TcpOutcome::Failed(errno)),
        _ => None,
    }
}

fn errno_of(e: &io::Error) -> Errno {
    e.raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

/// A duration for people: `5 s`, `0.25 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Hundredths are as fine as anybody configures.
        let hundredths = (self.0.as_secs_f64() * 100.0).round() / 100.0;
        write!(f, "{hundredths} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::fixture::check;
    use std::io::Read;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[tokio::test]
    async fn open_port_connects() {
        let (_listener, addr) = listener();
        assert_eq!(probe(&check(addr)).await, TcpOutcome::Connected);
    }

    #[tokio::test]
    async fn closed_port_refuses() {
        let (listener, addr) = listener();
        drop(listener);
        assert_eq!(probe(&check(addr)).await, TcpOutcome::Refused);
    }

    #[tokio::test]
    async fn ipv6_server_is_probed_from_the_source_that_is_asked_for() {
        let listener = match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
            Ok(listener) => listener,
            Err(cause) => {
                println!("skipped: no IPv6 loopback address ({cause})");
                return;
            }
        };
        let addr = listener.local_addr().unwrap();
        let mut bound = check(addr);
        bound.source = Some(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        assert_eq!(probe(&bound).await, TcpOutcome::Connected);
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), Ipv6Addr::LOCALHOST);
        drop(listener);
        assert_eq!(probe(&bound).await, TcpOutcome::Refused);
        bound.source = Some("[2001:db8::7]:0".parse().unwrap());
        let outcome = probe(&bound).await;
        assert!(matches!(
            outcome,
            TcpOutcome::NotMade(ProbeError::Bind { .. })
        ));
    }

    #[tokio::test]
    async fn silent_server_times_out() {
        // A full accept queue drops further SYNs, so they find no answer.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let _first = StdTcpStream::connect(addr).unwrap();
        let mut silent = check(addr);
        silent.connect_timeout = Duration::from_millis(100);
        let outcome = probe(&silent).await;
        assert_eq!(outcome, TcpOutcome::TimedOut(silent.connect_timeout));
        assert_eq!(outcome.to_string(), "no answer within 0.1 s");
    }

    #[tokio::test]
    async fn probe_ends_with_fin_not_rst() {
        let (listener, addr) = listener();
        assert_eq!(probe(&check(addr)).await, TcpOutcome::Connected);
        let (mut accepted, _) = listener.accept().unwrap();
        // RST would be an error here, FIN is the end of the stream.
        assert_eq!(accepted.read(&mut [0; 8]).unwrap(), 0);
    }

    #[tokio::test]
    async fn fixed_source_port_may_be_used_for_one_probe_after_another() {
        let (_server, addr) = listener();
        let (other, free) = listener();
        drop(other);
        let mut bound = check(addr);
        bound.source = Some(free);
        for _ in 0..3 {
            assert_eq!(probe(&bound).await, TcpOutcome::Connected);
        }
    }

    #[tokio::test]
    async fn address_that_is_not_ours_cannot_be_bound() {
        let (_listener, addr) = listener();
        let mut bound = check(addr);
        bound.source = Some(SocketAddr::from(([192, 0, 2, 1], 0)));
        let outcome = probe(&bound).await;
        assert!(matches!(
            outcome,
            TcpOutcome::NotMade(ProbeError::Bind { .. })
        ));
        assert!(
            outcome
                .to_string()
                .starts_with("cannot bind the probe to 192.0.2.1:0: "),
            "{outcome}"
        );
    }

    #[tokio::test]
    async fn missing_interface_is_a_fault_of_this_host() {
        let (_listener, addr) = listener();
        let mut bound = check(addr);
        bound.bind_if = Some("hl-none".into());
        assert!(matches!(
            probe(&bound).await,
            TcpOutcome::NotMade(ProbeError::Interface { .. })
        ));
    }
}
