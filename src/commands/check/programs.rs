//! Rules about the programs that commands run for a VM, besides QEMU.

use super::subject::Subject;
use crate::config::Config;
use crate::source::Problem;
use crate::system::programs::SSH;

/// Reports that ssh is not installed, for a guest that has it.
pub(super) fn missing(_: &Config, subject: &Subject) -> Vec<Problem> {
    if subject.ssh_port.is_none() || SSH.find().is_some() {
        return Vec::new();
    }
    let message = format!("there is no program `{}`", SSH.name());
    let hint = "install it (Debian: openssh-client): `qqmgr ssh`, `put`, `get` and `run` need it";
    vec![Problem::new(subject.no_place, message).hint(hint)]
}
