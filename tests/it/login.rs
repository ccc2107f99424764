//! Waits for a guest that is reached through a proxy, that drops connections, or that refuses
//! logins at first. An sshd on this host stands for the guest's, and the VM is a fake.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Project, fake_qemu, free_port, has_tool, is_root, program, wait_until};
use crate::surroundings::Sshd;

const SOON: Duration = Duration::from_secs(20);

/// A project whose VM `vm` has this ssh port and these lines in `[ssh]`.
fn fake(project: &Project, port: u16, ssh: &str) {
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[ssh]\nIdentityFile = \"user_key\"\nIdentitiesOnly = true\n\
         UserKnownHostsFile = \"/dev/null\"\nStrictHostKeyChecking = false\n{ssh}\n\
         [vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {port}\n",
        fake_qemu().display(),
    ));
}

#[track_caller]
fn stop(project: &Project) {
    let ended = project.qqmgr(&["stop", "vm", "--force"]).run();
    ended.stdout("vm ended by SIGTERM in [SECONDS] s\n").success();
}

// --- through a proxy

/// Another program has the port: the start does not refuse it, and no command connects to it.
#[test]
fn a_guest_behind_a_proxy_is_asked_through_it() {
    let project = Project::new();
    let (Some(_sshd), Some(program)) = (Sshd::new(&project), program("sshd")) else { return };
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = others.local_addr().unwrap().port();
    // The guest answers as soon as the file exists.
    let (root, sshd) = (project.path("").display().to_string(), program.display());
    let proxy = format!("[ -e {root}/booted ] && exec {sshd} -i -f {root}/sshd.conf");
    project.write("proxy", proxy);
    fake(&project, port, &format!("ProxyCommand = 'sh {root}/proxy'"));
    let started = project.qqmgr(&["start", "vm"]).run();
    started.stdout(format!("vm started: running, pid [PID], ssh port {port}\n")).success();
    let wait = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", "200"]).start();
    let late = project.qqmgr(&["wait", "vm", "--for", "ssh", "--timeout", "1.5"]).run();
    late.stderr("qqmgr: error: `ssh` says: [..]: waited 1.5 s for the ssh server[..]\n...\n")
        .code(4);
    assert_eq!(wait.said(), "");
    project.write("booted", "");
    wait.end().stdout("vm answers ssh after [SECONDS] s\n").success();
    project.qqmgr(&["run", "vm", "--", "echo hi"]).run().stdout("hi\n").success();
    others.set_nonblocking(true).unwrap();
    assert!(others.accept().is_err(), "nobody connects to the port of this host");
    stop(&project);
}

#[test]
fn a_jump_host_that_is_not_there() {
    let project = Project::new();
    let Some(_sshd) = Sshd::new(&project) else { return };
    let others = TcpListener::bind("127.0.0.1:0").unwrap();
    let jump = format!("ProxyJump = 'jump@127.0.0.1:{}'", free_port());
    fake(&project, others.local_addr().unwrap().port(), &jump);
    let late = project.qqmgr(&["start", "--wait=1.5", "vm"]).run();
    late.stderr("qqmgr: error: `ssh` says: [..]: waited 1.5 s for the ssh server[..]\n...\n")
        .code(4);
    others.set_nonblocking(true).unwrap();
    assert!(others.accept().is_err(), "nobody connects to the port of this host");
    stop(&project);
}

/// The jump host is this host's sshd, which takes the account's own key. That key and the known
/// hosts stand in a home directory that is mounted for the test alone.
#[test]
fn a_guest_behind_a_jump_host() {
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    if !has_tool("unshare") || !is_root() {
        return;
    }
    // The jump host looks up the guest's name, here an address at which nothing listens.
    project.write("hosts", "127.0.0.9 localhost\n");
    let ssh = format!("ProxyJump = \"127.0.0.1:{}\"\nHostName = \"localhost\"", sshd.port);
    fake(&project, sshd.port, &ssh);
    let with_home = |command: &str| {
        let script = format!(
            "exec unshare --mount sh -c 'home=$(getent passwd 0 | cut -d: -f6) && \
             mount -t tmpfs none \"$home\" && mkdir -m 700 \"$home/.ssh\" && \
             cp known_hosts \"$home/.ssh\" && cp user_key \"$home/.ssh/id_ed25519\" && \
             mount --bind hosts /etc/hosts && exec \"$QQMGR\" {command}'"
        );
        project.sh(&script).run()
    };
    with_home("run --wait=40 vm -- echo hi").stdout("hi\n").success();
    let log = fs::read_to_string(project.path("sshd.log")).unwrap();
    assert!(log.matches("Accepted publickey").count() >= 2, "the jump host and the guest: {log}");
}

