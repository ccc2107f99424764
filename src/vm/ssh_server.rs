//! Waits until a guest's ssh server has introduced itself.

use super::guest::{Guest, News};
use super::probe::Probe;
use super::question::Questions;
use super::watch::Watch;
use crate::error::{Error, Kind};
use crate::system::run::Invocation;
use std::time::Instant;

/// Waits until the guest's ssh server has introduced itself on this port.
pub(crate) fn wait(watch: &Watch, host: &str, port: u16) -> Result<(), Error> {
    let mut probe = Probe::new(host, port);
    let result = until_ssh(watch, |news| {
        match news {
            News::Boots => probe.guest_boots(Instant::now()),
            News::NetworkIsUp => probe.network_is_up(Instant::now()),
            News::Held | News::None => {}
        }
        probe.has_answered()
    });
    with_trouble(result, probe.trouble())
}

/// Waits until the guest's ssh server has introduced itself to ssh, which knows how to reach
/// it.
pub(crate) fn wait_by<F: Fn(u64) -> Invocation>(watch: &Watch, command: F) -> Result<(), Error> {
    let mut questions = Questions::new(command, watch.log);
    let result = until_ssh(watch, |_| questions.has_answered());
    with_trouble(result, questions.trouble())
}

/// Waits until the ssh server has answered. It is not asked while the guest does not run, since
/// all those connections would reach the server at once when the guest continues.
fn until_ssh(watch: &Watch, mut has_answered: impl FnMut(&News) -> bool) -> Result<(), Error> {
    let what = format!("the ssh server of VM `{}`", watch.paths.name);
    let mut guest = Guest::new(watch);
    watch.until(&what, || {
        let news = guest.news();
        !matches!(news, News::Held) && has_answered(&news)
    })
}

/// Adds to the error of a wait that timed out what kept ssh from the server.
fn with_trouble(result: Result<(), Error>, trouble: Option<String>) -> Result<(), Error> {
    match (result, trouble) {
        (Err(error), Some(trouble)) if error.kind == Kind::TimedOut => Err(error.after(&trouble)),
        (result, _) => result,
    }
}
