//! Hints for a QEMU that did not start: a table from its error messages to what helps. Pure.
//!
//! The messages are those of QEMU 7.2 and 10.0; `tests/cases/causes.txt` gets them from a real one.

use crate::linux::KVM_DEVICE;
use std::path::Path;

/// QEMU's message about a port of the host that it cannot forward; the rule follows in quotes.
const NO_FORWARDING: &str = "ould not set up host forwarding rule";
const NOT_FOUND: &str = "No such file or directory";
const NOT_PERMITTED: &str = "Permission denied";

/// The facts that a hint may depend on besides QEMU's message.
pub(crate) struct Start<'a> {
    /// The directory to which paths in `cmd` are relative.
    pub(crate) dir: &'a Path,
    /// The port of this host that is forwarded to the guest's ssh server, if it has one.
    pub(crate) ssh_port: Option<u16>,
}

/// One cause: substrings that a line of QEMU's output contains, all of them, and the hint. The
/// function returns `None` for a matching line to which its hint does not apply; later rows are
/// tried then.
struct Cause(&'static [&'static str], fn(&str, &Start) -> Option<String>);

/// The known causes, specific ones before general ones, since the first hint is used.
const CAUSES: &[Cause] = &[
    Cause(&[NO_FORWARDING], |line, start| {
        let port = forwarded_port(line)?;
        Some(match port {
            _ if Some(port) == start.ssh_port => {
                format!("port {port} is taken: choose another `port`, and use it in `hostfwd`")
            }
            1..1024 => format!("port {port} is taken, or only root may use it: choose another one"),
            _ => format!("port {port} is taken: choose another one in this `hostfwd`"),
        })
    }),
    Cause(&["host forwarding rule"], |line, _| forwarding(line)),
    Cause(&["KVM kernel module", NOT_PERMITTED], |_, _| Some(no_kvm("you may not open"))),
    Cause(&["KVM kernel module", NOT_FOUND], |_, _| Some(no_kvm("there is no"))),
    Cause(&["ailed to initialize kvm", "busy"], |_, _| {
        Some("another hypervisor uses the CPU: end it, or use `-accel tcg`, which is slower".into())
    }),
    Cause(&["KVM is not"], |_, _| Some(broken_kvm())),
    Cause(&["requires KVM"], |_, _| Some("use `-cpu max`, or add `-accel kvm`".into())),
    Cause(&["duplicate yank instance"], |line, _| {
        let is_gdb = line.contains("-s:") || line.contains("-gdb ");
        let once = "`-s` and `-gdb` can be given once, and `gdb = true` adds one";
        is_gdb.then(|| format!("{once}: leave the others out"))
    }),
    Cause(&["-s: ", "ddress already in use"], |_, _| {
        Some("`-s` is port 1234, and a port has one listener: use `gdb = true` instead".into())
    }),
    Cause(&[": ", "ddress already in use"], |line, _| {
        let option = option(line)?;
        Some(format!("`{option}` uses an address that is taken: choose another one"))
    }),
    Cause(&["binding socket to ", " failed"], |line, _| {
        let address = line.split_once("binding socket to ")?.1.split(' ').next()?;
        Some(format!(
            "the address {address} is taken, or not an address of this host: choose another one"
        ))
    }),
    Cause(&["Failed to connect to '", NOT_FOUND], |line, start| {
        let socket = quoted(line)?;
        let relative = if is_relative(socket) {
            format!("; a relative path starts from `{}`", start.dir.display())
        } else {
            String::new()
        };
        Some(format!("start the program that makes `{socket}` before the VM{relative}"))
    }),
    Cause(&["Failed to connect to '", "Connection refused"], |line, _| {
        let address = quoted(line)?;
        Some(format!("start the program that listens on `{address}` before the VM"))
    }),
    Cause(&["Failed to connect to '", NOT_PERMITTED], |line, _| {
        let socket = quoted(line)?;
        Some(format!("let your user write to `{socket}`, or run its program as your user"))
    }),
    Cause(&["vhost_backend_init failed"], |_, _| {
        Some("start the program behind this device's socket before the VM".into())
    }),
    Cause(&["vhost-vsock", "failed to open vhost device"], |line, _| {
        device("/dev/vhost-vsock", "vhost_vsock", line)
    }),
    Cause(&["vhost-scsi", "open vhost char device failed"], |line, _| {
        device("/dev/vhost-scsi", "vhost_scsi", line)
    }),
    Cause(&["open vhost char device failed"], |line, _| {
        device("/dev/vhost-net", "vhost_net", line)
    }),
    Cause(&["could not open /dev/net/tun"], |line, _| device("/dev/net/tun", "tun", line)),
    Cause(&["/dev/net/tun", "Operation not permitted"], |_, _| {
        Some("`ip tuntap add dev NAME mode tap user USER` as root makes the device for you".into())
    }),
    Cause(&["bridge helper failed"], |_, _| {
        Some("`allow BRIDGE` in QEMU's bridge.conf lets it use the bridge".into())
    }),
    Cause(&["no iommu_group found"], |_, _| {
        Some("the host's IOMMU must be on, and the device bound to vfio-pci".into())
    }),
    Cause(&["could not load kernel '"], |_, _| {
        Some("is it a kernel that this QEMU can boot, and not empty?".into())
    }),
    Cause(&["Is another process using the image ["], |line, _| {
        let image = line.split_once('[')?.1.rsplit_once(']')?.0;
        Some(format!("`{image}` is in use: stop the QEMU that has it, and use it in one drive"))
    }),
    Cause(&["Failed to get ", " lock"], |_, _| {
        Some("an image is in use: stop the QEMU that has it, and use it in one drive".into())
    }),
    Cause(&["Image is not in ", " format"], |_, _| {
        Some("`qemu-img info FILE` tells the format of an image".into())
    }),
    Cause(&["cannot set up guest memory"], |_, _| {
        Some("the host does not have that much free memory: lower `-m`".into())
    }),
    Cause(&[NOT_PERMITTED], |line, _| {
        let file = quoted(line)?;
        Some(format!("let your user open `{file}`: its owner and mode forbid it"))
    }),
    Cause(&[NOT_FOUND], relative_paths),
    Cause(&["could not load "], relative_paths),
    Cause(&["Cannot read SMBIOS file "], relative_paths),
    Cause(&["Could not open '"], |line, start| match line.rsplit_once("': ") {
        Some(_) => None,
        None => relative_paths(line, start),
    }),
    // On a host that is itself a guest, KVM can often be opened, and then fails in one of many
    // ways.
    Cause(&["kvm", "failed"], |_, _| Some(broken_kvm())),
    Cause(&["KVM", "failed"], |_, _| Some(broken_kvm())),
    Cause(&["KVM internal error"], |_, _| Some(broken_kvm())),
    Cause(&["failed to set MSR"], |_, _| Some(broken_kvm())),
    Cause(&["kvm", "not support"], |_, _| Some(broken_kvm())),
];

