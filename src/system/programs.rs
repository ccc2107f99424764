//! Lists every program that is executed on this host. Each is a constant here, or the user names it
//! in the configuration or in `QQMGR_GDB`. Nothing else makes an [`Invocation`], so this file is
//! the whole list; src/README.md says when each is run.

use super::run::Invocation;
pub(crate) use crate::lookup::{find, is_executable, locate, own, require};
use std::ffi::OsStr;
use std::path::PathBuf;

/// The name of a program, which is searched for in `PATH`, and its Debian package.
pub(crate) struct Program(&'static str, &'static str);

pub(crate) const BASH: Program = Program("bash", "bash");
pub(crate) const BUSYBOX: Program = Program("busybox", "busybox");
pub(crate) const CURL: Program = Program("curl", "curl");
pub(crate) const GDB: Program = Program("gdb", "gdb");
pub(crate) const ID: Program = Program("id", "coreutils");
pub(crate) const OPENSSL: Program = Program("openssl", "openssl");
pub(crate) const PS: Program = Program("ps", "procps");
pub(crate) const SCP: Program = Program("scp", "openssh-client");
pub(crate) const SHA256SUM: Program = Program("sha256sum", "coreutils");
pub(crate) const SHA512SUM: Program = Program("sha512sum", "coreutils");
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
