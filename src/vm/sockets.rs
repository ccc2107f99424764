//! The sockets of other programs to which QEMU connects when it starts, by its arguments. Pure.

use super::options::{Argument, Pairs};
use crate::source::Span;

/// The paths of the Unix sockets on which another program must listen, each with the place of its
/// word.
pub(crate) fn connected(arguments: &[Argument]) -> Vec<(String, Span)> {
    let of_one = |argument: &Argument| -> Vec<(String, Span)> {
        let paths = paths(&argument.name, &argument.value).into_iter();
        paths.filter(|path| !path.is_empty()).map(|path| (path, argument.span)).collect()
    };
    arguments.iter().flat_map(of_one).collect()
}

/// The sockets of one argument, according to qemu-options.hx and the QAPI schema.
fn paths(name: &str, value: &str) -> Vec<String> {
    let pairs = Pairs::parse(value, "");
    let listens = pairs.is_on("server");
    let of_keys = |is_socket: &dyn Fn(&str) -> bool| -> Vec<String> {
        let sockets = pairs.0.iter().filter(|(key, _)| is_socket(key));
        sockets.map(|(_, path)| path.clone()).collect()
    };
    match name {
        "chardev" if !listens => {
            let backend = Pairs::parse(value, "backend");
            let is_socket = backend.get("backend") == Some("socket");
            if is_socket { of_keys(&|key| key == "path") } else { Vec::new() }
        }
        "netdev" | "nic" if !listens => of_keys(&|key| key == "addr.path"),
        "serial" | "parallel" | "debugcon" if !listens => {
            let path = value.strip_prefix("unix:").and_then(|rest| rest.split(',').next());
            path.into_iter().map(str::to_string).collect()
        }
        "device" => of_keys(&|key| ["socket", "socket.path"].contains(&key)),
        "blockdev" | "drive" => {
            let mut found = of_keys(&|key| key == "server.path" || key.ends_with(".server.path"));
            found.extend(pairs.0.iter().filter_map(|(_, value)| nbd(value)).map(str::to_string));
            found
        }
        _ => Vec::new(),
    }
}

/// The socket in the name of an NBD export: `nbd+unix:///NAME?socket=PATH` or `nbd:unix:PATH`.
fn nbd(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_prefix("nbd:unix:") {
        return rest.split(':').next();
    }
    let (_, path) = name.strip_prefix("nbd+unix://")?.split_once("?socket=")?;
    path.split('&').next()
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
            ("-fsdev local,path=/a,id=f -drive file=/a -monitor unix:/a", &[]),
        ] {
            let arguments = arguments_of(std::iter::once("qemu").chain(line.split(' ')));
            let found: Vec<String> = connected(&arguments).into_iter().map(|(p, _)| p).collect();
            assert_eq!(found, expected, "{line}");
        }
    }
}
