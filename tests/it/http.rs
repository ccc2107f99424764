//! A server of one file over HTTP on loopback, with the faults that servers have.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// The size of a piece, so that a fault comes in the middle of a client's reading.
const CHUNK_BYTES: usize = 16 * 1024;
const STALL: Duration = Duration::from_secs(60);

/// The behaviour of the server.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) content: Arc<Vec<u8>>,
    /// It closes the connection after this many bytes of a body.
    pub(crate) cut_after: Option<usize>,
    /// It sends nothing after this many bytes, until the client goes away.
    pub(crate) stall_after: Option<usize>,
    /// It does not support ranges: it always sends the whole file.
    pub(crate) without_ranges: bool,
    /// It does not say how long the file is.
    pub(crate) without_length: bool,
    pub(crate) missing: bool,
}

/// The requests that the server got.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Where each body began.
    pub(crate) gets: Vec<usize>,
    pub(crate) bytes_sent: usize,
}

#[derive(Default)]
struct State {
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Seen>,
    sent_more: Condvar,
}

/// A server for as long as the process lives.
pub(crate) struct Server {
    port: u16,
    state: Arc<State>,
}

impl Server {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        state.behaviour.lock().unwrap().content = Arc::new(content);
        let of_server = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_server);
                // A client may go away at any time.
                thread::spawn(move || drop(answer(stream, &state)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/disk.img", self.port)
    }

    /// The hash of the file.
    pub(crate) fn length(&self) -> usize {
        self.state.behaviour.lock().unwrap().content.len()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.state.behaviour.lock().unwrap());
    }

    pub(crate) fn seen(&self) -> Seen {
        self.state.seen.lock().unwrap().clone()
    }

    /// Waits until this many bytes of bodies have been sent in all.
    pub(crate) fn wait_for_bytes(&self, count: usize) {
        let seen = self.state.seen.lock().unwrap();
        let waited =
            self.state.sent_more.wait_timeout_while(seen, STALL, |seen| seen.bytes_sent < count);
        assert!(!waited.unwrap().1.timed_out(), "the client does not read");
    }
}

fn answer(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut method, mut start) = (String::new(), None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.trim_end().to_ascii_lowercase();
        if method.is_empty() {
            method = lower.split(' ').next().unwrap_or_default().to_string();
        } else if let Some(range) = lower.strip_prefix("range: bytes=") {
            start = range.split('-').next().and_then(|start| start.parse::<usize>().ok());
        } else if lower.is_empty() {
            break;
        }
    }
    let behaviour = state.behaviour.lock().unwrap().clone();
    respond(stream, state, &behaviour, &method, start.filter(|_| !behaviour.without_ranges))
}

fn respond(
    mut stream: TcpStream,
    state: &State,
    behaviour: &Behaviour,
    method: &str,
    start: Option<usize>,
) -> std::io::Result<()> {
    let length = behaviour.content.len();
    let (status, body) = match start {
        _ if behaviour.missing => ("404 Not Found", &[][..]),
        Some(start) if start >= length => ("416 Range Not Satisfiable", &[][..]),
        Some(start) => ("206 Partial Content", &behaviour.content[start..]),
        None => ("200 OK", &behaviour.content[..]),
    };
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\n")?;
    if !behaviour.without_length {
        write!(stream, "Content-Length: {}\r\n", body.len())?;
    }
    if let Some(start) = start.filter(|start| *start < length) {
        write!(stream, "Content-Range: bytes {start}-{}/{length}\r\n", length - 1)?;
    }
    stream.write_all(b"\r\n")?;
    if method == "head" {
        return Ok(());
    }
    state.seen.lock().unwrap().gets.push(start.unwrap_or(0));
    let mut sent = 0;
    for chunk in body.chunks(CHUNK_BYTES) {
        if behaviour.cut_after.is_some_and(|limit| sent >= limit) {
            return Ok(());
        }
        if behaviour.stall_after.is_some_and(|limit| sent >= limit) {
            stream.set_read_timeout(Some(STALL))?;
            // This returns when the client closes the connection.
            std::io::Read::read(&mut stream, &mut [0])?;
            return Ok(());
        }
        stream.write_all(chunk)?;
        sent += chunk.len();
        state.seen.lock().unwrap().bytes_sent += chunk.len();
        state.sent_more.notify_all();
    }
    Ok(())
}
