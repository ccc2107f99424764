//! The configuration: found ([`locate`]), read, checked ([`decode`]) into a typed [`model`], and
//! its placeholders resolved for one VM ([`scope`]) with what it takes over from others
//! ([`extends`]). Reads one file and changes nothing.

mod decode;
mod decode_img;
mod extends;
mod images;
mod locate;
pub(crate) mod model;
mod scope;
pub(crate) mod ssh_keywords;
#[cfg(test)]
mod tests;

use crate::cli::Args;
use crate::error::{Error, Kind};
use crate::source::{Problem, Source, Span};
use crate::template::Template;
use crate::text::{did_you_mean, nearest};
use crate::toml;
use crate::words::{self, Word};
pub(crate) use decode::is_vm_name;
pub(crate) use decode_img::{is_image_name, is_url, sha256};
pub(crate) use images::{Declared, DeclaredBase, ImagePaths, Location, Seed};
use model::{Broken, Literal, Model, Setting, Vm};
use scope::Scope;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Limit of the file; a thousand VMs take about 300 KiB.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
const VM_DIR_PREFIX: &str = "vm.";
/// Limit for exact places: in a longer string with escapes, an error points at the whole string.
const EXACT_BYTES_MAX: usize = 16 * 1024;
/// The most known VMs that an error about an unknown one names.
const VMS_SHOWN_MAX: usize = 8;

/// A configuration that was read and checked. Placeholders are resolved when a VM is used, so that
/// a mistake in one VM does not keep the user from stopping another.
#[derive(Debug)]
pub(crate) struct Config {
    /// Absolute; its directory without symbolic links.
    pub(crate) file: PathBuf,
    /// The directory of the VMs' directories, as [`locate::Location::runtime`].
    runtime: PathBuf,
    pub(crate) source: Arc<Source>,
    model: Model,
}

/// Choices of a start in addition to the file; none by default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices<'a> {
    /// The port of a VM that has no fixed one. The port that a running VM was started with wins
    /// over the configured one.
    pub(crate) ssh_port: Option<u16>,
    /// Variables by the names that placeholders have, with their values, in which nothing is
    /// replaced. They win over those of the file; if a name is set twice, the last value counts.
    pub(crate) set: &'a [(String, String)],
}

impl Choices<'_> {
    fn port(&self, vm: &Vm) -> Option<u16> {
        self.ssh_port.or(vm.port.fixed())
    }
}

/// The QEMU binary, and the words of `cmd`, placeholders replaced.
pub(crate) type Invocation = (String, Vec<Word>);
/// An ssh option, placeholders replaced: its name and its values.
pub(crate) type SshSetting = (String, Vec<String>);

impl Config {
    /// Finds, reads and checks the configuration that `args` and the environment name. A VM with a
    /// problem is an error only for the commands that use it.
    pub(crate) fn load(args: &Args) -> Result<Self, Error> {
        let (config, shared) = Self::load_what_is_right(args)?;
        let problems = if shared.is_empty() { shared } else { config.all_problems(shared) };
        config.checked(problems, ())?;
        Ok(config)
    }

    /// Finds and reads the configuration. Also returns the problems in the parts that all VMs need.
    pub(crate) fn load_what_is_right(args: &Args) -> Result<(Self, Vec<Problem>), Error> {
        Self::find(args.config.as_deref(), |text| args.log().note(text))
    }

    /// Loads the file that is named or found, with its VMs that have no problem, and reports
    /// nothing.
    pub(crate) fn load_silently(named: Option<&Path>) -> Option<Self> {
        Self::find(named, |_| ()).ok().map(|(config, _)| config)
    }

    fn find(named: Option<&Path>, note: impl Fn(&str)) -> Result<(Self, Vec<Problem>), Error> {
        let env = locate::Environment::current();
        let blame = |error| locate::blame(error, named, &env);
        let location = locate::locate(named, &env).map_err(blame)?;
        location.passed_over.iter().for_each(|text| note(text));
        let source = read(&location.file, location.shown).map_err(blame)?;
        Self::examine_file(source, location.file, location.runtime)
    }

