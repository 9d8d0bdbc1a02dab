// SPDX-License-Identifier: MIT OR Apache-2.0
//! What outlives the agent: maps and links pinned in the BPF file system, and beside them files
//! that say what the maps hold.
//!
//! ```text
//! /sys/fs/bpf/xlvs/INSTANCE/maps-VERSION-LAYOUT-NUMBER/MAP    the maps
//! /sys/fs/bpf/xlvs/INSTANCE/link-IFINDEX                      the attachments
//! /run/xlvs/control.plan                                      which rows belong to whom
//! /run/xlvs/control.plan.next                                 the same, while it is being done
//! ```
//!
//! The plan is kept in a file, not read back from the maps: they do not tell a configured tunnel
//! from another one, nor how long a persistent service remembers, and what differs from the
//! configuration would be written anew, its cursor at the start. The file is written before the
//! maps, with the writes that lead there; each of those may be done twice. So whenever an agent
//! dies, its successor finds either a file that the maps agree with, or one whose writes it does
//! again. Next hops change too often for a file; they are read back from the maps.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use lb_common::abi::{ABI_LAYOUT, ABI_VERSION, maps};
use lb_common::hash::HashKey;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::DataplaneError;
use super::plan::{Op, Plan};

/// The BPF file system.
const BPF_FS: &str = "/sys/fs/bpf";

/// What is fixed while the maps live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// `ABI_VERSION` of who made the maps.
    pub(super) version: u32,
    /// `ABI_LAYOUT` of who made the maps.
    pub(super) layout: u32,
    /// Capacity of the connection table.
    pub(super) max_conns: u32,
    /// Jiffies of a tick.
    pub(super) tick_shift: u32,
    /// Key of the flow hash.
    pub(super) key: HashKey,
    /// Tells these maps from others of the same kind.
    pub(super) number: u64,
}

impl Header {
    fn directory(&self) -> String {
        format!(
            "maps-{}-{:08x}-{:016x}",
            self.version, self.layout, self.number
        )
    }

    /// Why maps made with `self` are no good for an agent that would make them with `wanted`.
    fn differs(&self, wanted: &Self) -> Option<String> {
        if (self.version, self.layout) != (wanted.version, wanted.layout) {
            return Some(format!(
                "its maps are of version {}-{:08x}, this agent's of {ABI_VERSION}-{ABI_LAYOUT:08x}",
                self.version, self.layout
            ));
        }
        if self.max_conns != wanted.max_conns {
            return Some(format!(
                "its connection table has room for {}, the configuration asks for {}",
                self.max_conns, wanted.max_conns
            ));
        }
        (self.tick_shift != wanted.tick_shift).then(|| "its clock ticks differently".to_owned())
    }
}

/// What the file says.
#[derive(Serialize, Deserialize)]
struct File<'a> {
    header: std::borrow::Cow<'a, Header>,
    plan: std::borrow::Cow<'a, Plan>,
    ops: std::borrow::Cow<'a, [Op]>,
}

/// What is read of the file first: what follows the header may be of another version.
#[derive(Deserialize)]
struct Head {
    header: Header,
}

/// What another agent left, fit to go on with.
pub(super) struct Kept {
    pub(super) header: Header,
    pub(super) plan: Plan,
    /// Writes that it was about to do.
    pub(super) ops: Vec<Op>,
}

/// Where an agent's pins and files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    directory: PathBuf,
    plan: PathBuf,
    masters: PathBuf,
}

