// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client's programs: ApacheBench and curl.
//!
//! In: a host and a URL. Out: what the program measured, in its own words and as numbers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::lab::Host;

/// What `ab` reports at the end.
#[derive(Debug, Clone, Serialize)]
pub struct AbReport {
    /// "Complete requests".
    pub complete: u64,
    /// "Failed requests" and "Non-2xx responses" together.
    pub failed: u64,
    /// "Requests per second".
    pub per_second: f64,
    /// The 99th percentile of the time a request took, in milliseconds.
    pub p99_ms: u64,
}

/// Runs `ab -c CONCURRENCY -n REQUESTS http://ADDRESS/` on `host`.
pub fn ab(host: &Host, address: Ipv4Addr, concurrency: u32, requests: u32) -> Result<AbReport> {
    ab_with(host, address, concurrency, requests, &[])
}

/// The same over connections that stay open (`-k`).
pub fn ab_keep_alive(
    host: &Host,
    address: Ipv4Addr,
    concurrency: u32,
    requests: u32,
) -> Result<AbReport> {
    ab_with(host, address, concurrency, requests, &["-k"])
}

fn ab_with(
    host: &Host,
    address: Ipv4Addr,
    concurrency: u32,
    requests: u32,
    more: &[&str],
) -> Result<AbReport> {
    let (concurrency, requests) = (concurrency.to_string(), requests.to_string());
    let url = format!("http://{address}/");
    let mut arguments = vec!["-q", "-c", &concurrency, "-n", &requests];
    arguments.extend(more);
    arguments.push(&url);
    let text = host.run("ab", &arguments)?;
    std::fs::write(host.path("ab.txt"), &text)?;
    parse_ab(&text).with_context(|| format!("cannot read ab's report:\n{text}"))
}

fn parse_ab(text: &str) -> Result<AbReport> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
    };
    let number = |name: &str| -> Result<u64> {
        let value = field(name).with_context(|| format!("no line {name:?}"))?;
        value
            .parse()
            .with_context(|| format!("{name} {value:?} is no number"))
    };
    let bad_status = if field("Non-2xx responses:").is_some() {
        number("Non-2xx responses:")?
    } else {
        0 // The line is only there when there were some.
    };
    let rate = field("Requests per second:").context("no rate")?;
    Ok(AbReport {
        complete: number("Complete requests:")?,
        failed: number("Failed requests:")? + bad_status,
        per_second: rate.parse().context("the rate is no number")?,
        p99_ms: number("99%")?,
    })
}

/// Fetches `http://ADDRESS/` with curl; returns the body without its line end.
pub fn curl(host: &Host, address: Ipv4Addr) -> Result<String> {
    let url = format!("http://{address}/");
    let body = host.run(
        "curl",
        &["--silent", "--show-error", "--max-time", "2", &url],
    )?;
    if body.is_empty() {
        bail!("curl {url} got an empty answer");
    }
    Ok(body.trim_end().to_owned())
}

/// One HTTP connection that stays open over many requests.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Opens a connection from `host` to port 80 of `address`.
    pub fn open(host: &Host, address: Ipv4Addr) -> Result<Self> {
        let namespace = host.namespace();
        let patience = Duration::from_secs(2);
        let stream = std::thread::scope(|scope| {
            let attempt = scope.spawn(|| {
                namespace.enter()?;
                let to = SocketAddr::from((address, 80));
                TcpStream::connect_timeout(&to, patience).context("cannot connect")
            });
            attempt
                .join()
                .unwrap_or_else(|_| bail!("a thread panicked"))
        })?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream })
    }

    /// The client's end.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// One request; returns the name of the server that answered.
    pub fn get(&mut self) -> Result<String> {
        self.stream
            .write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut part = [0_u8; 1024];
        // The body is one line after an empty one.
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && body.ends_with('\n')
            {
                return Ok(body.trim_end().to_owned());
            }
            match self.stream.read(&mut part).context("no answer")? {
                0 => bail!("the server has closed the connection"),
                length => answer.extend_from_slice(&part[..length]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Concurrency Level:      1000\nTime taken for tests:   0.9 seconds\n\
        Complete requests:      10000\nFailed requests:        2\n   (Connect: 0, Receive: 0)\n\
        Requests per second:    11111.50 [#/sec] (mean)\n  50%     20\n  99%     77\n 100%    1044\n";

    #[test]
    fn a_report_without_bad_statuses_has_no_such_line() {
        let report = parse_ab(REPORT).unwrap();
        assert_eq!(
            (report.complete, report.failed, report.p99_ms),
            (10_000, 2, 77)
        );
    }

    #[test]
    fn answers_with_another_status_than_200_count_as_failed() {
        let text = REPORT.replace("Requests per", "Non-2xx responses:      5\nRequests per");
        assert_eq!(parse_ab(&text).unwrap().failed, 7);
    }
}