    /// All problems of the file, each once, in file order; `shared` are those that belong to no VM.
    pub(crate) fn all_problems(&self, shared: Vec<Problem>) -> Vec<Problem> {
        let mut all = shared;
        for problem in self.model.broken.iter().flat_map(|vm| &vm.problems) {
            if !all.contains(problem) {
                all.push(problem.clone());
            }
        }
        all.sort_by_key(|problem| problem.span.start);
        all
    }

    /// The VMs that have a problem, in file order.
    pub(crate) fn broken(&self) -> &[Broken] {
        &self.model.broken
    }

    /// The names of all VMs, including broken ones, in file order.
    pub(crate) fn names(&self) -> Vec<String> {
        let sound = self.model.vms.iter().map(|vm| (vm.span.start, &vm.name));
        let broken = self.model.broken.iter().map(|vm| (vm.span.start, &vm.name));
        let mut all: Vec<(usize, &String)> = sound.chain(broken).collect();
        all.sort_by_key(|(start, _)| *start);
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    /// Whether the file has a VM of this name, broken or not.
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.find_vm(name).is_some() || self.model.broken.iter().any(|vm| vm.name == name)
    }

    /// Checks a configuration that was read from `file`; `runtime` is for the VMs' directories.
    pub(crate) fn parse(source: Source, file: PathBuf, runtime: PathBuf) -> Result<Self, Error> {
        let (config, shared) = Self::examine_file(source, file, runtime)?;
        config.checked(config.all_problems(shared), ())?;
        Ok(config)
    }

    fn examine_file(
        source: Source,
        file: PathBuf,
        runtime: PathBuf,
    ) -> Result<(Self, Vec<Problem>), Error> {
        let source = Arc::new(source);
        let root =
            toml::parse(&source.text).map_err(|problem| Error::config(&source, vec![problem]))?;
        let (model, problems) = decode::decode(&source, &root);
        Ok((Self { file, runtime, source, model }, problems))
    }

    /// The directory that relative paths in `cmd` start from.
    pub(crate) fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// The name of the file without its directory.
    pub(crate) fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The VMs, in file order.
    pub(crate) fn vms(&self) -> &[Vm] {
        &self.model.vms
    }

    pub(crate) fn vm(&self, name: &str) -> Result<&Vm, Error> {
        self.find_vm(name).ok_or_else(|| {
            let broken = self.model.broken.iter().find(|vm| vm.name == name);
            match broken.filter(|vm| !vm.problems.is_empty()) {
                Some(vm) => Error::config(&self.source, vm.problems.clone()),
                None => self.unknown_vm(name),
            }
        })
    }

    pub(crate) fn find_vm(&self, name: &str) -> Option<&Vm> {
        self.model.vms.iter().find(|vm| vm.name == name)
    }

    fn unknown_vm(&self, name: &str) -> Error {
        let names = self.names();
        let near = nearest(name, names.iter().map(String::as_str));
        let message = format!("there is no VM `{name}` in `{}`", self.source.name);
        let error = Error::new(Kind::UnknownVm, did_you_mean(&message, near));
        match names.len() {
            _ if near.is_some() => error,
            0 => error.hint("it has no `[vm.NAME]` at all"),
            1..=VMS_SHOWN_MAX => error.hint(format!("it has `{}`", names.join("`, `"))),
            _ => error.hint("`qqmgr list` shows the VMs that it has"),
        }
    }

    /// The directory of the VMs' directories.
    pub(crate) fn runtime_dir(&self) -> &Path {
        &self.runtime
    }

    /// `$RUNTIME_DIR/vm.NAME`, for a valid name of a VM.
    pub(crate) fn vm_dir(&self, name: &str) -> PathBuf {
        self.runtime.join(format!("{VM_DIR_PREFIX}{name}"))
    }

