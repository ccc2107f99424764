//! Finds programs on this host. Runs none.

use crate::error::Error;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Finds the program of this name in `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&path).map(|dir| dir.join(name));
    files.into_iter().find(|file| !name.is_empty() && file.is_file())
}

/// The file of this program. Some systems can only find it with something mounted; without that, it
/// is derived from the command that was typed.
pub(crate) fn own() -> io::Result<PathBuf> {
    std::env::current_exe().or_else(|error| {
        let typed = std::env::args_os().next().unwrap_or_default();
        let typed = Path::new(&typed);
        let found = if typed.components().count() > 1 {
            Some(typed.to_path_buf())
        } else {
            typed.to_str().and_then(find)
        };
        found.and_then(|path| path.canonicalize().ok()).ok_or(error)
    })
}

/// Whether there is a file of this name or path that is executable for any user.
pub(crate) fn is_executable(program: &Path) -> bool {
    let found = program.to_str().filter(|name| !name.contains('/')).and_then(find);
    let file = found.unwrap_or_else(|| program.to_path_buf()).metadata();
    file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Finds the program that the configuration names, if it exists: a plain name is searched for in
/// `PATH`, and a relative path starts from `dir`.
pub(crate) fn locate(program: &str, dir: &Path) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(dir.join(program)).filter(|path| path.exists());
    }
    find(program).map(|_| program.into())
}

/// Finds the program that the configuration names, as [`locate`] does. The hint of the error is for
/// a missing program; a program name followed by arguments gets another one.
pub(crate) fn require(program: &str, dir: &Path, hint: &str) -> Result<PathBuf, Error> {
    locate(program, dir).ok_or_else(|| {
        let error = Error::failed(format!("there is no program `{program}`"));
        match program.split_once(char::is_whitespace) {
            Some((first, _)) if locate(first, dir).is_some() => error.hint(format!(
                "it has to be one program: name a script that ends with `exec {program} \"$@\"`"
            )),
            _ => error.hint(hint),
        }
    })
}
