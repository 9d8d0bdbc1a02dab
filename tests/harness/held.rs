// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many TCP connections that are kept open and used now and then.
//!
//! In: a host, the address of an [`Echo`](crate::echo::Echo). Out: an error that names the first
//! connection that is broken or returns something else than was sent. Invariant: a connection is
//! opened once; nothing opens it again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::echo::inside;
use crate::lab::Host;

/// How long a connection may take to open, and an answer to come: TCP may have to send again more
/// than once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server is told to return in all: more than anybody sends.
const EVERYTHING: u64 = 1 << 40;

/// Bytes sent at a time.
const MESSAGE: usize = 64;

/// The connections.
#[derive(Debug)]
pub struct Held {
    streams: Vec<TcpStream>,
    exchanges: u64,
}

impl Held {
    /// Opens `count` connections from `host`, one after the other.
    pub fn open(host: &Host, to: SocketAddr, count: usize) -> Result<Self> {
        let streams = inside(host.namespace(), || {
            let open = |number| {
                connect(to).with_context(|| format!("cannot open connection {number} to {to}"))
            };
            (0..count).map(open).collect()
        })?;
        Ok(Self {
            streams,
            exchanges: 0,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Sends something on each connection of `which`, then compares what each returns.
    pub fn exchange(&mut self, which: Range<usize>) -> Result<()> {
        self.exchanges += 1;
        let said = |number: usize| message(number as u64, self.exchanges);
        for number in which.clone() {
            let sent = (&self.streams[number]).write_all(&said(number));
            sent.with_context(|| format!("connection {number} is broken: cannot send"))?;
        }
        for number in which {
            let mut answer = [0; MESSAGE];
            let got = (&self.streams[number]).read_exact(&mut answer);
            got.with_context(|| format!("connection {number} is broken: no answer"))?;
            ensure!(
                answer == said(number),
                "connection {number} returns something else than was sent"
            );
        }
        Ok(())
    }
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(&EVERYTHING.to_be_bytes())?;
    Ok(stream)
}

/// No two exchanges, and no two connections, say the same.
fn message(number: u64, exchange: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    let (first, rest) = message.split_at_mut(8);
    first.copy_from_slice(&number.to_be_bytes());
    for part in rest.chunks_mut(8) {
        part.copy_from_slice(&(exchange ^ number.rotate_left(32)).to_be_bytes());
    }
    message
}