impl Pins {
    /// Of the agent with this control socket: its name, and the network namespace's number, tell it
    /// from others on the same host. `directory` overrides where the pins are.
    pub fn of(control: &Path, directory: Option<PathBuf>) -> Self {
        let directory = directory.unwrap_or_else(|| {
            let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |meta| meta.ino());
            let name: String = control
                .with_extension("")
                .to_string_lossy()
                .trim_start_matches('/')
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
                .collect();
            Path::new(BPF_FS)
                .join("xlvs")
                .join(format!("{namespace}-{name}"))
        });
        Self {
            directory,
            plan: control.with_extension("plan"),
            masters: control.with_extension("masters"),
        }
    }

    /// Mounts the BPF file system where it is missing, and makes the directories.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let base = Path::new(BPF_FS);
        let is_bpf = |path: &Path| statfs(path).map(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
        if self.directory.starts_with(base) && !is_bpf(base)? {
            mount(
                Some("bpf"),
                base,
                Some("bpf"),
                MsFlags::empty(),
                None::<&str>,
            )?;
            info!("mounted the BPF file system on {BPF_FS}");
        }
        fs::create_dir_all(&self.directory)?;
        if let Some(parent) = self.plan.parent() {
            fs::create_dir_all(parent)?;
        }
        if !is_bpf(&self.directory)? {
            return Err(io::Error::other(format!(
                "{} is not in a BPF file system",
                self.directory.display()
            )));
        }
        Ok(())
    }

    /// What another agent left, if it fits what this one would make; else says why it does not.
    pub(super) fn find(&self, wanted: &Header) -> Option<Kept> {
        let next = self.next();
        let (path, pending) = if next.exists() {
            (&next, true)
        } else {
            (&self.plan, false)
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return None,
            Err(err) => {
                warn!("cannot read {}: {err}; starting afresh", path.display());
                return None;
            }
        };
        let afresh =
            "starting with fresh maps; connections that an earlier agent knew are forgotten";
        let why = match serde_json::from_slice::<Head>(&text) {
            Err(err) => Some(format!("{} is unreadable ({err})", path.display())),
            // After a reboot of the machine, for example.
            Ok(Head { header }) if !self.maps(&header).is_dir() => return None,
            Ok(Head { header }) => header.differs(wanted),
        };
        if let Some(why) = why {
            warn!("cannot go on where an earlier agent ended: {why}; {afresh}");
            return None;
        }
        match serde_json::from_slice::<File<'static>>(&text) {
            Ok(file) => Some(Kept {
                header: file.header.into_owned(),
                plan: file.plan.into_owned(),
                ops: if pending {
                    file.ops.into_owned()
                } else {
                    Vec::new()
                },
            }),
            Err(err) => {
                warn!(
                    "cannot go on where an earlier agent ended: {} is unreadable ({err}); {afresh}",
                    path.display()
                );
                None
            }
        }
    }

    /// Where each map is pinned.
    pub(super) fn pinned_maps(&self, header: &Header) -> io::Result<Vec<(String, PathBuf)>> {
        let entries = fs::read_dir(self.maps(header))?;
        entries
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok((map_of(name), entry.path()))
            })
            .collect()
    }

    /// Pins the maps of a loaded object that are not pinned yet.
    pub(super) fn pin_maps(&self, header: &Header, ebpf: &Ebpf) -> Result<(), String> {
        let directory = self.maps(header);
        fs::create_dir_all(&directory).map_err(|err| err.to_string())?;
        // Read-only data and the like (`.rodata`) belong to one load of the program.
        let lasting = ebpf.maps().filter(|(name, _)| {
            *name == maps::SHARED || !name.starts_with('.') && !name.starts_with("AYA_")
        });
        for (name, map) in lasting {
            let path = directory.join(file_of(name));
            if !path.exists() {
                map.pin(&path)
                    .map_err(|err| format!("cannot pin map {name}: {err}"))?;
            }
        }
        Ok(())
    }

    /// Writes down what is about to be done.
    pub(super) fn begin(
        &self,
        header: &Header,
        plan: &Plan,
        ops: &[Op],
    ) -> Result<(), DataplaneError> {
        use std::borrow::Cow;
        let file = File {
            header: Cow::Borrowed(header),
            plan: Cow::Borrowed(plan),
            ops: Cow::Borrowed(ops),
        };
        let failed = |cause: io::Error| self.unwritable(cause);
        let text = serde_json::to_vec(&file).map_err(|err| failed(err.into()))?;
        // Another name until it is whole.
        let draft = self.plan.with_extension("plan.draft");
        let mut options = fs::OpenOptions::new();
        // The key of the flow hash is nobody else's business.
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&draft)
            .and_then(|mut file| io::Write::write_all(&mut file, &text))
            .and_then(|()| fs::rename(&draft, self.next()))
            .map_err(failed)
    }

    /// What was written down is done.
    pub(super) fn done(&self) -> Result<(), DataplaneError> {
        fs::rename(self.next(), &self.plan).map_err(|cause| self.unwritable(cause))
    }

    fn unwritable(&self, cause: io::Error) -> DataplaneError {
        DataplaneError::Keep {
            path: self.plan.clone(),
            cause,
        }
    }

    /// Where the link of an interface is pinned.
    pub(super) fn link(&self, ifindex: u32) -> PathBuf {
        self.directory.join(format!("link-{ifindex}"))
    }

    /// Takes the attachments away. Where no process has one open, it ends.
    pub fn detach(&self) {
        for ifindex in self.links() {
            if let Err(cause) = fs::remove_file(self.link(ifindex)) {
                warn!("cannot detach from interface {ifindex}: {cause}");
            }
        }
    }

    /// Interfaces with a pinned link.
    pub(super) fn links(&self) -> Vec<u32> {
        let names = fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten();
        names
            .filter_map(|entry| {
                let name = entry.file_name();
                name.to_str()?.strip_prefix("link-")?.parse().ok()
            })
            .collect()
    }

    /// Takes the pins of all other maps away.
    pub(super) fn sweep(&self, header: &Header) {
        let keep = header.directory();
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("maps-") && name != keep.as_str() {
                remove_dir(&entry.path());
            }
        }
    }

    /// Takes everything away: what is attached by a pin alone is detached.
    pub fn remove(&self) {
        for ifindex in self.links() {
            let _ = fs::remove_file(self.link(ifindex));
        }
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            remove_dir(&entry.path());
        }
        let _ = fs::remove_dir(&self.directory);
        let _ = fs::remove_file(&self.plan);
        let _ = fs::remove_file(self.next());
        let _ = fs::remove_file(&self.masters);
    }

    /// Notes which instances are MASTER. Call it again and again: its time tells how long nobody
    /// has been here.
    pub fn note_masters<'a>(&self, names: impl Iterator<Item = &'a String>) {
        let text: String = names.map(|name| format!("{name}\n")).collect();
        if let Err(err) = fs::write(&self.masters, text) {
            warn!("cannot write {}: {err}", self.masters.display());
        }
    }

    /// Instances that were MASTER when an agent was here last, and how long ago that was.
    pub fn last_masters(&self) -> (Vec<String>, Duration) {
        let age = fs::metadata(&self.masters)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        let text = fs::read_to_string(&self.masters).unwrap_or_default();
        let names = text.lines().map(str::to_owned).collect();
        (names, age.unwrap_or(Duration::MAX))
    }

    fn maps(&self, header: &Header) -> PathBuf {
        self.directory.join(header.directory())
    }

    fn next(&self) -> PathBuf {
        self.plan.with_extension("plan.next")
    }
}

