// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask vm`: runs a script on Debian's stock kernel in a virtual machine.
//!
//! In: a shell script and the files it needs. Out: what it prints, and its exit status. The kernel
//! comes from Debian's `linux-image-cloud-amd64` (6.1 on Debian 12), unpacked under
//! `target/tools/deb`; the guest is an initramfs with busybox and the files, run by QEMU without
//! hardware acceleration. Invariant: nothing is installed but QEMU, and only if it is missing.

mod cpio;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress::Work;
use crate::{apt, run, toolchain};
use cpio::Archive;

/// Options of the verb.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Memory of the guest, MiB.
    #[arg(long, default_value_t = 3072)]
    memory: u32,
    /// Kernel modules to load first, with what they need.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    modules: Vec<String>,
    /// One processor whose clock counts guest instructions: repeatable figures, slower.
    #[arg(long)]
    icount: bool,
    /// Script for the guest's shell; it runs in the directory that holds FILES.
    script: PathBuf,
    /// Files that the script needs; libraries of dynamic executables come along.
    files: Vec<PathBuf>,
}

/// A guest to run.
pub(crate) struct Guest<'a> {
    /// MiB.
    pub(crate) memory: u32,
    /// Modules to load first.
    pub(crate) modules: &'a [String],
    /// Count instructions.
    pub(crate) icount: bool,
    /// Shell script.
    pub(crate) script: &'a str,
    /// Files beside it.
    pub(crate) files: &'a [PathBuf],
    /// Virtio-net cards, as many as given on each of as many wires.
    pub(crate) cards: &'a [u8],
}

/// The verb itself; exits with the script's status.
pub(crate) fn main(args: &Args) -> Result<()> {
    let script = fs::read_to_string(&args.script)
        .with_context(|| format!("cannot read {}", args.script.display()))?;
    let guest = Guest {
        memory: args.memory,
        modules: &args.modules,
        icount: args.icount,
        script: &script,
        files: &args.files,
        cards: &[],
    };
    let status = guest.run(|line| println!("{line}"))?;
    if status != 0 {
        std::process::exit(status);
    }
    Ok(())
}

impl Guest<'_> {
    /// Boots, runs the script, hands each line it prints to `line`; the script's exit status.
    pub(crate) fn run(&self, line: impl FnMut(&str)) -> Result<i32> {
        let qemu = qemu()?;
        let kernel = Kernel::bring()?;
        let directory = run::target_dir().join("vm");
        fs::create_dir_all(&directory)?;
        let initramfs = directory.join("initramfs");
        fs::write(&initramfs, self.initramfs(&kernel)?)?;
        let status_file = directory.join("status");
        let console = directory.join("console");
        let _ = fs::remove_file(&status_file);

        let mut command = tool(&qemu);
        if qemu.starts_with(apt::private_root()) {
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(apt::private_root().join(firmware));
            }
        }
        let processors: &[&str] = if self.icount {
            &[
                "-accel",
                "tcg,thread=single",
                "-icount",
                "shift=0,sleep=off",
                "-smp",
                "1",
            ]
        } else {
            &["-accel", "tcg,thread=multi", "-smp", "2"]
        };
        command
            .args(processors)
            .args(["-cpu", "max", "-m", &self.memory.to_string()])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-monitor",
                "none",
            ])
            .arg("-no-reboot")
            .args(self.network())
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", &self.kernel_command_line()])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", "stdio"])
            .args(["-serial", &format!("file:{}", status_file.display())])
            .stdin(Stdio::null());
        run::stream(&mut command, line).context("the virtual machine did not end well")?;
        let status = fs::read_to_string(&status_file).unwrap_or_default();
        status.trim().parse().map_err(|_| {
            anyhow::anyhow!(
                "the guest ended early; its console is in {}",
                console.display()
            )
        })
    }

    /// A wire is one of QEMU's hubs, the last byte but one of a card's address its number.
    fn network(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (wire, cards) in self.cards.iter().enumerate() {
            for card in 1..=*cards {
                let id = format!("w{wire}c{card}");
                arguments.push("-netdev".to_owned());
                arguments.push(format!("hubport,id={id},hubid={wire}"));
                arguments.push("-device".to_owned());
                arguments.push(format!(
                    "virtio-net-pci,netdev={id},mac=52:54:00:00:{wire:02x}:{card:02x},romfile="
                ));
            }
        }
        if arguments.is_empty() {
            arguments.extend(["-nic", "none"].map(str::to_owned));
        }
        arguments
    }

    fn kernel_command_line(&self) -> String {
        // Instructions of the mitigations, and of clearing pages that drivers reuse, would count as
        // the data plane's own.
        let mut line =
            "console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable init_on_alloc=0".to_owned();
        if self.icount {
            // QEMU counts each turn of a `rep movsb` as an instruction. Without the features
            // rep_good, erms and fsrm the kernel copies and clears by words in a loop, which is
            // nearer to what a processor does.
            line.push_str(" clearcpuid=112,297,580");
        }
        line
    }

    /// busybox, the files with their libraries, modules, and an init that runs the script.
    fn initramfs(&self, kernel: &Kernel) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.copy("bin/busybox", &busybox()?)?;
        archive.link("bin/sh", "busybox");
        for directory in ["dev", "proc", "sys", "tmp", "run", "guest"] {
            archive.directory(directory);
        }
        let mut load = String::new();
        for module in kernel.modules(self.modules)? {
            let name = format!("modules/{}", file_name(&module));
            archive.copy(&name, &module)?;
            load.push_str(&format!("insmod /{name} || exit 1\n"));
        }
        for file in self.files {
            archive.copy(&format!("guest/{}", file_name(file)), file)?;
            for library in libraries(file) {
                // What was unpacked here is installed there.
                let library = Path::new(&library);
                let place = library
                    .strip_prefix(apt::private_root())
                    .or_else(|_| library.strip_prefix("/"))
                    .unwrap_or(library);
                archive.copy(&place.to_string_lossy(), library)?;
            }
        }
        archive.file("guest/.script", self.script.as_bytes());
        archive.file("modules.sh", load.as_bytes());
        archive.file("init", INIT.as_bytes());
        Ok(archive.finish())
    }
}

