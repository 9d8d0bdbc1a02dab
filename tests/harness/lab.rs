// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raising a laboratory: a bridge in a namespace of its own, and hosts on it.
//!
//! In: the experiment's name. Out: a [`Lab`] to which hosts are added. Invariants: all interfaces
//! are veth pairs with transmit checksum offload off, since a frame with a half-made checksum must
//! not leave through XDP; the bridge's ends carry a program that passes everything, since a veth
//! drains what its peer sends by XDP only then (see [`crate::pass`]).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::netns::{self, Namespace};
use crate::{nics, outcome, pass, privilege, process};

/// The interface that connects each host to the LAN.
pub const INTERFACE: &str = "eth0";

/// The prefix length of the LAN.
pub const PREFIX_LENGTH: u8 = 24;

/// One of the two networks of a laboratory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lan {
    /// Where all hosts are unless said otherwise.
    First,
    /// Behind the directors.
    Second,
}

impl Lan {
    fn bridge(self) -> &'static str {
        match self {
            Self::First => "br0",
            Self::Second => "br1",
        }
    }

    fn number(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }
}

/// One laboratory at a time in a process: experiments measure time and share two cores.
static ALONE: Mutex<()> = Mutex::new(());

/// Numbers the laboratories of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A LAN and the directory that holds its hosts' files.
#[derive(Debug)]
pub struct Lab {
    name: String,
    prefix: String,
    directory: PathBuf,
    lan: Arc<Namespace>,
    /// The programs on the bridge's ends, each as its link.
    passing: Mutex<Vec<OwnedFd>>,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Clears leftovers of dead runs and raises an empty LAN.
    pub fn raise(name: &str) -> Result<Self> {
        privilege::require_root()?;
        // A failed experiment poisons the lock; the next one is as good as any.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        outcome::begin();
        clear_leftovers()?;
        raise_file_limit()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{count}-", netns::prefix_of(std::process::id()));
        let directory = base_directory().join(prefix.trim_end_matches('-'));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let lan = Namespace::create(&format!("{prefix}lan"))?;
        add_bridge(&lan, Lan::First.bridge())?;
        Ok(Self {
            name: name.to_owned(),
            prefix,
            directory,
            lan: Arc::new(lan),
            passing: Mutex::default(),
            _alone: alone,
        })
    }

    /// Adds a host with an address on the LAN; its port on the bridge has the host's name.
    pub fn host(&self, name: &str, address: Ipv4Addr) -> Result<Host> {
        self.host_on(Lan::First, name, address)
    }

    /// Adds a host with an address on one of the LANs.
    pub fn host_on(&self, lan: Lan, name: &str, address: Ipv4Addr) -> Result<Host> {
        let namespace = Arc::new(Namespace::create(&format!("{}{name}", self.prefix))?);
        let directory = self.directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let host = Host {
            name: name.to_owned(),
            address,
            namespace,
            directory,
        };
        self.cable(&host, INTERFACE, lan, name)?;
        let cidr = format!("{address}/{PREFIX_LENGTH}");
        host.namespace
            .ip(&["addr", "add", &cidr, "dev", INTERFACE])?;
        Ok(host)
    }

    /// Gives a host another interface; `port` is the other end's name on the bridge.
    pub fn cable(&self, host: &Host, interface: &str, lan: Lan, port: &str) -> Result<()> {
        if nics::are_used() {
            nics::give(&host.namespace, interface, lan.number())?;
        } else {
            self.connect_veth(host, interface, lan, port)?;
        }
        host.namespace
            .ip(&["link", "set", "dev", interface, "up"])?;
        Ok(())
    }

    fn connect_veth(&self, host: &Host, interface: &str, lan: Lan, port: &str) -> Result<()> {
        let inside = host.namespace.name();
        self.lan.ip(&[
            "link", "add", "dev", port, "type", "veth", "peer", "name", interface, "netns", inside,
        ])?;
        let bridge = lan.bridge();
        if lan == Lan::Second && self.lan.ip(&["link", "show", "dev", bridge]).is_err() {
            add_bridge(&self.lan, bridge)?;
        }
        self.lan
            .ip(&["link", "set", "dev", port, "master", bridge, "up"])?;
        host.run("ethtool", &["-K", interface, "tx", "off"])?;
        run_in(&self.lan, "ethtool", &["-K", port, "tx", "off"])?;
        self.let_xdp_frames_in(port)
    }

