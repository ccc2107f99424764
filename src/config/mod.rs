//! The configuration: found ([`locate`]), read, and checked against the [`schema`]. Its strings
//! stay as they are written until a VM is used ([`resolve`]) or an image is made ([`declared`]).
//! Reads one file and changes nothing.

pub(crate) mod choices;
pub(crate) mod declared;
pub(crate) mod image;
mod locate;
mod problems;
pub(crate) mod resolve;
pub(crate) mod schema;
pub(crate) mod scope;
pub(crate) mod ssh_keywords;
pub(crate) mod sum;
#[cfg(test)]
mod tests;
pub(crate) mod values;
pub(crate) mod vm;

use crate::cli::Args;
use crate::error::{Error, Kind};
use crate::source::{Problem, Source};
use crate::text::nearest;
use crate::toml::{self, Key, Table, Value};
pub(crate) use choices::Choices;
pub(crate) use declared::Declared;
use image::ImagePaths;
use problems::Problems;
pub(crate) use resolve::Resolver;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
pub(crate) use values::SshPort;
use values::{is_image_name, is_vm_name};
use vm::Broken;
pub(crate) use vm::Vm;

const VM_DIR_PREFIX: &str = "vm.";
const IMAGE_DIR_PREFIX: &str = "img.";
/// The most known names that an error about an unknown one has.
const NAMES_SHOWN_MAX: usize = 8;

/// A configuration that was read and checked. Placeholders are resolved when a VM is used, so that
/// a mistake in one VM does not keep the user from stopping another.
#[derive(Debug)]
pub(crate) struct Config {
    /// Absolute; its directory without symbolic links.
    pub(crate) file: PathBuf,
    /// The directory of the VMs' directories, as [`locate::Location::runtime`].
    pub(crate) runtime: PathBuf,
    pub(crate) source: Arc<Source>,
    root: Table,
    /// The problems in the parts that all VMs need.
    pub(crate) shared: Vec<Problem>,
    /// The VMs without a problem, in file order.
    pub(crate) vms: Vec<Vm>,
    /// The other VMs, in file order.
    pub(crate) broken: Vec<Broken>,
}

impl Config {
    /// Finds, reads and checks the configuration that `args` and the environment name. A VM with a
    /// problem is an error only for the commands that use it.
    pub(crate) fn load(args: &Args) -> Result<Self, Error> {
        let config = Self::load_what_is_right(args)?;
        if config.shared.is_empty() {
            return Ok(config);
        }
        Err(Error::config(&config.source, config.all_problems()))
    }

    /// Finds and reads the configuration, whatever problems are in it.
    pub(crate) fn load_what_is_right(args: &Args) -> Result<Self, Error> {
        Self::find(args.config().as_deref(), |text| args.log().note(text))
    }

    /// Like [`Self::load_what_is_right`], but without a note about files that were passed over.
    pub(crate) fn load_silently(named: Option<&Path>) -> Result<Self, Error> {
        Self::find(named, |_| ())
    }

    fn find(named: Option<&Path>, note: impl Fn(&str)) -> Result<Self, Error> {
        let blame = |error| locate::blame(error, named);
        let location = locate::locate(named).map_err(blame)?;
        location.passed_over.iter().for_each(|text| note(text));
        let source = location.read().map_err(blame)?;
        Self::examine_file(source, location.file, location.runtime)
    }

    /// All problems of the file, each once, in file order.
    pub(crate) fn all_problems(&self) -> Vec<Problem> {
        let all = Problems::default();
        all.add(self.shared.iter().chain(self.broken.iter().flat_map(|vm| &vm.problems)).cloned());
        all.sorted()
    }

