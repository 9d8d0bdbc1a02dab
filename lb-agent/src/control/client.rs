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

/// The programs that tell of packets have to be loaded and verified first, where a slow machine takes
/// its time.
const LOADING: Duration = Duration::from_secs(180);

/// Sends one request and waits for its answer.
pub fn ask(path: &Path, request: &Request) -> Result<Response> {
    ask_within(path, request, TIMEOUT)
}

/// The same for a request that may take longer.
pub fn ask_within(path: &Path, request: &Request, patience: Duration) -> Result<Response> {
    let mut answers = BufReader::new(send(path, request, patience)?);
    answer(&mut answers)?.context("the agent does not answer")
}

/// Sends a request that is answered without end; `begun` is called with the first answer, `take` gets
/// what comes after it, and says whether that is enough. True if it was, false if the agent has no more.
pub fn follow(
    path: &Path,
    request: &Request,
    begun: impl FnOnce(),
    mut take: impl FnMut(Response) -> Result<bool>,
) -> Result<bool> {
    let socket = send(path, request, LOADING)?;
    let mut answers = BufReader::new(socket);
    match answer(&mut answers)?.context("the agent does not answer")? {
        Response::Following => {}
        other => bail!("cannot understand the agent's answer: {other:?}"),
    }
    answers.get_ref().set_read_timeout(None)?;
    begun();
    while let Some(response) = answer(&mut answers)? {
        if take(response)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn send(path: &Path, request: &Request, patience: Duration) -> Result<UnixStream> {
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
    Ok(socket)
}

/// The next answer; `None` when the agent has closed the connection.
fn answer(answers: &mut BufReader<UnixStream>) -> Result<Option<Response>> {
    let mut answer = String::new();
    let length = answers
        .read_line(&mut answer)
        .context("the agent does not answer")?;
    if length == 0 {
        return Ok(None);
    }
    match serde_json::from_str(&answer).context("cannot read the agent's answer")? {
        Response::Error(message) => bail!("the agent says: {message}"),
        response => Ok(Some(response)),
    }
}
