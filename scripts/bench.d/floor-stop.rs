//! The floor of `qqmgr stop`: `floor-stop VM_DIR` sends `system_powerdown` to the VM and ends when
//! its process is gone.

use std::fs;
use std::io::{Read as _, Result, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PAUSE: Duration = Duration::from_micros(200);

/// Without a parent that reaps it, an ended process stays as a zombie.
fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).expect("VM_DIR");
    let pid = fs::read_to_string(format!("{dir}/pid"))?;
    let mut stream = UnixStream::connect(format!("{dir}/qmp.socket"))?;
    let mut chunk = [0; 4096];
    assert!(stream.read(&mut chunk)? > 0, "no greeting");
    stream
        .write_all(b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"system_powerdown\"}\n")?;
    // Events and replies, until QEMU closes the connection or resets it.
    while stream.read(&mut chunk).is_ok_and(|count| count > 0) {}
    while !is_gone(pid.trim()) {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
