//! The sockets of QEMU, by its arguments: the TCP ports of this host on which it serves somebody
//! else than the guest (a debugger, a display, a character device), and the sockets of other
//! programs to which it connects when it starts. Pure; forwarded ports are in [`super::forward`].

use super::named::images;
use super::options::Argument;
use crate::source::Span;
use std::net::IpAddr;

/// The port of a debugger for `-s`.
const GDB_PORT: u16 = 1234;
/// The port of display 0 in VNC (RFC 6143).
const VNC_PORT: u16 = 5900;
/// The protocols of a character device that are TCP, in the short form of `-serial` and others.
const PROTOCOLS: &[&str] = &["tcp", "telnet", "websocket"];
const LOCAL: &str = "127.0.0.1";
/// The options of a client that tries again, so that its server may come later.
const RETRIES: &[&str] = &["reconnect", "reconnect-ms", "open-timeout"];
/// The protocols of images, each with the port of a name that has none.
pub(crate) const SCHEMES: &[(&str, u16)] = &[
    ("nbd", 10809),
    ("nbd+tcp", 10809),
    ("http", 80),
    ("https", 443),
    ("ftp", 21),
    ("ssh", 22),
    ("iscsi", 3260),
];

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
    arguments.iter().filter(|argument| !argument.is_expanded).filter_map(listener).collect()
}

fn listener(argument: &Argument) -> Option<Listener> {
    let Argument { name, value, span, .. } = argument;
    let option = format!("-{name} {value}").trim_end().to_string();
    // The address, the port, and the option with an address if it has none.
    let (host, port, local) = match name.as_str() {
        "s" => ("", GDB_PORT, format!("-gdb tcp:{LOCAL}:{GDB_PORT}")),
        "gdb" | "serial" | "parallel" | "debugcon" => {
            let (host, port) = short_form(value, name != "gdb")?;
            (host, port, option.replacen("::", &format!(":{LOCAL}:"), 1))
        }
        "vnc" | "display" => {
            let (host, port) = vnc(argument)?;
            (host, port, option.replacen(':', &format!("{LOCAL}:"), 1))
        }
        "chardev" if argument.first() == "socket" && argument.is_on("server") => {
            let host = argument.get("host").unwrap_or_default();
            (host, argument.get("port")?.parse().ok()?, format!("{option},host={LOCAL}"))
        }
        "spice" if !argument.is_on("unix") => {
            let host = argument.get("addr").unwrap_or_default();
            let port = argument.get("port").or(argument.get("tls-port"))?;
            (host, port.parse().ok()?, format!("{option},addr={LOCAL}"))
        }
        _ => return None,
    };
    let local = host.is_empty().then_some(local);
    Some(Listener { word: *span, option, port, local })
}

/// Reads `PROTOCOL:[HOST]:PORT[,OPTIONS]`. A client connects elsewhere.
fn short_form(value: &str, may_be_client: bool) -> Option<(&str, u16)> {
    let (protocol, rest) = value.split_once(':')?;
    let mut parts = rest.split(',');
    let (host, port) = parts.next()?.rsplit_once(':')?;
    let serves = !may_be_client || parts.any(|option| ["server", "server=on"].contains(&option));
    let port = port.parse().ok()?;
    (PROTOCOLS.contains(&protocol) && serves).then_some((host, port))
}

/// Reads `[HOST]:DISPLAY[,OPTIONS]`. With `to`, QEMU looks for a free port.
fn vnc(argument: &Argument) -> Option<(&str, u16)> {
    let (host, display) = argument.get("vnc")?.rsplit_once(':')?;
    let is_elsewhere = host == "unix" || argument.is_on("reverse") || argument.get("to").is_some();
    let display = display.parse::<u16>().ok().filter(|_| !is_elsewhere)?;
    Some((host, display.checked_add(VNC_PORT)?))
}

/// A socket on which another program must listen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The path of a Unix socket.
    Path(String),
    /// A TCP port of this host, and the address as QEMU's messages have it.
    Port(u16, String),
}

/// A connection that QEMU makes.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) server: Server,
    /// The place of its word.
    pub(crate) span: Span,
    /// Whether QEMU tries again until the server is there.
    pub(crate) is_retried: bool,
}

