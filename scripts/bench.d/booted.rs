//! `booted VM_DIR` waits until the VM executes its boot sector, which lies at 0x7c00.

use std::io::{BufRead as _, BufReader, Result, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(5);
const REGISTERS: &[u8] = b"{\"execute\": \"human-monitor-command\", \
    \"arguments\": {\"command-line\": \"info registers\"}}\n";

fn main() -> Result<()> {
    let dir = std::env::args().nth(1).expect("VM_DIR");
    let stream = UnixStream::connect(format!("{dir}/qmp.socket"))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut stream = stream;
    stream.write_all(b"{\"execute\": \"qmp_capabilities\"}\n")?;
    stream.write_all(REGISTERS)?;
    while let Some(line) = lines.next().transpose()? {
        if line.contains("EIP=00007c") {
            return Ok(());
        }
        if line.contains("EIP=") {
            std::thread::sleep(PAUSE);
            stream.write_all(REGISTERS)?;
        }
    }
    panic!("QEMU has ended");
}