    /// The names of the VMs that have a directory, configured or not, sorted.
    pub(crate) fn vms_with_a_dir(&self) -> Result<BTreeSet<String>, Error> {
        let entries = match std::fs::read_dir(&self.runtime) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("read", &self.runtime, &error));
            }
            entries => entries.into_iter().flatten().flatten(),
        };
        let names = entries.filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_prefix(VM_DIR_PREFIX)?.to_string())
        });
        Ok(names.filter(|name| is_vm_name(name)).collect())
    }

    /// The port on this host where ssh reaches the VM; an error when it is still to be chosen.
    pub(crate) fn ssh_port(&self, vm: &Vm, choices: &Choices) -> Result<u16, Error> {
        choices.port(vm).ok_or_else(|| self.problem(Problem::new(vm.span, no_port(vm))))
    }

    /// Returns a usage error unless each name of `set` is that of a variable: the file sets it, in
    /// `[vars]` or for this VM, or a placeholder of this VM asks for it.
    pub(crate) fn check_set(&self, vm: &Vm, set: &[(String, String)]) -> Result<(), Error> {
        if set.is_empty() {
            return Ok(());
        }
        let choices = Choices::default();
        let scope = self.scope(vm, &choices);
        let literals = self.literals(vm).into_iter();
        let asked = scope.asked(literals.map(|literal| literal.text.as_str()).collect());
        set.iter().try_for_each(|(name, _)| scope.check_set(name, &asked))
    }

    /// All strings that the VM is started with.
    fn literals<'a>(&'a self, vm: &'a Vm) -> Vec<&'a Literal> {
        let ssh = self.model.ssh(vm).into_iter().flat_map(|option| &option.values);
        let ssh = ssh.filter_map(|value| match value {
            Setting::Text(literal) => Some(literal),
            Setting::AsWritten(_) => None,
        });
        let programs = self.model.qemu(vm).into_iter().chain(&self.model.qemu_img);
        self.model.cmd(vm).into_iter().flatten().chain(ssh).chain(programs).collect()
    }

    /// The QEMU binary, and the words of `cmd`, placeholders replaced. A name in `choices.set` that
    /// is not a variable is a usage error.
    pub(crate) fn command(&self, vm: &Vm, choices: &Choices) -> Result<Invocation, Error> {
        self.check_set(vm, choices.set)?;
        let (command, problems) = self.examine(vm, choices);
        self.checked(problems, command)
    }

    /// The command line of the VM, as far as it has no problems, and all problems.
    pub(crate) fn examine(&self, vm: &Vm, choices: &Choices) -> (Invocation, Vec<Problem>) {
        let scope = self.scope(vm, choices);
        let mut problems = Problems::default();
        let bin = self.model.qemu(vm).map(|bin| problems.keep(scope.render(bin)));
        if let Some(img) = &self.model.qemu_img {
            problems.keep(scope.render(img));
        }
        let bin = bin.map_or_else(|| model::QEMU_BIN.to_string(), Option::unwrap_or_default);
        let cmd = self.model.cmd(vm);
        if cmd.is_none() {
            let problem = Problem::new(vm.span, format!("VM `{}` has no `cmd`", vm.name));
            let hint = "`cmd` has QEMU's arguments: a list of strings, or one string";
            problems.0.push(problem.hint(hint));
        }
        let mut words = Vec::new();
        for literal in cmd.into_iter().flatten() {
            let place = |span| literal.place(&self.source, span);
            let template = Template { text: &literal.text, place: &place };
            let split = words::split(&template, &mut |placeholder| scope.value(placeholder));
            words.extend(problems.keep(split).unwrap_or_default());
        }
        ((bin, words), problems.0)
    }

    /// The options of the VM's generated file, placeholders replaced.
    pub(crate) fn ssh_options(&self, vm: &Vm, choices: &Choices) -> Result<Vec<SshSetting>, Error> {
        let scope = self.scope(vm, choices);
        let mut problems = Problems::default();
        let mut options = Vec::new();
        for option in self.model.ssh(vm) {
            let values = option.values.iter().filter_map(|value| match value {
                Setting::Text(literal) => problems.keep(scope.render_line(literal)),
                Setting::AsWritten(text) => Some(text.clone()),
            });
            options.push((option.name.clone(), values.collect()));
        }
        self.add_image_options(vm, choices, &mut options)?;
        self.checked(problems.0, options)
    }

    /// The strings that an option of ssh is set to, and their places. [`Self::ssh_options`] reports
    /// the problems in them.
    pub(crate) fn ssh_texts(
        &self,
        vm: &Vm,
        choices: &Choices,
        keyword: &str,
    ) -> Vec<(String, Span)> {
        let scope = self.scope(vm, choices);
        let options = self.model.ssh(vm).into_iter();
        let values = options
            .filter(|option| option.name.eq_ignore_ascii_case(keyword))
            .flat_map(|option| &option.values);
        let texts = values.filter_map(|value| match value {
            Setting::Text(literal) => Some((scope.render_line(literal).ok()?, literal.span)),
            Setting::AsWritten(_) => None,
        });
        texts.collect()
    }

    /// Whether the VM's serial line is interactive.
    pub(crate) fn console(&self, vm: &Vm) -> bool {
        self.model.console(vm)
    }

    /// How many serial outputs of earlier boots are kept.
    pub(crate) fn boots(&self, vm: &Vm) -> u32 {
        self.model.boots(vm)
    }

    /// Whether the VM's QEMU listens for a debugger.
    pub(crate) fn gdb(&self, vm: &Vm) -> bool {
        self.model.gdb(vm)
    }

    /// An error about one place of the file, for a rule that is not the configuration's own.
    pub(crate) fn problem(&self, problem: Problem) -> Error {
        Error::config(&self.source, vec![problem])
    }

    /// The place where the file says which QEMU this VM runs, if it does.
    pub(crate) fn bin_place(&self, vm: &Vm) -> Option<Span> {
        self.model.qemu(vm).map(|bin| bin.span)
    }

    fn scope<'a>(&'a self, vm: &'a Vm, choices: &'a Choices<'a>) -> Scope<'a> {
        Scope::new(self, vm, choices)
    }

    fn checked<T>(&self, problems: Vec<Problem>, value: T) -> Result<T, Error> {
        if problems.is_empty() {
            return Ok(value);
        }
        Err(Error::config(&self.source, problems))
    }
}

