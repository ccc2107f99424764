//! Connections that several calls share: which calls use one, what it never holds, when it ends.
//! The guest is an sshd on this host beside a fake QEMU, or the real one.

use std::env;
use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use crate::guest;
use crate::harness::{Project, fake_qemu, free_port, signal, wait_until};
use crate::surroundings::Sshd;

const A_WHILE: Duration = Duration::from_secs(40);
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";

/// A running VM with the test's own sshd for a guest, and these options of ssh.
#[track_caller]
fn running(options: &str) -> Option<(Project, Sshd)> {
    let (project, port) = (Project::new(), free_port());
    configure(&project, port, options);
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let sshd = Sshd::at(&project, port, "")?;
    Some((project, sshd))
}

fn configure(project: &Project, port: u16, options: &str) {
    project.config(&format!(
        "[qemu]\nbin = {:?}\n[ssh]\nIdentityFile = \"user_key\"\n{options}\n\
         [vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {port}\n",
        fake_qemu().display().to_string(),
    ));
}

/// The number of connections that the guest's server has accepted.
fn logins(project: &Project) -> usize {
    let said = fs::read_to_string(project.path("sshd.log")).unwrap();
    said.matches("Accepted publickey").count()
}

/// The control sockets in the VM's directory.
fn sockets(project: &Project) -> usize {
    let files = project.vm_files("vm");
    files.split(' ').filter(|name| name.starts_with("ssh.") && name.len() > 40).count()
}

#[test]
fn commands_share_one_connection_until_the_vm_stops() {
    let Some((project, _sshd)) = running("") else { return };
    let first = project.qqmgr(&["ssh", "vm", "echo one; cat"]).stdin("two\n").run();
    first.stdout("one\ntwo\n").success();
    project.qqmgr(&["ssh", "vm", "--", "exit 7"]).run().code(7);
    project.write("file", "content");
    project
        .qqmgr(&["put", "vm", "file", &project.path("copy").display().to_string()])
        .run()
        .success();
    let json = project.qqmgr(&["--json", "ssh", "vm", "echo three"]).run();
    json.stdout("...\n  \"stdout\": \"three\\n\",\n...\n").success();
    assert_eq!((logins(&project), sockets(&project)), (1, 1));
    let control = project.qqmgr(&["ssh", "vm", "-O", "check"]).run();
    control.stderr("Master running (pid=[PID])\r\n").success();

    // A call with options, and a shell, have connections of their own.
    project.qqmgr(&["ssh", "vm", "-q", "true"]).run().success();
    let shell = project.qqmgr(&["ssh", "vm"]).stdin("exit 3\n").run();
    shell.stderr("Pseudo-terminal will not be allocated because [..]\n").code(3);
    assert_eq!((logins(&project), sockets(&project)), (3, 1));

    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    assert_eq!(sockets(&project), 0);
}

/// The forward exists as long as ssh runs, and ssh runs until it is ended.
#[test]
fn a_forward_without_a_command_stays() {
    let Some((project, sshd)) = running("") else { return };
    project.qqmgr(&["ssh", "vm", "true"]).run().success();
    let port = free_port();
    let forward = format!("{port}:127.0.0.1:{}", sshd.port);
    let ssh = project.qqmgr(&["ssh", "vm", "-N", "-L", &forward]).start();
    let banner = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut start = [0; 4];
        stream.read_exact(&mut start).ok()?;
        Some(start)
    };
    wait_until("the forward is there", A_WHILE, || banner() == Some(*b"SSH-"));
    assert!(project.runs(ssh.pid));
    signal(ssh.pid, "TERM");
    let _ = ssh.end();
    assert_eq!(banner(), None);
}

/// Each call would begin the connection, but a server accepts only a few without a login.
#[test]
fn many_calls_at_once_say_nothing() {
    let Some((project, _sshd)) = running("") else { return };
    let script = "for i in $(seq 20); do \"$QQMGR\" ssh vm \"echo $i; sleep 0.2\" & done; wait";
    let calls = project.sh(script).env("QQMGR", env!("CARGO_BIN_EXE_qqmgr")).run();
    let mut said: Vec<&str> = calls.stdout.lines().collect();
    said.sort_by_key(|line| line.parse::<u32>().unwrap());
    let all: Vec<String> = (1..=20).map(|i: u32| i.to_string()).collect();
    assert_eq!(said, all);
    assert_eq!(calls.stderr, "");
}