/// The connections that QEMU makes, except those to other hosts.
pub(crate) fn connected(arguments: &[Argument]) -> Vec<Connection> {
    let known = arguments.iter().filter(|argument| !argument.is_expanded);
    let of_one = |argument: &Argument| {
        let span = argument.span;
        let is_retried = argument.pairs.iter().any(|(key, value)| {
            value != "0" && RETRIES.contains(&key.rsplit('.').next().unwrap_or_default())
        });
        let images = images(std::slice::from_ref(argument)).into_iter();
        let mut servers = servers(argument);
        servers.extend(images.filter_map(|(image, _)| of_image(&image.name)));
        servers.retain(|server| !matches!(server, Server::Path(path) if path.is_empty()));
        servers.into_iter().map(move |server| Connection { server, span, is_retried })
    };
    known.flat_map(of_one).collect()
}

/// The servers of one argument, according to qemu-options.hx and the QAPI schema.
fn servers(argument: &Argument) -> Vec<Server> {
    let path = |key: &str| argument.get(key).map(|path| Server::Path(path.into()));
    let at = |prefix: &str| {
        let get = |key: &str| argument.get(&format!("{prefix}{key}"));
        path(&format!("{prefix}path")).or_else(|| tcp(get("host")?, get("port")?))
    };
    let (listens, is_reverse) = (argument.is_on("server"), argument.is_on("reverse"));
    let found = match (argument.name.as_str(), argument.first()) {
        ("chardev", "socket") if !listens && !argument.is_on("abstract") => at(""),
        ("netdev" | "nic" | "net", "stream") if !listens => at("addr."),
        ("netdev" | "nic" | "net", "socket") => argument.get("connect").and_then(address),
        ("netdev" | "nic" | "net", "vde") => {
            let dir = |sock: &str| sock.strip_prefix("vde://").unwrap_or(sock).to_string();
            argument.get("sock").map(|sock| Server::Path(dir(sock) + "/ctl"))
        }
        ("netdev" | "nic" | "net", "user") => {
            let rules = argument.pairs.iter().filter(|(key, _)| key.starts_with("guestfwd"));
            return rules.filter_map(|(_, rule)| short(rule.split_once('-')?.1)).collect();
        }
        ("serial" | "parallel" | "debugcon" | "qmp-pretty", first) if !listens => short(first),
        // QEMU itself listens on a port.
        ("gdb", first) if !listens && first.starts_with("unix:") => short(first),
        ("vnc" | "display", _) if is_reverse => {
            argument.get("vnc").and_then(|it| short(it).or(address(it)))
        }
        ("object", "pr-manager-helper") => at(""),
        ("fsdev" | "virtfs", "proxy") => path("socket"),
        ("device", _) => path("socket").or_else(|| path("socket.path")),
        ("drive" | "blockdev", _) => {
            let prefixes = argument.pairs.iter().filter_map(|(key, value)| {
                let (node, last) = key.rsplit_once('.').unwrap_or(("", key));
                let is_server = ["path", "host"].contains(&last) && node.ends_with("server");
                let is_nbd = last == "driver" && value == "nbd";
                let dot = if node.is_empty() { "" } else { "." };
                (is_server || is_nbd).then(|| format!("{node}{dot}"))
            });
            return prefixes.filter_map(|prefix| at(&prefix)).collect();
        }
        _ => None,
    };
    found.into_iter().collect()
}

/// A port, if it is one of this host.
fn tcp(host: &str, port: &str) -> Option<Server> {
    let host = host.trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    let number = port.parse().ok().filter(|_| is_here)?;
    Some(Server::Port(number, format!("{host}:{port}")))
}

/// Reads `HOST:PORT`.
fn address(text: &str) -> Option<Server> {
    let (host, port) = text.rsplit_once(':')?;
    tcp(host, port)
}

/// Reads `unix:PATH` or `tcp:HOST:PORT`.
fn short(text: &str) -> Option<Server> {
    let (protocol, rest) = text.split_once(':')?;
    match protocol {
        "unix" => Some(Server::Path(rest.into())),
        _ => address(rest).filter(|_| PROTOCOLS.contains(&protocol)),
    }
}

