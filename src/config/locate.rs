//! Finds and reads the configuration file, and finds the directory that its VMs run in.
//!
//! A configuration is a program. The user has not chosen a file above the current directory by
//! working below it, so it counts only if nobody but this user and root could have put it there.

use crate::error::{Error, Kind, io_reason};
use crate::source::{Problem, Source, Span};
use crate::system::files;
use crate::system::process::{id, user_id};
use crate::text::fingerprint;
use std::env;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IN_PROJECT: &str = "qqmgr.toml";
/// Names a file in place of the search.
const VARIABLE: &str = "QQMGR_CONFIG";
/// Puts the runtime directories of all configurations elsewhere.
const RUNTIME_VARIABLE: &str = "QQMGR_RUNTIME_DIR";
/// Write permission of the group, and of all others.
const WRITE_BY_GROUP: u32 = 0o020;
const WRITE_BY_OTHERS: u32 = 0o002;
/// The extension of a configuration's directory in the runtime directory. It shows that an empty
/// directory is ours.
const RUNTIME_EXTENSION: &str = "qqmgr";
const OF_USER: &str = "qqmgr/conf.toml";
/// Limit of the file; a thousand VMs take about 300 KiB.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The size limit of a table of users or groups. With a larger one, no group counts as private.
const TABLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The path in a variable of the environment. An empty one counts as not set.
fn path_in(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The absolute path of a file. An absolute path does not need the current directory.
fn in_current_dir(file: &Path) -> Result<PathBuf, Error> {
    if file.is_absolute() {
        return Ok(file.to_path_buf());
    }
    env::current_dir().map(|dir| dir.join(file)).map_err(|error| {
        let reason = io_reason(&error);
        Error::new(Kind::Config, format!("cannot tell the current directory: {reason}"))
    })
}

/// The directory of this file's VMs' directories; `dir` is that of the file, without symbolic
/// links.
fn runtime(dir: &Path, name: &OsStr) -> Result<PathBuf, Error> {
    let Some(all) = path_in(RUNTIME_VARIABLE) else {
        return Ok(if name == IN_PROJECT { dir.join(".qqmgr") } else { dir.to_path_buf() });
    };
    if !all.is_absolute() {
        let message = format!("{RUNTIME_VARIABLE} is `{}`, a relative path", all.display());
        return Err(Error::new(Kind::Config, message)
            .hint("set it to an absolute path: VMs must be found from every directory"));
    }
    let hash = fingerprint(dir.join(name).as_os_str().as_bytes());
    Ok(all.join(hash).with_extension(RUNTIME_EXTENSION))
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Absolute; the directory is without symbolic links, so that the VMs' paths are the same
    /// however the file was reached. A VM is identified by these paths.
    pub(super) file: PathBuf,
    /// The name for errors, as short as the user would write it.
    pub(super) shown: String,
    pub(super) runtime: PathBuf,
    /// The files that were passed over, and why, for the user.
    pub(super) passed_over: Vec<String>,
}

/// Finds the file that `-c` or else the environment names, or the first file that exists. A file
/// that cannot be read counts, too: passing over it would silently mean other VMs.
pub(super) fn locate(named: Option<&Path>) -> Result<Location, Error> {
    if let Some(named) = named.map(Path::to_path_buf).or_else(|| path_in(VARIABLE)) {
        return Location::new(&in_current_dir(&named)?, &named);
    }
    let in_project = in_current_dir(Path::new(IN_PROJECT))?;
    if there(&in_project) {
        return Location::new(&in_project, Path::new(IN_PROJECT));
    }
    let mut passed_over = Vec::new();
    let current_dir = in_project.parent().unwrap_or(Path::new("/"));
    if let Some((file, shown)) = above(current_dir, &mut passed_over) {
        return Ok(Location { passed_over, ..Location::new(&file, &shown)? });
    }
    let of_home = || files::home().map(|home| home.join(".config"));
    let of_user = files::directory_in("XDG_CONFIG_HOME").or_else(of_home);
    let of_user = of_user.map(|dir| dir.join(OF_USER));
    if let Some(file) = of_user.as_deref().filter(|file| there(file)) {
        return Ok(Location { passed_over, ..Location::new(file, file)? });
    }
    let last = match &of_user {
        Some(file) => format!(" and no `{}`", file.display()),
        None => ", and neither XDG_CONFIG_HOME nor HOME is set".into(),
    };
    let dir = current_dir.display();
    let message = format!("found no configuration: no `{IN_PROJECT}` in `{dir}` or above it{last}");
    let message = [vec![message], passed_over].concat().join("; ");
    Err(Error::new(Kind::Config, message)
        .hint("`qqmgr init` writes a first one; `-c FILE` names one elsewhere"))
}

/// Adds a hint to the error about a file that cannot be read, if `-c` or the environment named it.
pub(super) fn blame(error: Error, named: Option<&Path>) -> Error {
    let by_environment = || format!("the environment variable {VARIABLE} names this file");
    let missing = "`-c` needs a file that exists; `qqmgr -c FILE init` writes a first one";
    error.hint_if(match named {
        None => path_in(VARIABLE).map(|_| by_environment()),
        Some(file) if file.is_dir() => Some("`-c` takes a file, such as its `qqmgr.toml`".into()),
        Some(file) => (!there(file)).then(|| missing.into()),
    })
}

/// The nearest file in the directories above that can be trusted, and the relative path to it.
fn above(current_dir: &Path, passed_over: &mut Vec<String>) -> Option<(PathBuf, PathBuf)> {
    let mut shown = PathBuf::from(IN_PROJECT);
    for dir in current_dir.ancestors().skip(1) {
        shown = Path::new("..").join(shown);
        let file = dir.join(IN_PROJECT);
        if there(&file) {
            match check_trust(dir, &file) {
                Ok(()) => return Some((file, shown)),
                Err(why) => passed_over.push(format!("passed over `{}`: {why}", shown.display())),
            }
        }
    }
    None
}

/// Returns all reasons why another user could have put the file there, or could change it. For a
/// symbolic link, they include those of its target.
fn check_trust(dir: &Path, file: &Path) -> Result<(), String> {
    let user = user_id().map_err(|error| error.message().to_string())?;
    let mut reasons = Vec::new();
    let mut check = |path: &Path, name: &str| match path.metadata() {
        Ok(metadata) => {
            let found = distrust(&metadata, user).into_iter().map(|why| format!("{name} {why}"));
            reasons.extend(found);
        }
        Err(error) => reasons.push(format!("{name} cannot be looked at: {}", io_reason(&error))),
    };
    check(dir, "its directory");
    check(file, "it");
    if file.is_symlink()
        && let Ok(target) = file.canonicalize()
    {
        check(target.parent().unwrap_or(dir), "the directory that it links to");
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join(", and ")) }
}

