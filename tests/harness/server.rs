// SPDX-License-Identifier: MIT OR Apache-2.0
//! A real server: nginx on its own host, with the VIP on `lo` as direct routing wants it.
//!
//! In: a host, the VIP. Out: a web server that says its name, and how many requests it answered.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Host, Lab};
use crate::process::Process;
use crate::wait;

/// A web server that answers every request with its own name.
#[derive(Debug)]
pub struct RealServer {
    nginx: Option<Process>,
    host: Host,
}

impl RealServer {
    /// Adds the host, prepares it for direct routing and starts nginx.
    pub fn start(lab: &Lab, name: &str, address: Ipv4Addr, vip: Ipv4Addr) -> Result<Self> {
        let host = lab.host(name, address)?;
        // The VIP must accept packets here but never be claimed on the LAN.
        for interface in ["all", "lo"] {
            host.sysctl(&format!("net.ipv4.conf.{interface}.arp_ignore"), "1")?;
            host.sysctl(&format!("net.ipv4.conf.{interface}.arp_announce"), "2")?;
        }
        host.namespace()
            .ip(&["addr", "add", &format!("{vip}/32"), "dev", "lo"])?;
        let mut server = Self { nginx: None, host };
        server.start_nginx()?;
        Ok(server)
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Starts nginx and waits until it accepts connections.
    pub fn start_nginx(&mut self) -> Result<()> {
        let directory = self.host.path("nginx");
        std::fs::create_dir_all(&directory)?;
        let config = directory.join("nginx.conf");
        std::fs::write(&config, self.config())?;
        let mut command = self.host.command("nginx")?;
        command.arg("-p").arg(&directory).arg("-c").arg(&config);
        command.args(["-e", "error.log"]);
        let name = format!("nginx on {}", self.host.name());
        let mut nginx = Process::start(&name, command, &self.host.path("nginx.log"))?;
        let up = wait::until_true(Duration::from_secs(5), &format!("{name} to listen"), || {
            nginx.ended().is_some() || self.accepts()
        });
        if let (Err(_), _) | (_, Some(_)) = (&up, nginx.ended()) {
            anyhow::bail!("{name} does not start: {}", nginx.log());
        }
        self.nginx = Some(nginx);
        Ok(())
    }

    /// Stops nginx as an operator would; from then on connections are refused.
    pub fn stop_nginx(&mut self) {
        self.nginx = None;
    }

    /// How many requests to `address` (the VIP or its own) it has answered with status 200.
    pub fn answered(&self, address: Ipv4Addr) -> Result<u64> {
        let path = self.host.path("nginx/access.log");
        let log = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let wanted = format!("{address} 200");
        Ok(log.lines().filter(|line| *line == wanted).count() as u64)
    }

    fn config(&self) -> String {
        let name = self.host.name();
        format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log;\n\
             events {{\n    worker_connections 8192;\n}}\n\
             http {{\n    log_format counts '$server_addr $status';\n    access_log access.log counts;\n    \
             server {{\n        listen 80 backlog=4096;\n        add_header X-Real-Server {name};\n        \
             location / {{\n            return 200 \"{name}\\n\";\n        }}\n    }}\n}}\n"
        )
    }

    /// Whether a TCP connection from the host to itself succeeds.
    fn accepts(&self) -> bool {
        let address = SocketAddr::from((self.host.address(), 80));
        let namespace = self.host.namespace();
        std::thread::scope(|scope| {
            let attempt = scope.spawn(|| {
                namespace.enter().is_ok()
                    && TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
            });
            attempt.join().unwrap_or(false)
        })
    }
}
