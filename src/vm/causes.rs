//! Hints for a QEMU that did not start: a table from its error messages to what helps. Pure.
//!
//! The messages are those of QEMU 7.2 and 10.0; `tests/cases/causes.txt` gets them from a real one.

use crate::linux::KVM_DEVICE;
use std::path::Path;

/// QEMU's message about a port of the host that it cannot forward; the rule follows in quotes.
const NO_FORWARDING: &str = "ould not set up host forwarding rule";
const NOT_FOUND: &str = "No such file or directory";

/// The facts that a hint may depend on besides QEMU's message.
pub(crate) struct Start<'a> {
    /// The directory to which paths in `cmd` are relative.
    pub(crate) dir: &'a Path,
    /// The port of this host that is forwarded to the guest's ssh server, if it has one.
    pub(crate) ssh_port: Option<u16>,
}

/// The known causes, specific ones before general ones, since the first hint is used. Each has a
/// line of texts, of which a line of QEMU's output has all (`&`) or one (`|`), and below it the
/// hint. A name in braces is a [`part`] of QEMU's line; without that part, the hint does not apply.
const CAUSES: &str = "
KVM kernel module & Permission denied
    you may not open {kvm}: let your user, or use `-accel tcg`, which is slower
KVM kernel module & No such file or directory
    there is no {kvm}: let your user, or use `-accel tcg`, which is slower
ailed to initialize kvm & busy
    another hypervisor uses the CPU: end it, or use `-accel tcg`, which is slower
KVM is not
    KVM does not work here: use `-accel tcg` and another `-cpu` than `host`; it is slower
requires KVM
    use `-cpu max`, or add `-accel kvm`
-s: & duplicate yank instance | -gdb & duplicate yank instance
    `-s` and `-gdb` can be given once, and `gdb = true` adds one: leave the others out
-s: & ddress already in use
    `-s` is port 1234, and a port has one listener: use `gdb = true` instead
ddress already in use
    `{option}` uses an address that is taken: choose another one
binding socket to & failed
    the address {address} is taken, or not an address of this host: choose another one
Failed to connect to ' & No such file or directory
    start the program that makes `{quoted}` before the VM{relative}
Failed to connect to ' & Connection refused
    start the program that listens on `{quoted}` before the VM
Failed to connect to ' & Permission denied
    let your user write to `{quoted}`, or run its program as your user
vhost_backend_init failed
    start the program behind this device's socket before the VM
vhost-vsock & failed to open vhost device & No such file or directory
    there is no /dev/vhost-vsock: `modprobe vhost_vsock` as root makes it
vhost-vsock & failed to open vhost device & Permission denied
    let your user open /dev/vhost-vsock
vhost-scsi & open vhost char device failed & No such file or directory
    there is no /dev/vhost-scsi: `modprobe vhost_scsi` as root makes it
vhost-scsi & open vhost char device failed & Permission denied
    let your user open /dev/vhost-scsi
open vhost char device failed & No such file or directory
    there is no /dev/vhost-net: `modprobe vhost_net` as root makes it
open vhost char device failed & Permission denied
    let your user open /dev/vhost-net
could not open /dev/net/tun & No such file or directory
    there is no /dev/net/tun: `modprobe tun` as root makes it
could not open /dev/net/tun & Permission denied
    let your user open /dev/net/tun
/dev/net/tun & Operation not permitted
    `ip tuntap add dev NAME mode tap user USER` as root makes the device for you
bridge helper failed
    `allow BRIDGE` in QEMU's bridge.conf lets it use the bridge
no iommu_group found
    the host's IOMMU must be on, and the device bound to vfio-pci
could not load kernel '
    is it a kernel that this QEMU can boot, and not empty?
