//! The end of a VM's last QEMU, for `status` and `list`.

use super::ending::Ending;
use super::{Paths, events};
use crate::clock::now;
use crate::json::Value;
use crate::text::duration;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

pub(crate) struct End {
    ending: Ending,
    /// When it ended, in seconds since 1970. If QEMU gave no reason, when QEMU or its guest last
    /// wrote output.
    at: Option<u64>,
}

impl End {
    /// The end of the last QEMU of a VM that is not running; `None` if nothing is known about it.
    pub(crate) fn of(paths: &Paths) -> Option<Self> {
        let ending = events::ending(paths);
        let at = match &ending {
            Ending::Unknown => return None,
            Ending::Reported { at: Some(at), .. } => Some(*at),
            _ => {
                let logs = [&paths.serial, &paths.log, &paths.events_out].into_iter();
                let written = logs.filter_map(|path| path.metadata().ok()?.modified().ok()).max();
                written.and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs()))
            }
        };
        Some(Self { ending, at })
    }

    /// The members of a JSON object that describe the end; all null if nothing is known.
    pub(crate) fn json_members(end: Option<&Self>) -> [(&'static str, Value); 4] {
        let why = end.map(|end| end.ending.to_string());
        [
            ("ended", why.as_deref().into()),
            ("ended_reason", end.and_then(|end| end.ending.reason()).into()),
            ("ended_at", end.and_then(|end| end.at).into()),
            // Only the process that started QEMU could learn it.
            ("exit_status", Value::Null),
        ]
    }
}

/// Shows why and when it ended.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A time in the future says only that the clock was set.
        let ago = self.at.and_then(|at| now().checked_sub(Duration::from_secs(at))).map(duration);
        match (&self.ending, ago) {
            (ending, None) => write!(f, "{ending}"),
            (ending @ Ending::Reported { .. }, Some(ago)) => write!(f, "{ending}, {ago} ago"),
            (ending, Some(ago)) => write!(f, "{ending}; last output {ago} ago"),
        }
    }
}