/// Finds the hint for the first known cause in QEMU's output.
pub(crate) fn hint(said: &str, start: &Start) -> Option<String> {
    CAUSES.iter().find_map(|Cause(words, hint)| {
        let mut lines = said.lines().filter(|line| words.iter().all(|words| line.contains(words)));
        lines.find_map(|line| hint(line, start))
    })
}

/// Finds the port of this host that QEMU could not forward.
pub(crate) fn port_taken(said: &str) -> Option<u16> {
    said.lines().filter(|line| line.contains(NO_FORWARDING)).find_map(forwarded_port)
}

/// The hint for a rule with an address that QEMU does not take.
pub(crate) fn forwarding(line: &str) -> Option<String> {
    let is_address = line.contains("(Bad host address)");
    is_address.then(|| "this QEMU forwards addresses of IPv4 only, like 127.0.0.1".into())
}

/// Reads the port from a message about `hostfwd=tcp:ADDRESS:PORT-...`.
fn forwarded_port(line: &str) -> Option<u16> {
    let rule = line.split_once(NO_FORWARDING)?.1;
    rule.split_once('-')?.0.rsplit_once(':')?.1.parse().ok()
}

fn no_kvm(why: &str) -> String {
    format!("{why} {KVM_DEVICE}: let your user, or use `-accel tcg`, which is slower")
}

fn broken_kvm() -> String {
    "KVM does not work here: use `-accel tcg` and another `-cpu` than `host`; it is slower".into()
}

/// The hint for a device that the kernel makes when its module is loaded.
fn device(path: &str, module: &str, line: &str) -> Option<String> {
    if line.contains(NOT_FOUND) {
        return Some(format!("there is no {path}: `modprobe {module}` as root makes it"));
    }
    line.contains(NOT_PERMITTED).then(|| format!("let your user open {path}"))
}

/// The hint about relative paths; `None` if the line has an absolute path.
fn relative_paths(line: &str, start: &Start) -> Option<String> {
    let is_absolute = quoted(line).is_some_and(|path| !is_relative(path))
        || line.split([' ', '=']).any(|word| word.starts_with('/') && word.len() > 1);
    (!is_absolute).then(|| format!("relative paths in `cmd` start from `{}`", start.dir.display()))
}

fn is_relative(path: &str) -> bool {
    !path.starts_with('/')
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
