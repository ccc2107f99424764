//! The rule about sockets of other programs, to which QEMU connects when it starts.

use super::findings::Severity;
use super::subject::Subject;
use crate::linux;
use crate::source::Problem;
use crate::text::texts;
use crate::vm::helper::names;
use crate::vm::sockets::{Connection, SCHEMES, Server, connected};
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Reports the sockets that no program serves, and that no VM or helper in the file would serve.
/// Makes no connection: some programs end after their first client.
pub(super) fn unserved(subject: &Subject, all: &[Subject]) -> Vec<(Severity, Problem)> {
    let config = subject.config;
    let is_free = |port| linux::is_there() && linux::listener(false, port).is_none();
    let connections = connected(&subject.arguments).into_iter().filter(|it| !it.is_retried);
    let unserved = connections.filter_map(|Connection { server, span, .. }| {
        let (severity, shown) = match &server {
            Server::Path(path) => (path_severity(&config.dir().join(path))?, path),
            Server::Port(port, _) if !is_free(*port) => return None,
            Server::Port(_, address) => (Severity::Error, address),
        };
        let (nothing, unseen) = match severity {
            Severity::Error => ("nothing serves", ""),
            Severity::Warning => ("nothing seems to serve", "; one in a container is not seen"),
        };
        let message = format!("{nothing} `{shown}`, to which QEMU would connect");
        let hint = format!("start its program before the VM, or by `[vm.NAME.helpers]`{unseen}");
        let problem = Problem::new(config.source.within(span, shown), message).hint(hint);
        (!is_offered(&server, all)).then_some((severity, problem))
    });
    unserved.collect()
}

/// How sure it is that no program serves the socket at this path. A program may have bound it by
/// another path, or in a container.
fn path_severity(path: &Path) -> Option<Severity> {
    if !fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return Some(Severity::Error);
    }
    let is_it = |served: &Path| {
        let has_name = served.file_name() == path.file_name();
        has_name && (served.is_relative() || served.canonicalize().ok() == path.canonicalize().ok())
    };
    let is_served = linux::serves(&is_it);
    (is_served == Some(false)).then_some(Severity::Warning)
}

/// Whether a helper, or QEMU by an argument that does not connect, may serve it.
fn is_offered(server: &Server, all: &[Subject]) -> bool {
    let has_port = |text: &str, port: u16| {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        numbers.any(|number| number.parse() == Ok(port))
    };
    all.iter().any(|Subject { arguments, helpers, .. }| {
        let clients = connected(arguments);
        let is_client = |span| clients.iter().any(|client| client.span == span);
        let mut others = arguments.iter().filter(|it| !is_client(it.span)).map(|it| &it.value);
        let words: Vec<String> = helpers.iter().flat_map(|helper| texts(&helper.argv)).collect();
        let mut words = words.iter();
        match server {
            Server::Path(path) => {
                words.any(|it| it.contains(path)) || others.any(|it| names(it, path))
            }
            Server::Port(port, _) => {
                let is_usual = SCHEMES.iter().any(|(_, usual)| usual == port);
                is_usual && !helpers.is_empty() || words.chain(others).any(|it| has_port(it, *port))
            }
        }
    })
}
