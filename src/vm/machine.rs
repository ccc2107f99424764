//! The machine on which a VM runs.

use crate::error::Error;
use crate::linux;
use crate::system::process::unseen;

/// Identifies a machine from one start of it to the next. Unknown parts are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) boot_id: Option<String>,
    /// The name of the machine or container.
    pub(crate) host: Option<String>,
    /// The pid namespace; a container has its own.
    pub(crate) pid_namespace: Option<String>,
}

impl Machine {
    /// The machine that this process runs on.
    pub(crate) fn this() -> Result<Self, Error> {
        let fact = |file| linux::kernel_fact(file).map_err(|error| unseen(&error));
        Ok(Self {
            boot_id: fact("sys/kernel/random/boot_id")?,
            host: fact("sys/kernel/hostname")?,
            pid_namespace: linux::pid_namespace(),
        })
    }

    /// Whether a pid of one machine is certainly not the same process on the other.
    pub(crate) fn has_other_pids(&self, other: &Self) -> bool {
        differ(self.boot_id.as_ref(), other.boot_id.as_ref())
            || differ(self.pid_namespace.as_ref(), other.pid_namespace.as_ref())
    }

    /// Whether the two are certainly different machines, and not one that was rebooted.
    pub(crate) fn is_elsewhere(&self, other: &Self) -> bool {
        differ(self.boot_id.as_ref(), other.boot_id.as_ref())
            && differ(self.host.as_ref(), other.host.as_ref())
    }
}

/// When this machine was booted, in seconds since 1970; 0 if it does not tell.
pub(crate) fn booted_at() -> u64 {
    let text = linux::kernel_fact("stat").ok().flatten().unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
    number.unwrap_or_default()
}

fn differ(one: Option<&String>, other: Option<&String>) -> bool {
    one.is_some() && other.is_some() && one != other
}