/// The pid of the master of the shared connection.
fn master(project: &Project) -> u32 {
    let check = project.qqmgr(&["ssh", "vm", "-O", "check"]).run();
    check.stderr.split(['=', ')']).nth(1).unwrap().parse().unwrap()
}

/// If a master held a pipe of its caller, the pipe's reader would wait for the master's end.
#[test]
fn a_shared_connection_holds_no_stream_of_its_callers() {
    let Some((project, _sshd)) = running("") else { return };
    project.qqmgr(&["ssh", "vm", "true"]).run().success();
    let pid = master(&project);
    for stream in 0..3 {
        let file = fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
        assert_eq!(file.to_str(), Some("/dev/null"));
    }
}

/// The connection was begun as another user, or with other options.
#[test]
fn a_changed_configuration_ends_the_shared_connection() {
    let Some((project, sshd)) = running("") else { return };
    project.qqmgr(&["ssh", "vm", "true"]).run().success();
    configure(&project, sshd.port, "ServerAliveInterval = 5");
    project.qqmgr(&["ssh", "vm", "true"]).run().success();
    assert_eq!((logins(&project), sockets(&project)), (2, 1));
}

/// A master that was killed leaves its socket.
#[test]
fn a_socket_without_a_listener_is_cleared_away() {
    let Some((project, _sshd)) = running("") else { return };
    project.qqmgr(&["ssh", "vm", "true"]).run().success();
    let pid = master(&project);
    signal(pid, "KILL");
    wait_until("the master ends", A_WHILE, || !project.runs(pid));
    project.qqmgr(&["ssh", "vm", "echo on"]).run().stdout("on\n").stderr("").success();
}

/// The guest was replaced without qqmgr, or forgets its writes.
#[test]
fn a_guest_with_another_host_key() {
    let Some((project, sshd)) = running("") else { return };
    let ssh = |command: &str| project.qqmgr(&["ssh", "vm", command]).run();
    ssh("echo on").stdout("on\n").success();
    let port = sshd.port;
    drop(sshd);
    fs::remove_file(project.path("host_key")).unwrap();
    let Some(_sshd) = Sshd::at(&project, port, "") else { return };
    project.qqmgr(&["ssh", "vm", "-O", "exit"]).run().stderr("Exit request sent.\r\n").success();
    ssh("true")
        .stderr(
            "qqmgr: error: cannot reach the guest of VM `vm`: @@@[..]\n...\n\
             Host key verification failed.\n\
             qqmgr: hint: if the guest was made anew, forget its old key: \
             `rm [ROOT]/.qqmgr/vm.vm/known_hosts`\n",
        )
        .code(255);
    fs::remove_file(project.vm_path("vm", "known_hosts")).unwrap();
    ssh("echo on").stdout("on\n").success();
}

/// Such a guest may make its host keys at each start, and lose them at its end.
#[test]
fn host_keys_of_a_guest_that_forgets_what_it_writes() {
    for (words, left) in [("", " known_hosts"), (" -snapshot", "")] {
        let (project, port) = (Project::new(), free_port());
        configure(&project, port, "");
        let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
        project.config(&config.replace("fake=normal", &format!("fake=normal{words}")));
        project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
        let Some(_sshd) = Sshd::at(&project, port, "") else { return };
        project.qqmgr(&["ssh", "vm", "echo on"]).run().stdout("on\n").success();
        assert!(project.vm_path("vm", "known_hosts").exists());
        project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
        assert_eq!(project.vm_files("vm"), format!("events.out{left} lock qemu.log serial"));
    }
}

