//! Lists every program that is executed on this host. Each is a constant here, or is named by
//! the user, in `bin` and `img` of `[qemu]` and in `QQMGR_GDB`. Nothing else makes an
//! [`Invocation`], so this file is the whole list; src/README.md says when each is run.

use super::run::Invocation;
use crate::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The name of a program, which is searched for in `PATH`, and its Debian package.
pub(crate) struct Program(&'static str, &'static str);

pub(crate) const BASH: Program = Program("bash", "bash");
pub(crate) const BUSYBOX: Program = Program("busybox", "busybox");
pub(crate) const CURL: Program = Program("curl", "curl");
pub(crate) const DF: Program = Program("df", "coreutils");
pub(crate) const GDB: Program = Program("gdb", "gdb");
pub(crate) const ID: Program = Program("id", "coreutils");
pub(crate) const OPENSSL: Program = Program("openssl", "openssl");
pub(crate) const PS: Program = Program("ps", "procps");
pub(crate) const SCP: Program = Program("scp", "openssh-client");
pub(crate) const SHA256SUM: Program = Program("sha256sum", "coreutils");
pub(crate) const SHASUM: Program = Program("shasum", "perl");
pub(crate) const SH: Program = Program("sh", "dash");
pub(crate) const SSH: Program = Program("ssh", "openssh-client");
pub(crate) const SSH_KEYGEN: Program = Program("ssh-keygen", "openssh-client");
pub(crate) const STTY: Program = Program("stty", "coreutils");
pub(crate) const TAR: Program = Program("tar", "tar");
pub(crate) const WGET: Program = Program("wget", "wget");

impl Program {
    pub(crate) fn command(&self) -> Invocation {
        Invocation::new(self.0, Some(self.1))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.0
    }

    pub(crate) fn find(&self) -> Option<PathBuf> {
        find(self.0)
    }
}

/// The command for a program that the user names.
pub(crate) fn configured(program: impl AsRef<OsStr>) -> Invocation {
    let is_sh = program.as_ref() == SH.0;
    Invocation::new(program, is_sh.then_some(SH.1))
}

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

/// The error for a program that the configuration names and that does not exist. `hint` is for a
/// missing program; a program name followed by arguments gets another hint.
pub(crate) fn missing(program: &str, dir: &Path, hint: &str) -> Error {
    let error = Error::failed(format!("there is no program `{program}`"));
    match program.split_once(char::is_whitespace) {
        Some((first, _)) if locate(first, dir).is_some() => error.hint(format!(
            "it has to be one program: name a script that ends with `exec {program} \"$@\"`"
        )),
        _ => error.hint(hint),
    }
}