/// The message about a port that is not chosen; only a caller without a choice sees it.
fn no_port(vm: &Vm) -> String {
    format!("the ssh port of VM `{}` is chosen at start", vm.name)
}

/// Collects problems, each once, so that all are reported together.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn keep<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(problem) => {
                if !self.0.contains(&problem) {
                    self.0.push(problem);
                }
                None
            }
        }
    }
}

impl Literal {
    /// Converts a range of bytes of the decoded string to its place in the file.
    fn place(&self, source: &Source, span: Span) -> Span {
        let start = match self.verbatim_start(&source.text) {
            Some(start) => start,
            // Each conversion decodes the literal from its start.
            None if self.text.len() > EXACT_BYTES_MAX => return self.span,
            None => {
                let at = |index| toml::offset_in_string(&source.text, self.span, index);
                return Span { start: at(span.start), end: at(span.end) };
            }
        };
        Span { start: start + span.start, end: start + span.end }
    }

    /// The start of the text, if the file has it byte for byte. Escapes are longer than what they
    /// stand for, so without them only the quotes, and the line end after them, make the
    /// difference.
    fn verbatim_start(&self, source: &str) -> Option<usize> {
        let written = &source[self.span.start..self.span.end];
        let quotes =
            if written.starts_with("\"\"\"") || written.starts_with("'''") { 3 } else { 1 };
        let trimmed = usize::from(quotes == 3 && written[3..].starts_with('\n'));
        let is_verbatim = written.len() == self.text.len() + 2 * quotes + trimmed;
        is_verbatim.then_some(self.span.start + quotes + trimmed)
    }
}

fn read(file: &Path, shown: String) -> Result<Source, Error> {
    let unreadable = |error| Error::io("read", file, &error).of_kind(Kind::Config);
    if file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        // Opening it would wait for a writer.
        return Err(Error::new(Kind::Config, format!("`{shown}` is a FIFO, and must be a file")));
    }
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    let size = opened.metadata().map_or(0, |metadata| metadata.len()).min(CONFIG_BYTES_MAX);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        let message = format!("`{shown}` is larger than {} MiB", CONFIG_BYTES_MAX >> 20);
        return Err(Error::new(Kind::Config, message)
            .hint("is it the right file? a configuration of 1,000 VMs takes less than 1 MiB"));
    }
    String::from_utf8(bytes).map(|text| Source { name: shown.clone(), text }).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let span = Span { start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
        let source = Arc::new(Source { name: shown, text });
        Error::config(&source, vec![Problem::new(span, "invalid UTF-8")])
    })
}
