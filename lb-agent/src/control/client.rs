// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking a running agent, from a command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Request, Response};

/// An agent that does not answer within this time is stuck.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends one request and waits for its answer.
pub fn ask(path: &Path, request: &Request) -> Result<Response> {
    ask_within(path, request, TIMEOUT)
}

/// The same for a request that may take longer.
pub fn ask_within(path: &Path, request: &Request, patience: Duration) -> Result<Response> {
    let mut socket = UnixStream::connect(path).with_context(|| {
        format!(
            "cannot reach the agent at {} (is `xlvs run` running here?)",
            path.display()
        )
    })?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    socket
        .write_all(line.as_bytes())
        .context("cannot ask the agent")?;
    let mut answer = String::new();
    BufReader::new(socket)
        .read_line(&mut answer)
        .context("the agent does not answer")?;
    match serde_json::from_str(&answer).context("cannot read the agent's answer")? {
        Response::Error(message) => bail!("the agent says: {message}"),
        response => Ok(response),
    }
}