Is another process using the image [
    `{image}` is in use: stop the QEMU that has it, and use it in one drive
Failed to get & lock
    an image is in use: stop the QEMU that has it, and use it in one drive
Image is not in & format
    `qemu-img info FILE` tells the format of an image
cannot set up guest memory
    the host does not have that much free memory: lower `-m`
Permission denied
    let your user open `{quoted}`: its owner and mode forbid it
No such file or directory | could not load | Cannot read SMBIOS file | Could not open '
    relative paths in `cmd` start from `{dir}`
KVM internal error | failed to set MSR | kvm & failed | KVM & failed | kvm & not support
    KVM does not work here: use `-accel tcg` and another `-cpu` than `host`; it is slower
";

/// Finds the hint for the first known cause in QEMU's output.
pub(crate) fn hint(said: &str, start: &Start) -> Option<String> {
    if let Some(port) = port_taken(said) {
        return Some(match port {
            _ if Some(port) == start.ssh_port => {
                format!("port {port} is taken: choose another `port`, and use it in `hostfwd`")
            }
            1..1024 => format!("port {port} is taken, or only root may use it: choose another one"),
            _ => format!("port {port} is taken: choose another one in this `hostfwd`"),
        });
    }
    let rows: Vec<&str> = CAUSES.trim().lines().map(str::trim).collect();
    let known = rows.chunks_exact(2).find_map(|row| {
        let has = |line: &str, texts: &str| texts.split(" & ").all(|text| line.contains(text));
        let mut lines =
            said.lines().filter(|line| row[0].split(" | ").any(|texts| has(line, texts)));
        lines.find_map(|line| filled(row[1], line, start))
    });
    forwarding(said).or(known)
}

/// Finds the port of this host that QEMU could not forward.
pub(crate) fn port_taken(said: &str) -> Option<u16> {
    said.lines().filter(|line| line.contains(NO_FORWARDING)).find_map(forwarded_port)
}

/// The hint for a rule with an address that QEMU does not take.
pub(crate) fn forwarding(said: &str) -> Option<String> {
    let is_address = said.contains("(Bad host address)");
    is_address.then(|| "this QEMU forwards addresses of IPv4 only, like 127.0.0.1".into())
}

/// Reads the port from a message about `hostfwd=tcp:ADDRESS:PORT-...`.
fn forwarded_port(line: &str) -> Option<u16> {
    let rule = line.split_once(NO_FORWARDING)?.1;
    rule.split_once('-')?.0.rsplit_once(':')?.1.parse().ok()
}

/// Puts the parts of a line into a hint.
fn filled(hint: &str, line: &str, start: &Start) -> Option<String> {
    let mut pieces = hint.split(['{', '}']);
    let mut filled = pieces.next()?.to_string();
    while let (Some(name), Some(text)) = (pieces.next(), pieces.next()) {
        filled += &(part(name, line, start)? + text);
    }
    Some(filled)
}

/// A part of a line by the name that [`CAUSES`] gives it. `dir` is missing if the path in the line
/// does not depend on it, or was found.
fn part(name: &str, line: &str, start: &Start) -> Option<String> {
    let dir = start.dir.display();
    Some(match name {
        "kvm" => KVM_DEVICE.to_string(),
        "option" => option(line)?.to_string(),
        "address" => line.split_once("binding socket to ")?.1.split(' ').next()?.to_string(),
        "image" => line.split_once('[')?.1.rsplit_once(']')?.0.to_string(),
        "relative" if is_absolute(quoted(line)?) => String::new(),
        "relative" => format!("; a relative path starts from `{dir}`"),
        "dir" if quoted(line).is_some_and(is_absolute) => return None,
        "dir" if line.split([' ', '=']).any(is_absolute) => return None,
        "dir" if line.contains("': ") && !line.contains(NOT_FOUND) => return None,
        "dir" => dir.to_string(),
        _ => quoted(line)?.to_string(),
    })
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && path.len() > 1
}

/// The last quoted part of a line.
fn quoted(line: &str) -> Option<&str> {
    let (before, _) = line.rsplit_once('\'')?;
    Some(before.rsplit_once('\'')?.1)
}

/// The option in a message such as `qemu-system-x86_64: -vnc :7: Failed ...`.
fn option(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(": -")?;
    let (words, _) = rest.split_once(": ")?;
    let start = line.len() - rest.len() - 1;
    Some(&line[start..start + 1 + words.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of a real QEMU 7.2, and how the hint for each begins.
    const SAID: &[(&str, &str)] = &[
        (
            "Could not set up host forwarding rule 'tcp::2222-:22'",
            "port 2222 is taken: choose another `port`, and",
        ),
        (
            "Could not set up host forwarding rule 'tcp:127.0.0.1:8080-:80'",
            "port 8080 is taken: choose another one in this",
        ),
        ("could not set up host forwarding rule 'tcp::80-:80'", "port 80 is taken, or only root"),
        (
            "Could not access KVM kernel module: Permission denied\nq: -accel kvm: failed to initialize kvm: Permission denied",
            "you may not open /dev/kvm",
        ),
        ("Could not access KVM kernel module: No such file or directory", "there is no /dev/kvm"),
        (
            "ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy\nq: failed to initialize kvm: Device or resource busy",
            "another hypervisor",
        ),
        (
            "q: error: failed to set MSR 0x10a to 0x69\nq: ../../target/i386/kvm/kvm.c:3183: kvm_buf_set_msrs: Assertion `ret == cpu->kvm_msr_buf->nmsrs' failed.",
            "KVM does not work here",
        ),
        (
            "q: kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument",
            "KVM does not work here",
        ),
        ("q: CPU model 'host' requires KVM or HVF", "use `-cpu max`"),
        ("q: -s: duplicate yank instance", "`-s` and `-gdb` can be given once"),
        ("q: -gdb tcp::1234: duplicate yank instance", "`-s` and `-gdb` can be given once"),
        ("q: -s: Failed to find an available port: Address already in use", "`-s` is port 1234"),
        (
            "q: -vnc :7: Failed to find an available port: Address already in use",
            "`-vnc :7` uses an address",
        ),
        (
            "q: -netdev socket,id=n,listen=127.0.0.1:5: can't bind ip=127.0.0.1 to socket: Address already in use",
            "`-netdev socket,id=n,listen=127.0.0.1:5` uses",
        ),
        (
            "q: warning: Spice: ../server/reds.cpp:2585:reds_init_socket: binding socket to 127.0.0.1:58080 failed",
            "the address 127.0.0.1:58080",
        ),
        (
            "q: -chardev socket,id=c,path=vfs.sock: Failed to connect to 'vfs.sock': No such file or directory",
            "start the program that makes `vfs.sock` before the VM; a relative path starts from `/p`",
        ),
        (
            "q: -chardev socket,id=c,path=/r/t: Failed to connect to '/r/t': No such file or directory",
            "start the program that makes `/r/t` before the VM",
        ),
        (
            "q: -chardev socket,id=t,path=t: Failed to connect to 't': Connection refused",
            "start the program that listens on `t`",
        ),
        (
            "q: -chardev socket,id=c,path=/t: Failed to connect to '/t': Permission denied",
            "let your user write to `/t`",
        ),
        (
            "q: -device vhost-user-fs-pci,chardev=c,tag=x: vhost_backend_init failed: Protocol error",
            "start the program behind",
        ),
        (
            "q: -device vhost-vsock-pci,guest-cid=3: vhost-vsock: failed to open vhost device: No such file or directory",
            "there is no /dev/vhost-vsock: `modprobe vhost_vsock`",
        ),
        (
            "q: warning: tap: open vhost char device failed: Permission denied",
            "let your user open /dev/vhost-net",
        ),
        (
            "q: -netdev tap,id=n: could not open /dev/net/tun: Permission denied",
            "let your user open /dev/net/tun",
        ),
        (
            "q: Failed to get \"write\" lock\nIs another process using the image [a b.img]?",
            "`a b.img` is in use",
        ),
        ("q: -drive file=a.img: Failed to get \"write\" lock", "an image is in use"),
        (
            "q: -drive file=/etc/shadow,format=raw: Could not open '/etc/shadow': Permission denied",
            "let your user open `/etc/shadow`",
        ),
        (
            "q: -drive file=a: Could not open 'a': No such file or directory",
            "relative paths in `cmd` start from `/p`",
        ),
        (
            "q: can't open backing store nodir/x for guest RAM: No such file or directory",
            "relative paths",
        ),
        ("qemu: could not load PC BIOS 'b'", "relative paths"),
        ("q: -kernel k: Could not open 'k'", "relative paths"),
    ];

    #[test]
    fn the_words_of_a_real_qemu() {
        let start = Start { dir: Path::new("/p"), ssh_port: Some(2222) };
        for (said, expected) in SAID {
            let hint = hint(said, &start).unwrap_or_default();
            assert!(hint.starts_with(expected), "{said}: {hint}");
        }
    }

    /// Lines that are similar to those above, but to which the hints do not apply.
    #[test]
    fn other_causes_get_no_hint() {
        let start = Start { dir: Path::new("/p"), ssh_port: Some(2222) };
        for said in [
            "q: -serial /dev/ttyUSB9: Could not open '/dev/ttyUSB9': No such file or directory",
            "q: can't open backing store /dev/hugepages/x for guest RAM: No such file or directory",
            "q: -drive file=a: Could not open 'a': Is a directory",
            "q: -accel kvm:tcg: invalid accelerator kvm:tcg",
            "q: -foo: invalid option",
            "",
        ] {
            assert_eq!(hint(said, &start), None, "{said}");
        }
    }
}
