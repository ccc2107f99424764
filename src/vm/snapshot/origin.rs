//! The origin of a snapshot with a machine. QEMU loads the snapshot only into the same machine, but
//! reverts the disks before it notices a difference.

use super::{Part, Stamp};
use crate::error::Error;
use crate::json::Value;
use crate::linux;
use crate::system::programs;
use crate::vm::Instance;
use crate::vm::format;
use crate::vm::named::named;
use crate::vm::options::arguments_of;
use crate::vm::session::Session;
use std::ffi::OsStr;
use std::iter;
use std::path::{Path, PathBuf};

/// How many bases of a disk are looked at: more than anybody stacks, so only a ring has more.
const BASES_MAX: usize = 100;

#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// The tag, the time and the size of the snapshot: a later one may have the same tag.
    pub(crate) tag: String,
    saved_at: u64,
    machine_bytes: u64,
    /// The program and the user's arguments.
    pub(crate) argv: Vec<String>,
    /// The port that these arguments name.
    pub(crate) ssh_port: Option<u16>,
    /// QEMU's version as `--version` tells it.
    pub(crate) qemu: String,
    /// The host's CPU, on which only a guest under KVM depends.
    pub(crate) cpu: Option<String>,
    pub(crate) has_kvm: bool,
    pub(crate) program: Option<Stamp>,
    /// The files that the arguments name, with the bases of the disks in place of the disks.
    pub(crate) files: Vec<Stamp>,
    /// The command that prepared the guest, if `run --prepare` made the snapshot.
    pub(crate) prepare: Option<String>,
}

impl Origin {
    /// Describes the VM with this session, of which a snapshot was just saved. QEMU runs in `dir`.
    pub(crate) fn new(
        session: &mut Session,
        dir: &Path,
        part: &Part,
        instance: &Instance,
        prepare: Option<&str>,
    ) -> Result<Self, Error> {
        let argv = instance.own_argv().to_vec();
        let (version, kvm) = (session.execute("query-version", None)?, "query-kvm");
        let kvm = session.execute(kvm, None).ok();
        let has_kvm = kvm.is_some_and(|kvm| kvm.is_true("enabled"));
        // The guest has read files as they were when it was started.
        let files = files(&argv, dir).into_iter().map(|stamp| {
            if stamp.modified_at() > instance.started_at { stamp.outdated() } else { stamp }
        });
        Ok(Self {
            tag: part.tag.clone(),
            saved_at: part.saved_at,
            machine_bytes: part.machine_bytes,
            ssh_port: instance.ssh_port,
            qemu: version_text(&version),
            cpu: cpu_model(),
            has_kvm,
            program: program(&argv, dir),
            files: files.collect(),
            prepare: prepare.map(str::to_string),
            argv,
        })
    }

    /// Whether this describes that snapshot.
    pub(crate) fn is_of(&self, part: &Part) -> bool {
        let Part { tag, saved_at, machine_bytes, .. } = part;
        (tag, saved_at, machine_bytes) == (&self.tag, &self.saved_at, &self.machine_bytes)
    }

    pub(super) fn json(&self, base: &Path) -> Value {
        Value::object([
            ("tag", Value::from(self.tag.as_str())),
            ("saved_at", self.saved_at.into()),
            ("machine_bytes", self.machine_bytes.into()),
            ("argv", self.argv.iter().collect()),
            ("ssh_port", self.ssh_port.into()),
            ("qemu", self.qemu.as_str().into()),
            ("cpu", self.cpu.as_deref().into()),
            ("kvm", self.has_kvm.into()),
            ("program", self.program.iter().map(|stamp| stamp.json(base)).collect()),
            ("files", self.files.iter().map(|stamp| stamp.json(base)).collect()),
            ("prepare", self.prepare.as_deref().into()),
        ])
    }

    pub(super) fn from_json(value: &Value, base: &Path) -> Option<Self> {
        let text = |name| value.text(name).map(str::to_string);
        Some(Self {
            tag: text("tag")?,
            saved_at: value.number("saved_at")?,
            machine_bytes: value.number("machine_bytes")?,
            argv: value.texts("argv")?,
            ssh_port: value.number("ssh_port").and_then(|port| port.try_into().ok()),
            qemu: text("qemu")?,
            cpu: text("cpu"),
            has_kvm: value.is_true("kvm"),
            program: Stamp::list(value.get("program")?, base)?.pop(),
            files: Stamp::list(value.get("files")?, base)?,
            prepare: text("prepare"),
        })
    }
}

/// The program of a command line as it is now.
pub(crate) fn program(argv: &[String], dir: &Path) -> Option<Stamp> {
    let name = argv.first()?;
    Stamp::of(&programs::find(name).unwrap_or_else(|| dir.join(name)))
}

/// The files that a command line names, as they are now; for a written disk, its bases.
pub(crate) fn files(argv: &[String], dir: &Path) -> Vec<Stamp> {
    let arguments = arguments_of(argv);
    let named = named(&arguments).filter(|(named, _)| !named.is_dir);
    let paths = named.flat_map(|(named, _)| {
        let path = dir.join(named.path);
        if named.written { bases(path) } else { vec![path] }
    });
    paths.filter_map(|path| Stamp::of(&path)).collect()
}

/// The bases of a disk. A base whose name is its checksum always has the same content.
fn bases(disk: PathBuf) -> Vec<PathBuf> {
    let below = |file: &PathBuf| {
        let backing = format::disk(file)?.backing?;
        Some(file.parent()?.join(backing.strip_prefix("file:").unwrap_or(&backing)))
    };
    let is_sum = |name: &str| name.len() >= 64 && name.chars().all(|c| c.is_ascii_hexdigit());
    let has_sum = |file: &PathBuf| file.file_name().and_then(OsStr::to_str).is_some_and(is_sum);
    let chain = iter::successors(Some(disk), below).skip(1).take(BASES_MAX);
    chain.filter(|file| !has_sum(file)).collect()
}

/// The model of this host's CPU, where the kernel names it.
pub(crate) fn cpu_model() -> Option<String> {
    let text = linux::kernel_fact("cpuinfo").ok()??;
    Some(text.lines().find_map(|line| line.strip_prefix("model name\t: "))?.to_string())
}

/// The version in QEMU's answer, as `--version` tells it: `7.2.22 (Debian 1:7.2+dfsg-7)`.
fn version_text(answer: &Value) -> String {
    let part = |name| answer.get("qemu").and_then(|qemu| qemu.number(name));
    let numbers = ["major", "minor", "micro"].map(|name| part(name).unwrap_or_default());
    let package = answer.text("package").unwrap_or_default();
    let package = if package.is_empty() { String::new() } else { format!(" ({package})") };
    format!("{}{package}", numbers.map(|number| number.to_string()).join("."))
}