/// `RemoteCommand` is for shells: a call with a command runs its own.
#[test]
fn a_remote_command_of_the_user() {
    let options = "RemoteCommand = \"echo remote\"\nRequestTTY = \"force\"\nLogLevel = \"QUIET\"";
    let Some((project, _sshd)) = running(options) else { return };
    project.qqmgr(&["ssh", "vm"]).run().stdout("remote\r\n").success();
    let json = project.qqmgr(&["--json", "ssh", "vm", "-T", "echo own"]).run();
    json.stdout("...\n  \"stdout\": \"own\\n\",\n...\n").success();
    project.write("file", "content");
    let copy = project.path("copy").display().to_string();
    project.qqmgr(&["put", "vm", "file", &copy]).run().success();
    project.qqmgr(&["get", "vm", &copy, "back"]).run().success();
    assert_eq!(fs::read_to_string(project.path("back")).unwrap(), "content");
    project.qqmgr(&["run", "vm", "--", "echo job"]).run().stdout("job\n").success();
}

/// ssh would expand `${X}`, and take a line break for the end of the option.
#[test]
fn directories_that_ssh_would_read_as_something_else() {
    for name in ["a${X}b", "a\nb", "50% \"it's\" #1"] {
        let (project, port) = (Project::new(), free_port());
        fs::create_dir(project.path(name)).unwrap();
        let config = Path::new(name).join("qqmgr.toml");
        configure(&project, port, "");
        fs::rename(project.path("qqmgr.toml"), project.path(config)).unwrap();
        project.qqmgr(&["start", "vm"]).cwd(name).run().stdout(STARTED).success();
        let Some(_sshd) = Sshd::at(&project, port, "") else { return };
        fs::rename(project.path("user_key"), project.path(name).join("user_key")).unwrap();
        let ssh = project.qqmgr(&["ssh", "vm", "echo on"]).cwd(name).run();
        ssh.stdout("on\n").success();
        assert!(project.path(name).join(".qqmgr/vm.vm/known_hosts").exists());
        let stopped = project.qqmgr(&["stop", "vm"]).cwd(name).run();
        stopped.stdout("vm powered off in [SECONDS] s\n").success();
        assert!(!project.path(name).join(".qqmgr/vm.vm/project").exists());
    }
}

/// An error of ssh about this host is not reported as one about the guest.
#[test]
fn a_user_without_a_name() {
    let project = Project::new();
    project.fake_vm("normal");
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    project
        .write("bin/ssh", "#!/bin/sh\nprintf 'No user exists for uid 4711\\r\\n' >&2\nexit 255\n");
    fs::set_permissions(project.path("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", project.path("bin").display(), env::var("PATH").unwrap());
    for (arguments, code) in [(&["ssh", "vm", "true"][..], 255), (&["put", "vm", "bin", "."], 1)] {
        let failed = project.qqmgr(arguments).env("PATH", &path).run();
        failed
            .stderr(
                "qqmgr: error: cannot reach the guest of VM `vm`: No user exists for uid 4711\n\
                 qqmgr: hint: ssh needs an entry in /etc/passwd for the user id that it runs with\n",
            )
            .code(code);
    }
}

/// Two users of one guest have two connections; a new boot of the guest gets a new one.
#[test]
fn connections_are_of_one_user_and_one_boot() {
    let Some(project) = guest::booted("") else { return };
    let ssh = |words: &[&str]| project.qqmgr(&[&["ssh", "vm"], words].concat()).run();
    let add = "mkdir -p /home/alice && cp -r /root/.ssh /home/alice/ && \
               echo alice:x:1000:1000::/home/alice:/bin/sh >>/etc/passwd && \
               chown -R 1000:1000 /home/alice";
    ssh(&[add]).success();
    ssh(&["whoami"]).stdout("root\n").success();
    for other in [&["-l", "alice"][..], &["-lalice"], &["-o", "User=alice"], &["-oUser alice"]] {
        ssh(&[other, &["whoami"]].concat()).stdout("alice\n").success();
    }
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    project.config(&config.replace("User = \"root\"", "User = \"alice\""));
    ssh(&["whoami"]).stdout("alice\n").success();
    project.config(&config);

    ssh(&["whoami"]).stdout("root\n").success();
    project.qqmgr(&["reset", "vm"]).run().stdout("vm: reset, running\n").success();
    let again = project.qqmgr(&["ssh", "--wait=200", "vm", "whoami"]).run();
    again.stdout("root\n").stderr("").success();
}
