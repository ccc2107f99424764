//! TRUSTED CORE: runs `ssh` repeatedly to see whether a guest's server answers through
//! `ProxyCommand` or `ProxyJump`, and ends it when the answer is no longer needed.

use crate::text::sanitized;
use std::io::Read as _;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The message of OpenSSH's `-v` once the server has introduced itself.
const ANSWERED: &str = "Remote protocol version ";
/// The prefix of the messages that `-v` adds to ssh's own.
const VERBOSE: &str = "debug1: ";
const SAID_BYTES_MAX: usize = 256 * 1024;
/// The time in which the last output of ssh arrives after its end. A proxy may hold the pipe for
/// longer.
const LAST_WAIT: Duration = Duration::from_millis(200);
/// The timeout of ssh as a part of the time since the start. It is limited because a connection
/// that the guest missed is lost.
const PATIENCE_PART: f64 = 0.6;
const PATIENCE_SECONDS: (u64, u64) = (2, 12);
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct Questions<F> {
    /// Makes the command that asks the server, from its timeout in seconds.
    command: F,
    running: Option<(Child, Receiver<Vec<u8>>)>,
    begin: Instant,
    next_at: Instant,
    trouble: Option<String>,
}

impl<F: Fn(u64) -> Command> Questions<F> {
    pub(crate) fn new(command: F) -> Self {
        let begin = Instant::now();
        Self { command, running: None, begin, next_at: begin, trouble: None }
    }

    /// Whether the server has introduced itself; asks again when it is time to.
    pub(crate) fn has_answered(&mut self) -> bool {
        if let Some((child, _)) = &mut self.running {
            if !matches!(child.try_wait(), Ok(None)) {
                self.next_at = Instant::now() + PAUSE;
                return self.ended();
            }
        } else if Instant::now() >= self.next_at {
            self.ask();
        }
        false
    }

    /// The last error message of ssh.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.clone()
    }

    fn ask(&mut self) {
        let (least, most) = PATIENCE_SECONDS;
        let patience = self.begin.elapsed().mul_f64(PATIENCE_PART).as_secs().clamp(least, most);
        let mut command = (self.command)(patience);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(mut child) => {
                let (sender, said) = mpsc::channel();
                if let Some(stderr) = child.stderr.take() {
                    thread::spawn(move || send_all(stderr, &sender));
                }
                self.running = Some((child, said));
            }
            Err(error) => {
                self.trouble = Some(format!("cannot run `ssh`: {error}"));
                self.next_at = Instant::now() + PAUSE;
            }
        }
    }

    fn ended(&mut self) -> bool {
        let Some((_, chunks)) = self.running.take() else { return false };
        let mut said = Vec::new();
        while let Ok(chunk) = chunks.recv_timeout(LAST_WAIT)
            && said.len() < SAID_BYTES_MAX
        {
            said.extend(chunk);
        }
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines().rev().map(str::trim);
        let last = lines.find(|line| !line.is_empty() && !line.starts_with(VERBOSE));
        self.trouble = last.map(|line| format!("`ssh` says: {}", sanitized(line)));
        said.contains(ANSWERED)
    }
}

impl<F> Drop for Questions<F> {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn send_all(mut stderr: ChildStderr, sender: &Sender<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut chunk)
        && sender.send(chunk[..count].to_vec()).is_ok()
    {}
}