// --- a first boot

/// Passes connections on to `to`, but first closes this many of them after both ends have
/// introduced themselves, as a server without host keys does. Connections that only listen do not
/// count.
fn dropping(to: u16, count: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicUsize::new(count));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let left = Arc::clone(&left);
            thread::spawn(move || pass(client, to, &left));
        }
    });
    port
}

fn pass(mut client: TcpStream, to: u16, left: &AtomicUsize) -> std::io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    let (mut from, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut first = [0; 4096];
    let count = client.read(&mut first)?;
    let take = |left: usize| left.checked_sub(1);
    if count > 0 && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
        client.shutdown(Shutdown::Both)?;
        return server.shutdown(Shutdown::Both);
    }
    server.write_all(&first[..count])?;
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Both)
}

#[test]
fn a_connection_that_is_dropped_before_the_login_is_tried_again() {
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    let port = dropping(sshd.port, 2);
    fake(&project, port, "HostName = \"localhost\"");
    project.qqmgr(&["run", "vm", "--", "echo hi"]).run().stdout("hi\n").success();
    // Each command that waits tries again; without a wait, ssh's error is shown.
    let port = dropping(sshd.port, 1);
    fake(&project, port, "HostName = \"localhost\"");
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let plain = project.qqmgr(&["ssh", "vm", "true"]).run();
    plain.stderr("qqmgr: error: cannot reach the guest [..]\nqqmgr: hint: [..]\n").code(255);
    project.qqmgr(&["ssh", "vm", "echo hi"]).run().stdout("hi\n").success();
    stop(&project);
}

/// The guest gets the keys late. The login is tried again after ten seconds, not earlier.
#[test]
fn a_login_that_is_refused_at_first() {
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    let keys = project.path("user_key.pub");
    fs::rename(&keys, project.path("later")).unwrap();
    fake(&project, sshd.port, "HostName = \"localhost\"");
    let run =
        project.qqmgr(&["run", "vm", "--", "echo hi"]).within(Duration::from_secs(90)).start();
    wait_until("a login is refused", SOON, || refusals(&project.path("sshd.log")) == 1);
    fs::rename(project.path("later"), keys).unwrap();
    run.end().stdout("hi\n").success();
    assert_eq!(refusals(&project.path("sshd.log")), 1);
}

fn refusals(log: &Path) -> usize {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.matches("Connection closed by authenticating user").count()
}

/// A refused login is waited for at most a minute; a shorter wait ends at its own time.
#[test]
fn a_wrong_key_is_named() {
    let project = Project::new();
    let Some(sshd) = Sshd::new(&project) else { return };
    fs::remove_file(project.path("user_key.pub")).unwrap();
    fake(&project, sshd.port, "HostName = \"localhost\"");
    let error = |with: &str| {
        format!(
            "qqmgr: error: the guest of VM `vm` refuses the login as `[..]` with the key \
             `[ROOT]/user_key`{with}: [..]Permission denied (publickey[..]).\n\
             qqmgr: hint: the public key has to be in `~/.ssh/authorized_keys` of that user on the \
             guest\n"
        )
    };
    project.qqmgr(&["run", "--wait=9", "vm", "--", "true"]).run().stderr(error("")).code(255);
    fs::remove_file(project.path("user_key")).unwrap();
    project.qqmgr(&["start", "vm"]).run().stdout("vm started: [..]\n").success();
    let missing = error(", which does not exist");
    project.qqmgr(&["ssh", "--wait=9", "vm", "true"]).run().stderr(missing.clone()).code(255);
    project.qqmgr(&["get", "--wait=9", "vm", "x", "."]).run().stderr(missing).code(1);
    stop(&project);
}