    /// Attaches the passing program to a port; it stays for the laboratory's life.
    fn let_xdp_frames_in(&self, port: &str) -> Result<()> {
        let attached = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.lan.enter()?;
                pass::attach(nix::net::if_::if_nametoindex(port)?)
            });
            inside.join().unwrap_or_else(|_| bail!("a thread panicked"))
        })?;
        self.passing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(attached);
        Ok(())
    }

    /// The namespace of the bridge: who looks from there sees every host's port.
    pub fn lan(&self) -> Arc<Namespace> {
        Arc::clone(&self.lan)
    }

    /// The experiment's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of all files of this laboratory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies logs, configurations and captures to `target/lab/NAME` and returns that directory.
    pub fn keep_files(&self) -> Result<PathBuf> {
        let kept = workspace().join("target/lab").join(&self.name);
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(&kept)?;
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(self.directory.join(".")).arg(&kept);
        if !copy.status()?.success() {
            bail!(
                "cannot copy {} to {}",
                self.directory.display(),
                kept.display()
            );
        }
        Ok(kept)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if outcome::is_failing() {
            match self.keep_files() {
                Ok(kept) => eprintln!("laboratory: logs and captures kept in {}", kept.display()),
                Err(error) => eprintln!("laboratory: {error:#}"),
            }
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A host: a network namespace with one interface on the LAN and a directory for its files.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    namespace: Arc<Namespace>,
    directory: PathBuf,
}

impl Host {
    /// Its name, which is also its port's name on the bridge.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its first address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The IPv6 address that goes with its first address: `192.0.2.11` has `2001:db8:2::11`, and
    /// `10.0.0.11` has `2001:db8:10::11`. A host has it where a test adds it.
    pub fn address6(&self) -> Ipv6Addr {
        let [first, _, third, last] = self.address.octets();
        let network = if first == 10 { 10 } else { third };
        let digits = |number: u8| u16::from_str_radix(&number.to_string(), 16).unwrap_or(0);
        Ipv6Addr::new(0x2001, 0xdb8, digits(network), 0, 0, 0, 0, digits(last))
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// A path among the host's own files.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        process::command(&self.namespace, program)
    }

    /// Runs a program on this host and returns what it printed; an error if it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run_in(&self.namespace, program, arguments)
    }

    /// Sets a kernel parameter of this host: `("net.ipv4.conf.all.arp_ignore", "1")`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run("sysctl", &["-qw", &format!("{name}={value}")])
            .map(drop)
    }

    /// Whether the interface or `lo` carries `address`.
    pub fn has_address(&self, address: Ipv4Addr) -> bool {
        let wanted = format!(" {address}/");
        self.namespace
            .ip(&["-4", "-o", "addr"])
            .is_ok_and(|text| text.contains(&wanted))
    }

    /// The hardware address of its interface, as `02:00:…`.
    pub fn mac(&self) -> Result<String> {
        let text = self
            .namespace
            .ip(&["-o", "link", "show", "dev", INTERFACE])?;
        let mac = text
            .split("link/ether ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        Ok(mac
            .context("the interface has no hardware address")?
            .to_owned())
    }
}

fn add_bridge(lan: &Namespace, name: &str) -> Result<()> {
    let quiet = ["stp_state", "0", "mcast_snooping", "0"];
    lan.ip(&[&["link", "add", name, "type", "bridge"], &quiet[..]].concat())?;
    lan.ip(&["link", "set", "dev", name, "up"]).map(drop)
}

fn run_in(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let output = process::command(namespace, program)?
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {} failed: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The root directory of the project.
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where laboratories keep their files, each in a directory named as its namespaces begin.
pub fn base_directory() -> PathBuf {
    std::env::temp_dir().join("xlvs-lab")
}

/// Lets this process and its children open as many files as it may: `ab -c 1000` needs them.
fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("cannot raise the limit of open files")
}

/// Clears namespaces and directories of runs whose process is dead.
pub fn clear_leftovers() -> Result<()> {
    for name in netns::reap_leftovers()? {
        eprintln!("laboratory: cleared {name}, left by a run that was killed");
    }
    for entry in std::fs::read_dir(base_directory())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').nth(1).unwrap_or_default().to_owned();
        if !Path::new("/proc").join(pid).exists() {
            for host in std::fs::read_dir(entry.path())
                .into_iter()
                .flatten()
                .flatten()
            {
                let pins = host.path().join("bpf");
                let _ = nix::mount::umount2(&pins, nix::mount::MntFlags::MNT_DETACH);
            }
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// Makes SIGINT and SIGTERM clear the laboratory before they end this process.
///
/// Call it first of all in `main`: threads made later inherit that the signals are blocked.
pub fn clear_when_interrupted() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            let _ = netns::reap_own();
            std::process::exit(130);
        }
    });
    Ok(())
}