/// The guest's first process. The script's output goes to the second serial port, its status to
/// the third; the kernel has the first.
const INIT: &str = "#!/bin/busybox sh
export PATH=/guest:/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
mkdir -p /run/netns
ln -s /proc/self/fd /dev/fd
ip link set lo up
for port in 1 2; do stty -F /dev/ttyS$port raw; done
cd /guest
(. /modules.sh && sh ./.script) </dev/null >/dev/ttyS1 2>&1
echo $? >/dev/ttyS2
poweroff -f
";

/// Debian's kernel, unpacked.
struct Kernel {
    root: PathBuf,
    version: String,
    image: PathBuf,
}

impl Kernel {
    /// Finds the unpacked kernel, or downloads and unpacks it.
    fn bring() -> Result<Self> {
        if let Some(kernel) = Self::unpacked() {
            return Ok(kernel);
        }
        let package = "linux-image-cloud-amd64";
        let depends = run::capture(Command::new("apt-cache").args(["depends", package]))?;
        let image = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .with_context(|| format!("apt knows no {package}; run `apt-get update`"))?;
        apt::unpack(&[image])?;
        Self::unpacked().context("the kernel package holds no kernel")
    }

    fn unpacked() -> Option<Self> {
        let root = apt::private_root();
        let image = fs::read_dir(root.join("boot"))
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| file_name(path).starts_with("vmlinuz-"))?;
        let version = file_name(&image).strip_prefix("vmlinuz-")?.to_owned();
        Some(Self {
            root,
            version,
            image,
        })
    }

    /// Files of the modules and of those they need, in loading order.
    fn modules(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        run::capture(kmod("depmod")?.arg("-b").arg(&self.root).arg(&self.version))?;
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let mut command = kmod("modprobe")?;
            command
                .arg("-d")
                .arg(&self.root)
                .args(["-S", &self.version, "--show-depends", name]);
            for line in run::capture(&mut command)?.lines() {
                let Some(file) = line.strip_prefix("insmod ") else {
                    continue;
                };
                let file = PathBuf::from(file.trim());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// A program for the guest: this machine's, or unpacked with its libraries for this project alone.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf> {
    if run::find(name).is_none() {
        let packages = apt::plan_or_update(&[package])?.new;
        let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
        apt::unpack(&packages)?;
    }
    run::find(name).with_context(|| format!("apt brought no {name}"))
}

/// One of kmod's programs, which a container's image often lacks.
fn kmod(program: &str) -> Result<Command> {
    if run::find(program).is_none() {
        apt::bring(&["kmod"])?;
    }
    let found = run::find(program).with_context(|| format!("apt brought no {program}"))?;
    Ok(tool(&found))
}

/// A program that may have been unpacked for this project alone, with the libraries beside it.
fn tool(program: &Path) -> Command {
    let mut command = Command::new(program);
    if program.starts_with(apt::private_root()) {
        toolchain::private_libraries(&apt::private_root(), &mut command);
    }
    command
}

fn qemu() -> Result<PathBuf> {
    const PROGRAM: &str = "qemu-system-x86_64";
    if run::find(PROGRAM).is_none() {
        apt::bring(&["qemu-system-x86"])?;
    }
    run::find(PROGRAM).context("apt brought no qemu-system-x86_64")
}

/// A busybox that needs no libraries. Debian's two busybox packages exclude each other, so the
/// static one is unpacked, not installed.
fn busybox() -> Result<PathBuf> {
    if let Some(found) = run::find("busybox")
        && libraries(&found).is_empty()
    {
        return Ok(found);
    }
    let unpacked = apt::private_root().join("bin/busybox");
    if !unpacked.exists() {
        apt::unpack(&["busybox-static"])?;
    }
    Ok(unpacked)
}

/// Absolute paths of the shared libraries and the loader of an executable; none for anything else.
fn libraries(file: &Path) -> Vec<String> {
    // ldd fails for what is not dynamic.
    let mut ldd = Command::new("ldd");
    if file.starts_with(apt::private_root()) {
        toolchain::private_libraries(&apt::private_root(), &mut ldd);
    }
    let text = run::capture(ldd.arg(file)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// What the matrix needs: the cards' driver, tunnels and SCTP, and what the laboratory is built of.
const MATRIX_MODULES: [&str; 13] = [
    "virtio_pci",
    "virtio_net",
    "bridge",
    "veth",
    "8021q",
    "sctp",
    "ipip",
    "sit",
    "ip6_tunnel",
    "ip_gre",
    "ip6_gre",
    "fou",
    "fou6",
];

/// Cards of the first wire (client, director, two servers) and of the second (director, servers).
const MATRIX_CARDS: [u8; 2] = [4, 3];

/// Bytes of a long transfer in the guest, where instructions are translated one by one.
const MATRIX_BYTES: u32 = 4_000_000;

/// Runs compiled tests on the stock kernel: the matrix of real clients and servers with the agent
/// `xlvs`, then the packet cases, which take longer. Tests whose names do not contain `only` stay out.
pub(crate) fn run_tests(
    [cases, matrix]: [&Path; 2],
    xlvs: &Path,
    only: &str,
    line: impl FnMut(&str),
) -> Result<ExitStatus> {
    use std::os::unix::process::ExitStatusExt;

    let work = Work::begin("booting Debian's kernel");
    let script = format!(
        "uname -r\nexport XLVS_BINARY=/guest/{} XLVS_LAB_CARDS=1 XLVS_MATRIX_BYTES={MATRIX_BYTES}\n\
         ./{} --include-ignored --test-threads=1 --nocapture {only}\nmatrix=$?\n\
         ./{} --include-ignored {only}\nexit $((matrix | $?))\n",
        file_name(xlvs),
        file_name(matrix),
        file_name(cases),
    );
    let modules = MATRIX_MODULES.map(str::to_owned);
    let guest = Guest {
        memory: 3072,
        modules: &modules,
        icount: false,
        script: &script,
        files: &[
            cases.to_owned(),
            matrix.to_owned(),
            xlvs.to_owned(),
            program("ip", "iproute2")?,
        ],
        cards: &MATRIX_CARDS,
    };
    let status = guest.run(line)?;
    work.done();
    if status < 0 {
        bail!("the guest's status {status} makes no sense");
    }
    Ok(ExitStatus::from_raw(status << 8))
}
