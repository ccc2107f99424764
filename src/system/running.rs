//! A running program whose output is kept, and the limits of programs.

use super::output::Output;
use crate::error::{Error, Kind, io_reason};
use crate::wait::{self, Deadline};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How often a limit is checked while a program runs.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Once a program has ended, this much silence ends its output, even if others hold its pipes.
const SILENCE: Duration = Duration::from_secs(1);
/// The most that is kept of each of a program's two streams.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
const CHUNK_BYTES: usize = 16 * 1024;
/// The number of chunks that wait in memory before the program that writes them has to wait.
const CHUNKS_MAX: usize = 16;

/// The places of the two streams.
const OUT: usize = 0;
const ERR: usize = 1;

/// Returns the reason to end a program, when there is one.
pub(crate) type Exceeded<'a> = &'a mut dyn FnMut() -> Option<Error>;

/// The limit of a program that has this long from now on.
pub(crate) fn within(wait: Duration) -> impl FnMut() -> Option<Error> {
    let deadline = Deadline::after(wait);
    move || too_late(deadline)
}

/// The error of a deadline that is over.
pub(crate) fn too_late(deadline: Deadline) -> Option<Error> {
    let message = || format!("gave up after {} s", deadline.seconds());
    deadline.is_over().then(|| Error::new(Kind::TimedOut, message()))
}

/// Dropping it ends the program.
pub(crate) struct Running {
    child: Child,
    program: OsString,
    chunks: Receiver<(usize, Vec<u8>)>,
    /// Whether all its pipes have been read to their ends.
    is_closed: bool,
    read: [Vec<u8>; 2],
    status: Option<ExitStatus>,
    /// When the last chunk came, or the program ended.
    heard_at: Instant,
}

impl Running {
    pub(super) fn new(child: Child, program: OsString) -> Result<Self, Error> {
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        let mut running = Self {
            child,
            program,
            chunks,
            is_closed: false,
            read: Default::default(),
            status: None,
            heard_at: Instant::now(),
        };
        let (stdout, stderr) = (running.child.stdout.take(), running.child.stderr.take());
        let out = stdout.map_or(Ok(()), |from| forward(OUT, from, sender.clone()));
        let forwarded = out.and(stderr.map_or(Ok(()), |from| forward(ERR, from, sender)));
        forwarded.map_err(|error| cannot_wait(&running.program, &error))?;
        Ok(running)
    }

    /// Waits for the end of the program, for at most `pause`, and gives its output then.
    pub(crate) fn wait(&mut self, pause: Duration) -> Result<Option<Output>, Error> {
        let until = Instant::now() + pause;
        while !self.is_closed {
            match self.chunks.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((stream, chunk)) => self.keep(stream, &chunk)?,
                Err(RecvTimeoutError::Disconnected) => self.is_closed = true,
                Err(RecvTimeoutError::Timeout) => break,
            }
            if Instant::now() >= until {
                break;
            }
        }
        if self.status.is_none() {
            let until = if self.is_closed { until } else { Instant::now() };
            let ended = wait::poll(until, || self.child.try_wait().transpose()).transpose();
            self.status = ended.map_err(|error| cannot_wait(&self.program, &error))?;
            self.heard_at = Instant::now();
        }
        let is_whole = self.is_closed || self.heard_at.elapsed() >= SILENCE;
        Ok(self.status.filter(|_| is_whole).map(|status| {
            let [stdout, stderr] = self.take_read();
            Output { status, stdout, stderr }
        }))
    }

    /// Takes what it has written so far, to standard output and to standard error.
    pub(crate) fn take_read(&mut self) -> [Vec<u8>; 2] {
        std::mem::take(&mut self.read)
    }

    /// Waits for the end of the program, or until a limit is reached.
    pub(crate) fn finish(&mut self, exceeded: Exceeded) -> Result<Output, Error> {
        loop {
            if let Some(output) = self.wait(PAUSE)? {
                return Ok(output);
            }
            if let Some(error) = exceeded() {
                return Err(error);
            }
        }
    }

    fn keep(&mut self, stream: usize, chunk: &[u8]) -> Result<(), Error> {
        self.heard_at = Instant::now();
        self.read[stream].extend_from_slice(chunk);
        if self.read[stream].len() > OUTPUT_BYTES_MAX {
            let (program, limit) = (self.program.display(), OUTPUT_BYTES_MAX >> 20);
            return Err(Error::failed(format!("`{program}` wrote more than {limit} MiB")));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            end(&mut self.child);
        }
    }
}

/// Ends a program at once. One that has ended is no error.
pub(super) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends on what a program writes, until its end or that of the receiver, which closes the pipe.
fn forward(
    stream: usize,
    mut from: impl Read + Send + 'static,
    to: SyncSender<(usize, Vec<u8>)>,
) -> io::Result<()> {
    let forward = move || {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(count @ 1..) if to.send((stream, chunk[..count].to_vec())).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return,
            }
        }
    };
    std::thread::Builder::new().spawn(forward).map(|_| ())
}

fn cannot_wait(program: &OsStr, error: &io::Error) -> Error {
    Error::failed(format!("cannot wait for `{}`: {}", program.display(), io_reason(error)))
}