/// The server in the name of an image: a URL, `nbd:unix:PATH` or `nbd:HOST:PORT`.
fn of_image(name: &str) -> Option<Server> {
    let Some((scheme, rest)) = name.split_once("://") else {
        let mut parts = name.strip_prefix("nbd:")?.split(':');
        return match (parts.next()?, parts.next()?) {
            ("unix", path) => Some(Server::Path(path.into())),
            (host, port) => tcp(host, port),
        };
    };
    if scheme == "nbd+unix" {
        let path = rest.split_once("?socket=")?.1.split('&').next()?;
        return Some(Server::Path(path.into()));
    }
    let (_, port) = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
    let place = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let has_port = !place.ends_with(']') && place.contains(':');
    if has_port { address(place) } else { tcp(place, &port.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::options::arguments_of;

    #[test]
    fn sockets_to_which_qemu_connects() {
        for (line, expected) in [
            ("-chardev socket,id=c,path=/a,,b", &["/a,b"][..]),
            ("-chardev socket,id=c,path=/a,server=off", &["/a"]),
            ("-chardev socket,id=c,path=/a,server=on,wait=off", &[]),
            ("-chardev socket,id=c,path=/a,server,nowait", &[]),
            ("-chardev socket,id=c,host=h,port=1", &[]),
            ("-chardev pipe,id=c,path=/a", &[]),
            ("-netdev stream,id=n,server=off,addr.type=unix,addr.path=/a", &["/a"]),
            ("-netdev stream,id=n,server=on,addr.type=unix,addr.path=/a", &[]),
            (r#"-netdev {"type":"stream","id":"n","addr":{"type":"unix","path":"/a"}}"#, &["/a"]),
            ("-serial unix:/a", &["/a"]),
            ("-serial unix:/a,server=on", &[]),
            ("-serial file:/a", &[]),
            ("-drive file=nbd+unix:///x?socket=/a,if=virtio", &["/a"]),
            ("-drive file=nbd:unix:/a:exportname=x", &["/a"]),
            ("-blockdev driver=nbd,server.type=unix,server.path=/a", &["/a"]),
            ("-device vfio-user-pci,socket=/a", &["/a"]),
            ("-chardev socket,id=c,host=localhost,port=1", &["localhost:1"]),
            ("-chardev socket,id=c,path=/a,abstract=on", &[]),
            (
                "-netdev stream,id=n,addr.type=inet,addr.host=127.0.0.1,addr.port=1",
                &["127.0.0.1:1"],
            ),
            ("-netdev socket,id=n,connect=127.0.0.1:1", &["127.0.0.1:1"]),
            ("-netdev socket,id=n,udp=127.0.0.1:1,localaddr=127.0.0.1:2", &[]),
            ("-netdev dgram,id=n,remote.type=unix,remote.path=/a", &[]),
            ("-netdev vde,id=n,sock=/a", &["/a/ctl"]),
            ("-nic user,guestfwd=tcp:10.0.2.1:1-tcp:127.0.0.1:2", &["127.0.0.1:2"]),
            ("-nic user,guestfwd=tcp:10.0.2.1:1-cmd:x", &[]),
            ("-serial tcp:127.0.0.1:1", &["127.0.0.1:1"]),
            ("-gdb tcp:127.0.0.1:1 -gdb unix:/a", &["/a"]),
            (
                "-vnc 127.0.0.1:1,reverse=on -vnc :2 -display vnc=unix:/a,reverse=on",
                &["127.0.0.1:1", "/a"],
            ),
            ("-object pr-manager-helper,id=p,path=/a", &["/a"]),
            ("-virtfs proxy,id=f,socket=/a", &["/a"]),
            ("-drive driver=nbd,host=127.0.0.1,port=1", &["127.0.0.1:1"]),
            ("-drive file.driver=nbd,file.path=/a", &["/a"]),
            (
                "-blockdev driver=raw,file.driver=nbd,file.server.host=::1,file.server.port=1",
                &["::1:1"],
            ),
            ("-hda nbd:127.0.0.1:1:exportname=x", &["127.0.0.1:1"]),
            (
                "nbd://127.0.0.1/x -cdrom http://u@localhost/x -hdb ssh://[::1]:1/x",
                &["127.0.0.1:10809", "localhost:80", "::1:1"],
            ),
            ("-drive file=https://a.test/x -incoming tcp:127.0.0.1:1", &[]),
            ("-fsdev local,path=/a,id=f -drive file=/a -monitor unix:/a", &[]),
        ] {
            let arguments = arguments_of(std::iter::once("qemu").chain(line.split(' ')));
            let server = |connection: Connection| match connection.server {
                Server::Path(text) | Server::Port(_, text) => text,
            };
            let found: Vec<String> = connected(&arguments).into_iter().map(server).collect();
            assert_eq!(found, expected, "{line}");
        }
    }

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