    /// The names of all VMs, including broken ones, in file order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys("vm").map(|key| key.name.as_str())
    }

    /// Whether the file has a VM of this name, broken or not.
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.keys("vm").any(|key| key.name == name)
    }

    /// The names in a table at the top level, in file order.
    fn keys(&self, table: &str) -> impl Iterator<Item = &Key> {
        let table = self.root.get(table).and_then(Value::as_table);
        table.into_iter().flat_map(Table::iter).map(|(key, _)| key)
    }

    /// The configuration of this file as if it had no VMs, so that running VMs can be stopped.
    pub(crate) fn unread(file: PathBuf, runtime: PathBuf) -> Result<Self, Error> {
        let source = Source { name: file.display().to_string(), text: String::new() };
        Self::examine_file(source, file, runtime)
    }

    /// Examines a configuration that was read from `file`; `runtime` is for the VMs' directories.
    pub(crate) fn examine_file(
        source: Source,
        file: PathBuf,
        runtime: PathBuf,
    ) -> Result<Self, Error> {
        let source = Arc::new(source);
        let root =
            toml::parse(&source.text).map_err(|problem| Error::config(&source, vec![problem]))?;
        let mut shared = schema::check_table(&source, &root, "", "");
        let table = |name: &str| root.get(name).and_then(Value::as_table);
        let (vars, all_images) = (table("vars"), table("img"));
        // The problems that make it unclear which names placeholders can have.
        let unclear = all_images.map(|images| image::problems(&source, images));
        let mut unclear = unclear.unwrap_or_default();
        let vm = Some(("vm", "`{{.vm.…}}` is what `[vm.NAME.vars]` holds"));
        let img = ("img", "`{{.img.…}}` are the images that `[img.NAME]` makes");
        for (name, hint) in [vm, all_images.map(|_| img)].into_iter().flatten() {
            if let Some((key, _)) = vars.and_then(|vars| vars.entry(name)) {
                let message = format!("`{name}` is reserved in `[vars]`");
                unclear.push(Problem::new(key.span, message).hint(hint));
            }
        }
        // Placeholders can be checked only if all names are known.
        let can_be_named = unclear.is_empty()
            && vars.is_some() == root.get("vars").is_some()
            && all_images.is_some() == root.get("img").is_some();
        shared.extend(unclear);
        shared.sort_by_key(|problem| problem.span.start);
        let (mut vms, broken) = table("vm").map(|all| vm::read(&source, all)).unwrap_or_default();
        if !can_be_named {
            vms.clear();
        }
        Ok(Self { file, runtime, source, root, shared, vms, broken })
    }

    /// The directory that relative paths in `cmd` start from.
    pub(crate) fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn vm(&self, name: &str) -> Result<&Vm, Error> {
        self.find_vm(name).ok_or_else(|| {
            let broken = self.broken.iter().find(|vm| vm.name == name);
            match broken.filter(|vm| !vm.problems.is_empty()) {
                Some(vm) => Error::config(&self.source, vm.problems.clone()),
                None => self.unknown(Kind::UnknownVm, ("vm", "VM", "list"), name),
            }
        })
    }

    pub(crate) fn find_vm(&self, name: &str) -> Option<&Vm> {
        self.vms.iter().find(|vm| vm.name == name)
    }

    /// The error for a name that is not in `table`; `list` is the command that lists that table.
    fn unknown(&self, kind: Kind, (table, what, list): (&str, &str, &str), name: &str) -> Error {
        let names: Vec<&str> = self.keys(table).map(|key| key.name.as_str()).collect();
        let message = format!("no such {what} in `{}`: `{name}`", self.source.name);
        let hint = match names.len() {
            0 => format!("it has no `[{table}.NAME]` at all"),
            1..=NAMES_SHOWN_MAX => format!("it has `{}`", names.join("`, `")),
            _ => format!("`qqmgr {list}` shows the {what}s that it has"),
        };
        let near = nearest(name, names);
        Error::new(kind, message).hint(hint).did_you_mean(near)
    }

    /// `$RUNTIME_DIR/vm.NAME`, for a valid name of a VM.
    pub(crate) fn vm_dir(&self, name: &str) -> PathBuf {
        self.runtime.join(format!("{VM_DIR_PREFIX}{name}"))
    }

    /// The names of the VMs that have a directory, configured or not, sorted.
    pub(crate) fn vms_with_a_dir(&self) -> Result<BTreeSet<String>, Error> {
        let names = self.names_of_dirs(VM_DIR_PREFIX)?.into_iter();
        Ok(names.filter(|name| is_vm_name(name)).collect())
    }

    /// The names with this prefix in the runtime directory, without it.
    fn names_of_dirs(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let entries = match std::fs::read_dir(&self.runtime) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("read", &self.runtime, &error));
            }
            entries => entries.into_iter().flatten().flatten(),
        };
        let name = |entry: std::fs::DirEntry| {
            Some(entry.file_name().to_str()?.strip_prefix(prefix)?.to_string())
        };
        Ok(entries.filter_map(name).collect())
    }

    /// The images, in file order.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Key> {
        self.keys("img")
    }

    pub(crate) fn image(&self, name: &str) -> Result<&Key, Error> {
        let unknown = || self.unknown(Kind::Config, ("img", "image", "img list"), name);
        self.images().find(|image| image.name == name).ok_or_else(unknown)
    }

    /// `$RUNTIME_DIR/img.NAME`, for a valid name of an image.
    fn image_dir(&self, name: &str) -> PathBuf {
        self.runtime.join(format!("{IMAGE_DIR_PREFIX}{name}"))
    }

    /// The paths of an image with this name, declared or not.
    pub(crate) fn image_paths(&self, name: &str) -> Result<ImagePaths, Error> {
        ImagePaths::new(self.image_dir(name))
    }

    /// The names of the images that have a directory and are not declared any more, sorted.
    pub(crate) fn undeclared_images(&self) -> BTreeSet<String> {
        let is_declared = |name: &str| self.images().any(|image| image.name == name);
        let names = self.names_of_dirs(IMAGE_DIR_PREFIX).unwrap_or_default().into_iter();
        names.filter(|name| is_image_name(name) && !is_declared(name)).collect()
    }

    /// A value of `[qemu]`.
    fn qemu(&self, key: &str) -> Option<&Value> {
        self.root.get("qemu")?.get(key)
    }

    /// The table of an image.
    fn image_table(&self, image: &Key) -> Option<&Value> {
        self.root.get("img")?.get(&image.name)
    }

    /// The table about the first boot of a guest on this image.
    fn cloud_init(&self, image: &Key) -> Option<&Value> {
        self.image_table(image)?.get("cloud_init")
    }

    /// The table of the VM, that of the VM that it extends, and so on.
    fn line(&self, vm: &Vm) -> Vec<&Value> {
        let table = |name: &str| self.root.get("vm")?.get(name);
        let next = |last: &&Value| table(vm::extended(last)?.0);
        std::iter::successors(table(&vm.name), next).collect()
    }

    /// An error about one place of the file, for a rule that is not the configuration's own.
    pub(crate) fn problem(&self, problem: Problem) -> Error {
        Error::config(&self.source, vec![problem])
    }

    pub(crate) fn checked<T>(&self, problems: Vec<Problem>, value: T) -> Result<T, Error> {
        if problems.is_empty() {
            return Ok(value);
        }
        Err(Error::config(&self.source, problems))
    }
}
