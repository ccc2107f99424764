//! Work on several things at the same time, each in a thread of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// How often `news` is called while there is no result.
const SILENCE: Duration = Duration::from_secs(1);

/// Does `work` on each item, on at most `at_once` of them at the same time. Passes the index and
/// the result of each to `news` as it comes, and `None` after each second without a result.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> R + Sync,
    mut news: impl FnMut(Option<(usize, R)>),
) {
    let (next, (sender, results)) = (AtomicUsize::new(0), mpsc::channel());
    let worker = |sender: &Sender<_>| {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let _ = sender.send((at, work(item)));
        }
    };
    thread::scope(|scope| {
        let (worker, sender) = (&worker, sender);
        let workers = (0..items.len().min(at_once)).map(|_| {
            let sender = sender.clone();
            thread::Builder::new().spawn_scoped(scope, move || worker(&sender))
        });
        // If the system has no more threads, fewer workers do the work, or this thread does.
        if workers.take_while(Result::is_ok).count() == 0 {
            worker(&sender);
        }
        drop(sender);
        loop {
            match results.recv_timeout(SILENCE) {
                Ok(result) => news(Some(result)),
                Err(RecvTimeoutError::Timeout) => news(None),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
}
