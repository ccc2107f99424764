//! Finds the TCP ports of this host on which QEMU serves somebody else than the guest: a debugger,
//! a display, a character device. Pure; forwarded ports are in [`super::forward`].

use super::options::{Argument, Pairs};
use crate::source::Span;

/// The port of a debugger for `-s`.
const GDB_PORT: u16 = 1234;
/// The port of display 0 in VNC (RFC 6143).
const VNC_PORT: u16 = 5900;
/// The protocols of a character device that are TCP, in the short form of `-serial` and others.
pub(super) const PROTOCOLS: &[&str] = &["tcp", "telnet", "websocket"];
const LOCAL: &str = "127.0.0.1";

/// A port on which QEMU listens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// The place of its word.
    pub(crate) word: Span,
    /// The option as it is written.
    pub(crate) option: String,
    pub(crate) port: u16,
    /// The option that listens on 127.0.0.1, if this one names no address and so listens on all
    /// interfaces.
    pub(crate) local: Option<String>,
}

/// The ports of all arguments, in order.
pub(crate) fn listeners(arguments: &[Argument]) -> Vec<Listener> {
    let known = arguments.iter().filter(|argument| !argument.is_expanded);
    let of_one = |argument: &Argument| {
        let Argument { name, value, span, .. } = argument;
        let (port, local) = match name.as_str() {
            "s" => (GDB_PORT, Some(format!("gdb tcp:{LOCAL}:{GDB_PORT}"))),
            "gdb" => short_form(value, false)?,
            "serial" | "parallel" | "debugcon" => short_form(value, true)?,
            "vnc" => vnc(value)?,
            "display" => vnc(value.strip_prefix("vnc=")?)?,
            "chardev" => chardev(value)?,
            "spice" => spice(value)?,
            _ => return None,
        };
        let option = format!("-{name} {value}").trim_end().to_string();
        let local = local.map(|text| match name.as_str() {
            "s" => format!("-{text}"),
            "display" => format!("-display vnc={text}"),
            _ => format!("-{name} {text}"),
        });
        Some(Listener { word: *span, option, port, local })
    };
    known.filter_map(of_one).collect()
}

/// A port, and the value that listens on 127.0.0.1 if none is named.
type Found = (u16, Option<String>);

/// Reads `PROTOCOL:[HOST]:PORT[,OPTIONS]`. A client connects elsewhere.
fn short_form(value: &str, may_be_client: bool) -> Option<Found> {
    let (protocol, rest) = value.split_once(':')?;
    let address = rest.split(',').next()?;
    let (host, port) = address.rsplit_once(':')?;
    let mut options = rest.split(',').skip(1);
    let is_server = options.any(|option| ["server", "server=on"].contains(&option));
    if !PROTOCOLS.contains(&protocol) || may_be_client && !is_server {
        return None;
    }
    let local = host.is_empty().then(|| format!("{protocol}:{LOCAL}{rest}"));
    Some((port.parse().ok()?, local))
}

/// Reads `[HOST]:DISPLAY[,OPTIONS]`. With `to`, QEMU looks for a free port.
fn vnc(value: &str) -> Option<Found> {
    let pairs = Pairs::parse(value, "vnc");
    let (host, display) = pairs.get("vnc")?.rsplit_once(':')?;
    let is_elsewhere = host == "unix" || pairs.is_on("reverse") || pairs.get("to").is_some();
    let port = display.parse::<u16>().ok().filter(|_| !is_elsewhere)?.checked_add(VNC_PORT)?;
    Some((port, host.is_empty().then(|| format!("{LOCAL}{value}"))))
}

fn chardev(value: &str) -> Option<Found> {
    let pairs = Pairs::parse(value, "backend");
    let port = pairs.get("port")?.parse().ok()?;
    let serves = pairs.get("backend") == Some("socket") && pairs.is_on("server");
    let open = || pairs.get("host").is_none_or(str::is_empty);
    serves.then(|| (port, open().then(|| format!("{value},host={LOCAL}"))))
}

fn spice(value: &str) -> Option<Found> {
    let pairs = Pairs::parse(value, "");
    let port = pairs.get("port").or(pairs.get("tls-port"))?.parse().ok()?;
    let open = || pairs.get("addr").is_none_or(str::is_empty);
    (!pairs.is_on("unix")).then(|| (port, open().then(|| format!("{value},addr={LOCAL}"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::options::arguments_of;

    #[test]
    fn ports_and_addresses() {
        for (line, expected) in [
            ("-s", Some((1234, "-gdb tcp:127.0.0.1:1234"))),
            ("-gdb tcp::4", Some((4, "-gdb tcp:127.0.0.1:4"))),
            ("-gdb tcp:localhost:4", Some((4, ""))),
            ("-gdb unix:x,server=on", None),
            ("-gdb stdio", None),
            ("-vnc :1", Some((5901, "-vnc 127.0.0.1:1"))),
            ("-vnc :1,password=on", Some((5901, "-vnc 127.0.0.1:1,password=on"))),
            ("-vnc 0.0.0.0:1", Some((5901, ""))),
            ("-vnc :1,to=9", None),
            ("-vnc unix:x", None),
            ("-vnc none", None),
            ("-display vnc=:2", Some((5902, "-display vnc=127.0.0.1:2"))),
            ("-display none", None),
            (
                "-spice port=59,disable-ticketing=on",
                Some((59, "-spice port=59,disable-ticketing=on,addr=127.0.0.1")),
            ),
            ("-spice port=59,addr=127.0.0.1", Some((59, ""))),
            ("-spice unix=on,addr=x", None),
            (
                "-serial telnet::4,server,nowait",
                Some((4, "-serial telnet:127.0.0.1:4,server,nowait")),
            ),
            ("-serial tcp:host:4", None),
            ("-serial tcp:127.0.0.1:4,server=on", Some((4, ""))),
            (
                "-chardev socket,id=c,port=4,server=on",
                Some((4, "-chardev socket,id=c,port=4,server=on,host=127.0.0.1")),
            ),
            ("-chardev socket,id=c,host=::1,port=4,server", Some((4, ""))),
            ("-chardev socket,id=c,host=h,port=4", None),
            ("-chardev udp,id=c,port=4", None),
        ] {
            let arguments = arguments_of(std::iter::once("qemu").chain(line.split(' ')));
            let found = listeners(&arguments);
            let found =
                found.first().map(|one| (one.port, one.local.as_deref().unwrap_or_default()));
            assert_eq!(found, expected, "{line}");
        }
    }
}
