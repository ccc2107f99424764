//! `stats --watch`: repeats the output each second while a VM runs, in the same place on a
//! terminal, otherwise one after the other.

use super::super::parallel;
use super::super::target::Target;
use super::usage::Used;
use crate::answers::Answers;
use crate::error::{Error, Kind};
use crate::out::{self, Reader};
use crate::redraw::Redraw;
use crate::vm::stats::Stats;
use crate::vm::wait::poll_long;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

struct Watched<'a> {
    target: Target<'a>,
    last: Option<Stats>,
}

impl Watched<'_> {
    fn look(&self) -> Result<Used, Error> {
        Used::now(&self.target, self.last.as_ref())
    }

    /// Whether the usage belongs to another QEMU than the one seen before, after a new start.
    fn is_of_another(&self, used: &Used) -> bool {
        self.last.as_ref().is_some_and(|last| last.process.pid != used.stats.process.pid)
    }

    fn has_ended(&self) -> bool {
        self.last.as_ref().is_some_and(|stats| !stats.process.is_alive())
    }
}

/// Watches until none of these VMs runs any more or the output has no reader. Reports errors,
/// except the end of a VM that has been seen.
pub(super) fn watch(targets: Vec<Target>, answers: &mut Answers) -> Result<(), Error> {
    let json = targets.first().is_some_and(|target| target.args.json());
    let several = targets.len() > 1;
    let mut redraw = Redraw::on_terminal().filter(|_| !json);
    let mut watched: Vec<Watched> =
        targets.into_iter().map(|target| Watched { target, last: None }).collect();
    let mut next = Instant::now();
    while !watched.is_empty() {
        // In parallel: a VM that does not answer does not delay the others.
        let mut looks = Vec::new();
        parallel::each(&watched, usize::MAX, Watched::look, |news| looks.extend(news));
        looks.sort_by_key(|(at, _)| *at);
        let (mut shown, mut left) = (Vec::new(), Vec::new());
        for (mut one, (_, look)) in watched.into_iter().zip(looks) {
            match look {
                Ok(used) if one.is_of_another(&used) => {}
                Ok(used) => {
                    let report = used.report();
                    let json = report.json.filter(|_| json);
                    shown.push(json.map_or(report.text, |json| json.compact()));
                    one.last = Some(used.stats);
                    left.push(one);
                }
                Err(error) if error.kind == Kind::NotRunning && one.last.is_some() => {}
                Err(error) => {
                    answers.tell(Err(error.of_vm(&one.target.name, several)));
                    // The earlier drawing has moved.
                    redraw = redraw.and(Redraw::on_terminal());
                }
            }
        }
        watched = left;
        let written = if shown.is_empty() { Ok(Reader::There) } else { write(&shown, &mut redraw) };
        if written? == Reader::Gone {
            break;
        }
        next += INTERVAL;
        poll_long(Some(next), || watched.iter().all(Watched::has_ended).then_some(()));
    }
    Ok(())
}

/// Writes the texts. If not on a terminal, an empty line follows each text, and each document has
/// its own line.
fn write(shown: &[String], redraw: &mut Option<Redraw>) -> Result<Reader, Error> {
    let text = shown.join("\n");
    match redraw {
        Some(redraw) => redraw.draw(&text),
        None => out::write(format!("{text}\n").as_bytes()),
    }
}