/// The reasons why others than the user and root may write to a file or directory.
fn distrust(metadata: &Metadata, user: u32) -> Vec<String> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let mut reasons = Vec::new();
    if owner != user && owner != 0 {
        reasons.push(format!("belongs to user {owner}"));
    }
    if mode & WRITE_BY_OTHERS != 0 {
        reasons.push(format!("can be written by others (mode {mode:04o}, `chmod go-w` helps)"));
    } else if mode & WRITE_BY_GROUP != 0 && !is_private_group(metadata.gid(), user) {
        let group = metadata.gid();
        reasons
            .push(format!("can be written by group {group} (mode {mode:04o}, `chmod g-w` helps)"));
    }
    reasons
}

/// Whether the group is the user's own: it is the primary group of the user, who runs this program,
/// it has the user's name or number, and it has no other members. Such a group gives access to no
/// other user.
fn is_private_group(group: u32, user: u32) -> bool {
    let Ok(primary) = id("-g") else { return false };
    let (Ok(name), Ok(group_name)) = (id("-un"), id("-gn")) else { return false };
    let (Some(groups), Some(users)) = (table("/etc/group"), table("/etc/passwd")) else {
        return false;
    };
    primary == group.to_string()
        && (group_name == name || group == user)
        && has_no_other(&groups, &users, group, &name)
}

/// Whether neither table puts a user other than `name` into the group.
fn has_no_other(groups: &str, users: &str, group: u32, name: &str) -> bool {
    let fields = |table: &str, group_at: usize, value_at: usize| -> Vec<String> {
        let lines = table.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let of_group = lines.filter(|fields| {
            fields.get(group_at).is_some_and(|field| field.trim() == group.to_string())
        });
        of_group.filter_map(|fields| fields.get(value_at).map(ToString::to_string)).collect()
    };
    let members = fields(groups, 2, 3).join(",");
    let mut members = members.split(',').map(str::trim).filter(|member| !member.is_empty());
    members.all(|member| member == name)
        && fields(users, 3, 0).iter().all(|user| user.trim() == name)
}

/// Reads a whole table of `/etc`. A missing table is empty.
fn table(path: &str) -> Option<String> {
    let path = Path::new(path);
    if !path.exists() {
        return Some(String::new());
    }
    let bytes = files::read_start(path, TABLE_BYTES_MAX + 1).ok()?;
    let is_whole = bytes.len() as u64 <= TABLE_BYTES_MAX;
    is_whole.then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn there(file: &Path) -> bool {
    !file.symlink_metadata().is_err_and(|error| {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        matches!(error.kind(), NotFound | NotADirectory)
    })
}

impl Location {
    fn new(file: &Path, shown: &Path) -> Result<Self, Error> {
        let unreadable = |error| Error::io("read", shown, &error).of_kind(Kind::Config);
        let name = file.file_name().ok_or_else(|| {
            Error::new(Kind::Config, format!("`{}` is not a file", shown.display()))
        })?;
        let dir = file.parent().unwrap_or(Path::new("/")).canonicalize().map_err(unreadable)?;
        let runtime = runtime(&dir, name)?;
        let (shown, passed_over) = (shown.display().to_string(), Vec::new());
        Ok(Self { file: dir.join(name), shown, runtime, passed_over })
    }

    /// Reads the file.
    pub(super) fn read(&self) -> Result<Source, Error> {
        let Self { file, shown, .. } = self;
        let unreadable = |error| Error::io("read", file, &error).of_kind(Kind::Config);
        if file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
            // Opening it would wait for a writer.
            return Err(Error::new(
                Kind::Config,
                format!("`{shown}` is a FIFO, and must be a file"),
            ));
        }
        let opened = File::open(file).map_err(unreadable)?;
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
            let source = Arc::new(Source { name: shown.clone(), text });
            let problem = Problem::new(span, "invalid UTF-8").hint("save the file as UTF-8");
            Error::config(&source, vec![problem])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_in_a_private_group() {
        let users = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        for (groups, users, expected) in [
            ("me:x:1000:\n", users, true),
            ("root:x:0:\nme:x:1000:me\n", users, true),
            ("me:x:1000:me,you\n", users, false),
            ("me:x:1000:you\n", users, false),
            ("me:x:1000:\nalias:x:1000:you\n", users, false),
            ("me:x:10001:you\n", users, true),
            ("", "me:x:1000:1000::/:\nyou:x:1001:1000::/:\n", false),
            ("", "", true),
        ] {
            assert_eq!(has_no_other(groups, users, 1000, "me"), expected, "{groups}{users}");
        }
    }
}