/// A directory of pins.
/// The file that a map is pinned to: the file system takes no name with a dot.
fn file_of(map: &str) -> &str {
    if map == maps::SHARED {
        SHARED_FILE
    } else {
        map
    }
}

/// The map that is pinned to a file.
fn map_of(file: String) -> String {
    if file == SHARED_FILE {
        maps::SHARED.to_owned()
    } else {
        file
    }
}

/// Where [`maps::SHARED`] is.
const SHARED_FILE: &str = "SHARED";

fn remove_dir(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    if let Err(err) = fs::remove_dir(path) {
        warn!("cannot remove {}: {err}", path.display());
    }
}

/// The instance of xlvs that has pinned the link of program `id`, by its directory's name.
pub(super) fn owner_of(id: u32) -> Option<String> {
    let base = Path::new(BPF_FS).join("xlvs");
    for instance in fs::read_dir(base).ok()?.flatten() {
        for entry in fs::read_dir(instance.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            if !entry.file_name().to_string_lossy().starts_with("link-") {
                continue;
            }
            let link = aya::programs::links::PinnedLink::from_pin(entry.path()).ok()?;
            let link = aya::programs::links::FdLink::from(link);
            if link.info().is_ok_and(|info| info.program_id() == id) {
                return Some(instance.path().display().to_string());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(number: u64) -> Header {
        Header {
            version: ABI_VERSION,
            layout: ABI_LAYOUT,
            max_conns: 1024,
            tick_shift: 8,
            key: HashKey::default(),
            number,
        }
    }

    fn pins(name: &str) -> Pins {
        let directory =
            std::env::temp_dir().join(format!("xlvs-pins-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("bpf")).unwrap();
        Pins::of(&directory.join("control.sock"), Some(directory.join("bpf")))
    }

    #[test]
    fn what_was_about_to_be_done_is_done_again_until_it_is_done() {
        let (pins, made) = (pins("again"), header(7));
        let ops = [Op::PutCursor {
            service: 1,
            cursor: 2,
        }];
        fs::create_dir_all(pins.maps(&made)).unwrap();
        assert!(
            pins.find(&header(8)).is_none(),
            "nothing was written down yet"
        );
        pins.begin(&made, &Plan::default(), &ops).unwrap();
        let kept = pins.find(&header(8)).unwrap();
        assert_eq!((kept.header, kept.ops.as_slice()), (made.clone(), &ops[..]));
        pins.done().unwrap();
        assert_eq!(pins.find(&header(8)).unwrap().ops, []);
    }

    #[test]
    fn maps_of_another_kind_are_not_gone_on_with() {
        let (pins, made) = (pins("other"), header(7));
        fs::create_dir_all(pins.maps(&made)).unwrap();
        pins.begin(&made, &Plan::default(), &[]).unwrap();
        pins.done().unwrap();
        let others = [
            Header {
                version: ABI_VERSION + 1,
                ..header(8)
            },
            Header {
                layout: !ABI_LAYOUT,
                ..header(8)
            },
            Header {
                max_conns: 2048,
                ..header(8)
            },
            Header {
                tick_shift: 9,
                ..header(8)
            },
        ];
        for other in others {
            assert!(pins.find(&other).is_none(), "{other:?}");
        }
        assert!(pins.find(&header(8)).is_some());
        fs::remove_dir_all(pins.maps(&made)).unwrap();
        assert!(pins.find(&header(8)).is_none(), "the maps are gone");
    }

    #[test]
    fn masters_are_noted_with_the_time() {
        let pins = pins("masters");
        assert_eq!(pins.last_masters(), (Vec::new(), Duration::MAX));
        pins.note_masters(["VI_1".to_owned()].iter());
        let (names, age) = pins.last_masters();
        assert_eq!(names, ["VI_1"]);
        assert!(age < Duration::from_secs(60));
    }
}
