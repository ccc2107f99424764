//! `put` and `get`: by `scp`, which speaks sftp, or as a tar stream for a guest without an sftp
//! server, such as a small one with dropbear.

use super::departures::{Departure, last_part};
use super::guest::{FAILURE_CODE, Guest, OWN};
use super::method::{Method, greeted};
use super::run::{capture, pipe, watch};
use super::stream::{self, is_pattern, local};
use crate::destination::Destination;
use crate::error::{Error, Kind};
use crate::left_out::{self, LeftOut};
use crate::system::arrivals::Arrival;
use crate::system::run::Invocation;
use crate::system::{files, programs, user_files};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Words in scp's errors that show an incomplete file.
const HALF_FILES: [&str; 2] = ["read remote \"", "write local \""];

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
    let left = match copy {
        Copy::Put { from, to } => put(guest, from, to, shown)?,
        Copy::Get { from, to } => get(guest, from, to, shown)?,
    };
    if left.is_empty() {
        return Ok(());
    }
    Err(Error::failed(left_out::message(&left)).hint("everything else was copied"))
}

fn put(guest: &Guest, from: &[PathBuf], to: &OsStr, shown: bool) -> Result<Vec<LeftOut>, Error> {
    from.iter().try_for_each(|path| {
        path.metadata().map(|_| ()).map_err(|error| Error::io("read", path, &error))
    })?;
    let method = Method::of(guest)?;
    let run_scp = if shown { watch } else { capture };
    let departure = Departure::new(from, &private(guest), &guest.log)?;
    let from = &departure.from;
    let result = match method {
        Method::Tar => stream::put(guest, from, to),
        Method::Sftp => {
            let mut scp = scp(guest, shown);
            scp.args(from.iter().map(|path| scp_source(path))).arg(remote(guest, to));
            if shown && departure.dir.is_none() && departure.left.is_empty() {
                return Err(scp.exec(&guest.log));
            }
            run_scp(scp, guest).and_then(|output| match output.status.code() {
                Some(0) => Ok(()),
                _ => Err(Error::failed(output.said())),
            })
        }
    };
    let result = result.map_err(|error| stream::explained(guest, (from.len(), to), error));
    with_left(result, &departure.left)?;
    Ok(departure.left)
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

fn get(guest: &Guest, from: &[OsString], to: &Path, shown: bool) -> Result<Vec<LeftOut>, Error> {
    let destination = Destination::new(to)?;
    let method = Method::of(guest)?;
    let mut sources = Vec::new();
    for path in from {
        if method == Method::Tar || stream::has_odd_links(guest, path)? {
            sources.extend(stream::expanded(guest, path)?.into_iter().map(|it| (Method::Tar, it)));
        } else {
            sources.push((Method::Sftp, path.clone()));
        }
    }
    if sources.is_empty() {
        return Err(Error::failed("no file on the guest matches"));
    }
    destination.check_takes(sources.len())?;
    let mut left = Vec::new();
    let mut result = Ok(());
    for (method, path) in &sources {
        let arrival = Arrival::new(&destination, &guest.log)?;
        let got = get_one(guest, *method, path, (arrival, &destination, to), shown);
        let explained = |error: Error| {
            let is_relative = !path.as_bytes().starts_with(b"/");
            let is_missing = error.message().contains("No such file");
            if is_relative && is_missing { error.hint(FROM_HOME) } else { error }
        };
        let (more, incomplete) = got.map_err(explained)?;
        left.extend(more);
        result = result.and(incomplete.map_or(Ok(()), |error| Err(explained(error))));
    }
    with_left(result, &left)?;
    Ok(left)
}

/// Copies one source. Returns what was left out, and the error for what could not be copied.
fn get_one(
    guest: &Guest,
    method: Method,
    path: &OsStr,
    (arrival, destination, to): (Arrival, &Destination, &Path),
    shown: bool,
) -> Result<(Vec<LeftOut>, Option<Error>), Error> {
    // A source without a name has its content copied under this name.
    let whole = last_part(path).is_none().then(|| OsString::from("content"));
    let (inbox, run_scp) = (arrival.inbox(), if shown { watch } else { capture });
    let (mut left, incomplete) = match method {
        Method::Tar => {
            let into = whole.as_ref().map_or(inbox.clone(), |name| inbox.join(name));
            user_files::make_dir(&into)?;
            let piped = pipe(stream::sender(guest, path), stream::receiver(&into), guest);
            let piped = piped.map_err(|error| greeted(guest, error))?;
            let has_nothing = inbox.read_dir().is_ok_and(|mut names| names.next().is_none());
            let left = stream::left_out(&piped.said);
            match piped.incomplete {
                Some(error) if has_nothing => return Err(greeted(guest, error)),
                None if has_nothing && left.is_empty() => {
                    let message = format!("the guest sent nothing of `{}`", path.display());
                    return Err(Error::failed(message));
                }
                incomplete => (left, incomplete),
            }
        }
        Method::Sftp => {
            let is_pattern = is_pattern(path) || path.as_bytes().contains(&b'\\');
            let name = whole.clone().or_else(|| last_part(path).filter(|_| !is_pattern));
            let target = name.map_or(inbox.clone(), |name| inbox.join(name));
            let mut scp = scp(guest, shown);
            scp.arg(remote(guest, path)).arg(target);
            let output = run_scp(scp, guest)?;
            let said = output.said().replace(&*inbox.to_string_lossy(), &to.to_string_lossy());
            let error = (output.status.code() != Some(0)).then(|| Error::failed(&said));
            let is_half = HALF_FILES.iter().any(|text| said.contains(text));
            let broken = output.status.code().is_none_or(|code| code == FAILURE_CODE.into());
            match error {
                Some(error) if broken || is_half => return Err(greeted(guest, error)),
                error => (Vec::new(), error),
            }
        }
    };
    let not_moved = arrival.deliver(destination, whole.as_deref())?;
    let content = whole.as_deref().map(Path::new);
    left.extend(not_moved.into_iter().map(|left| match content {
        Some(content) => left.inside(content),
        None => left,
    }));
    Ok((left, incomplete))
}

/// The result of a copy; an error also says what was left out.
fn with_left(result: Result<(), Error>, left: &[LeftOut]) -> Result<(), Error> {
    result.map_err(|error| match error.kind {
        Kind::Failed if !left.is_empty() => {
            Error::failed(format!("{}; {}", error.message(), left_out::message(left)))
        }
        _ => error,
    })
}

/// The command that copies trees; `shown` has it show its progress.
fn scp(guest: &Guest, shown: bool) -> Invocation {
    let mut scp = guest.command(&programs::SCP, OWN, true);
    scp.args(if shown { &["-r", "--"][..] } else { &["-q", "-r", "--"] });
    scp
}

fn remote(guest: &Guest, path: &OsStr) -> OsString {
    let mut spec = OsString::from(&guest.paths.name);
    spec.push(":");
    spec.push(path);
    spec
}
