//! The end of a VM's last QEMU, for `status` and `list`.

use super::ending::Ending;
use super::{Paths, events};
use crate::json::Value;
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
        if ending == Ending::Unknown {
            return None;
        }
        let at = ending.at().or_else(|| {
            let written = [&paths.serial, &paths.log, &paths.events_out].into_iter();
            let written = written.filter_map(|path| path.metadata().ok()?.modified().ok()).max();
            written.and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        });
        Some(Self { ending, at })
    }

    /// Describes why and when it ended. `now` is the current time, and `shown` formats a duration.
    pub(crate) fn text(&self, now: Duration, shown: fn(Duration) -> String) -> String {
        let when = self.at.map(|at| shown(now.saturating_sub(Duration::from_secs(at))));
        let when = when.map_or(String::new(), |ago| match self.ending {
            Ending::Reported { .. } => format!(", {ago} ago"),
            Ending::Untold | Ending::Unknown => format!("; last output {ago} ago"),
        });
        format!("{}{when}", self.ending)
    }

    /// The members of a JSON object that describe the end; all are null if there is nothing to
    /// report.
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
