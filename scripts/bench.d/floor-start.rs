//! The floor of `qqmgr start`: `floor-start SOCKET QEMU...` starts QEMU and ends when it greets on
//! its QMP socket.

use std::io::{Read as _, Result};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

const PAUSE: Duration = Duration::from_micros(200);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, program, rest @ ..] = arguments.as_slice() else { panic!("SOCKET QEMU...") };
    let mut qemu = Command::new(program);
    qemu.args(rest).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = qemu.stderr(Stdio::null()).spawn()?;
    loop {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            let count = stream.read(&mut [0; 4096])?;
            assert!(count > 0, "no greeting");
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            panic!("QEMU: {status}");
        }
        std::thread::sleep(PAUSE);
    }
}
