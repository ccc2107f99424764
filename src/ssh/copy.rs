//! `put` and `get`: by `scp`, which speaks sftp, or as a tar stream for a guest without an sftp
//! server, such as a small one with dropbear.

use super::departures::{Departure, last_part};
use super::guest::{FAILURE_CODE, Guest, OWN};
use super::run::{pipe, watch};
use super::share::unreachable;
use super::stream::{self, ask, is_pattern, local};
use crate::destination::Destination;
use crate::error::Error;
use crate::left_out::{self, LeftOut};
use crate::system::arrivals::Arrival;
use crate::system::run::Invocation;
use crate::system::{files, programs, user_files};
use crate::text::sanitized;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Words in scp's errors that show an incomplete file.
const HALF_FILES: [&str; 2] = ["read remote \"", "write local \""];

const METHOD_BYTES_MAX: u64 = 16;
/// The most characters of a guest's greeting that an error shows.
const GREETING_CHARS_MAX: usize = 60;
/// Words in errors of tar and scp that show a stream which begins with something else.
const NO_STREAM: [&str; 3] = ["archive", "magic", "message too long"];
const FROM_HOME: &str = "relative names start from the home directory of the guest's user";

/// The sources and the destination of a copy. Remote names are as `scp` takes them: relative ones
/// and `~/` start from the guest user's home, and `get` expands patterns in them.
pub(crate) enum Copy {
    Put { from: Vec<PathBuf>, to: OsString },
    Get { from: Vec<OsString>, to: PathBuf },
}

/// Copies files, and directories with their whole content. With `shown`, progress is shown, and a
/// copy to the guest becomes scp where nothing is left to do after it.
pub(crate) fn copy(guest: &Guest, copy: &Copy, shown: bool) -> Result<(), Error> {
    let mut transfer = Transfer { guest, shown, left: Vec::new() };
    let copied = match copy {
        Copy::Put { from, to } => transfer.put(from, to),
        Copy::Get { from, to } => transfer.get(from, to),
    };
    let message = left_out::message(&transfer.left);
    match copied {
        copied if transfer.left.is_empty() => copied,
        Ok(()) => Err(Error::failed(message).hint("everything else was copied")),
        Err(error) => Err(error.before(&message)),
    }
}

struct Transfer<'a> {
    guest: &'a Guest,
    /// Whether progress is shown.
    shown: bool,
    /// The files that were left out so far.
    left: Vec<LeftOut>,
}

impl Transfer<'_> {
    fn put(&mut self, from: &[PathBuf], to: &OsStr) -> Result<(), Error> {
        from.iter().try_for_each(|path| {
            path.metadata().map(|_| ()).map_err(|error| Error::io("read", path, &error))
        })?;
        let guest = self.guest;
        let method = Method::of(guest)?;
        let departure = Departure::new(from, &private(guest), &guest.log)?;
        let from = &departure.from;
        self.left.extend(departure.left);
        let copied = match method {
            Method::Tar => stream::put(guest, from, to),
            Method::Sftp => {
                let mut scp = self.scp();
                scp.args(from.iter().map(|path| scp_source(path))).arg(remote(guest, to));
                if self.shown && departure.dir.is_none() && self.left.is_empty() {
                    return Err(scp.exec(&guest.log));
                }
                watch(scp, guest).and_then(|output| match output.status.code() {
                    Some(0) => Ok(()),
                    _ => Err(Error::failed(output.said())),
                })
            }
        };
        copied.map_err(|error| stream::explained(guest, (from.len(), to), error))
    }

    fn get(&mut self, from: &[OsString], to: &Path) -> Result<(), Error> {
        let (guest, destination) = (self.guest, Destination::new(to)?);
        let method = Method::of(guest)?;
        let mut sources = Vec::new();
        for path in from {
            if method == Method::Tar || stream::has_odd_links(guest, path)? {
                let paths = stream::expanded(guest, path)?;
                sources.extend(paths.into_iter().map(|path| (Method::Tar, path)));
            } else {
                sources.push((Method::Sftp, path.clone()));
            }
        }
        if sources.is_empty() {
            return Err(Error::failed("no file on the guest matches"));
        }
        destination.check_takes(sources.len())?;
        let mut copied = Ok(());
        for (method, path) in &sources {
            let explained = |error: Error| {
                let is_relative = !path.as_bytes().starts_with(b"/");
                let is_missing = error.message().contains("No such file");
                if is_relative && is_missing { error.hint(FROM_HOME) } else { error }
            };
            let incomplete = self.get_one(*method, path, &destination).map_err(explained)?;
            copied = copied.and(incomplete.map_or(Ok(()), |error| Err(explained(error))));
        }
        copied
    }

    /// Copies one source. Returns the error for what could not be copied when everything else was.
    fn get_one(
        &mut self,
        method: Method,
        path: &OsStr,
        destination: &Destination,
    ) -> Result<Option<Error>, Error> {
        let guest = self.guest;
        let arrival = Arrival::new(destination, &guest.log)?;
        // A source without a name has its content copied under this name.
        let whole = last_part(path).is_none().then(|| OsString::from("content"));
        let inbox = arrival.inbox();
        let (incomplete, is_useless) = match method {
            Method::Tar => {
                let into = whole.as_ref().map_or(inbox.clone(), |name| inbox.join(name));
                user_files::make_dir(&into)?;
                let piped = pipe(stream::sender(guest, path), stream::receiver(&into), guest);
                let piped = piped.map_err(|error| greeted(guest, error))?;
                let has_nothing = inbox.read_dir().is_ok_and(|mut names| names.next().is_none());
                let not_sent = stream::left_out(&piped.said);
                if has_nothing && not_sent.is_empty() && piped.incomplete.is_none() {
                    let message = format!("the guest sent nothing of `{}`", path.display());
                    return Err(Error::failed(message));
                }
                self.left.extend(not_sent);
                (piped.incomplete, has_nothing)
            }
            Method::Sftp => {
                let is_pattern = is_pattern(path) || path.as_bytes().contains(&b'\\');
                let name = whole.clone().or_else(|| last_part(path).filter(|_| !is_pattern));
                let target = name.map_or(inbox.clone(), |name| inbox.join(name));
                let mut scp = self.scp();
                scp.arg(remote(guest, path)).arg(target);
                let output = watch(scp, guest)?;
                let to = destination.named.to_string_lossy();
                let said = output.said().replace(&*inbox.to_string_lossy(), &to);
                let is_half = HALF_FILES.iter().any(|text| said.contains(text));
                let broken = output.status.code().is_none_or(|code| code == FAILURE_CODE.into());
                let failed = output.status.code() != Some(0);
                (failed.then(|| Error::failed(said)), broken || is_half)
            }
        };
        let incomplete = match incomplete {
            Some(error) if is_useless => return Err(greeted(guest, error)),
            incomplete => incomplete,
        };
        let not_moved = arrival.deliver(destination, whole.as_deref())?;
        self.left.extend(not_moved.into_iter().map(|left| match &whole {
            Some(content) => left.inside(content.as_ref()),
            None => left,
        }));
        Ok(incomplete)
    }

    /// The command that copies trees.
    fn scp(&self) -> Invocation {
        let mut scp = self.guest.command(&programs::SCP, OWN, true);
        scp.args(if self.shown { &["-r", "--"][..] } else { &["-q", "-r", "--"] });
        scp
    }
}

/// The paths that belong to this program and are no part of a tree: the runtime directory.
fn private(guest: &Guest) -> Vec<PathBuf> {
    let Some(runtime) = guest.paths.dir.parent() else { return Vec::new() };
    if runtime.ends_with(".qqmgr") {
        return vec![runtime.to_path_buf()];
    }
    // The runtime directory is the user's, with the directories of VMs and images in it.
    let ours = |name: &String| name.starts_with("vm.") || name.starts_with("img.");
    files::names_in(runtime).into_iter().filter(ours).map(|name| runtime.join(name)).collect()
}

/// A local path for scp. A name that ends in `..` would lie beside the destination.
fn scp_source(path: &Path) -> PathBuf {
    if last_part(path).is_some() { local(path) } else { local(path).join(".") }
}

fn remote(guest: &Guest, path: &OsStr) -> OsString {
    let mut spec = OsString::from(&guest.paths.name);
    spec.push(":");
    spec.push(path);
    spec
}

/// How a guest takes files: by its sftp server, or as a tar stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Sftp,
    Tar,
}

impl Method {
    /// Finds out how this guest takes files, once; the answer is kept until the VM stops.
    fn of(guest: &Guest) -> Result<Self, Error> {
        guest.begin_sharing()?;
        let kept = &guest.paths.copy_method;
        match &files::read_start(kept, METHOD_BYTES_MAX).unwrap_or_default()[..] {
            b"sftp" => return Ok(Self::Sftp),
            b"tar" => return Ok(Self::Tar),
            _ => {}
        }
        let method = Self::find_out(guest)?;
        files::write_private(kept, if method == Self::Tar { "tar" } else { "sftp" })?;
        Ok(method)
    }

    /// Asks the guest: for the path of tar, which also shows whether there is a connection, and for
    /// its sftp server, which succeeds at the end of its input and writes nothing.
    fn find_out(guest: &Guest) -> Result<Self, Error> {
        let name = &guest.paths.name;
        let tar = ask(guest, &["command -v tar"])?;
        if tar.status.code() == Some(FAILURE_CODE.into()) {
            return Err(unreachable(&guest.paths, &tar.said()));
        }
        let sftp = ask(guest, &["-s", "sftp"])?;
        if sftp.status.code() == Some(0) {
            return greeting(guest, &sftp.stdout).map_or(Ok(Self::Sftp), Err);
        }
        if tar.status.code() == Some(0) {
            let mut lines = tar.stdout.trim_ascii_end().rsplitn(2, |byte| *byte == b'\n').skip(1);
            let before = lines.next().unwrap_or_default();
            return greeting(guest, before).map_or(Ok(Self::Tar), Err);
        }
        let message = format!("the guest of VM `{name}` has neither an sftp server nor tar");
        Err(Error::failed(message)
            .hint("install one of them there; `qqmgr ssh VM 'cat > FILE' < FILE` needs neither"))
    }
}

/// The error about a guest whose shell prints `said` before the output of a command.
fn greeting(guest: &Guest, said: &[u8]) -> Option<Error> {
    let said = sanitized(String::from_utf8_lossy(said).trim());
    // Data is no greeting.
    if said.is_empty() || said.contains('\u{fffd}') {
        return None;
    }
    let said: String = said.chars().take(GREETING_CHARS_MAX).collect();
    let message = format!(
        "the shell of the guest of VM `{}` prints `{said}` before every command, which breaks copies",
        guest.paths.name
    );
    Some(Error::failed(message).hint(
        "its startup file there (`~/.bashrc`, say) must print nothing unless `$-` has an `i`",
    ))
}

/// The greeting of the guest's shell as the reason for an error, if it prints one now.
fn greeted(guest: &Guest, error: Error) -> Error {
    if !NO_STREAM.iter().any(|sign| error.message().contains(sign)) {
        return error;
    }
    let asked = ask(guest, &[":"]);
    let greeted = asked.ok().filter(|asked| asked.status.code() == Some(0));
    greeted.and_then(|asked| greeting(guest, &asked.stdout)).unwrap_or(error)
}
