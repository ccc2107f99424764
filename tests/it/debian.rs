//! From a URL to a shell, for real: the Debian of `tests/fixtures/image`, served on loopback, under
//! TCG.
//!
//! Its two boots take more than a minute, so this test is a separate step of `scripts/test`, which
//! says where the image is.

use crate::fetch::{kill_curl, killer, sha256};
use crate::harness::{Project, left_out, real_qemu, signal};
use crate::http::Server;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const BOOT: Duration = Duration::from_secs(600);
/// Reading 130 MB several times takes most of this time.
const BUILD: Duration = Duration::from_secs(120);

#[test]
fn from_a_url_to_a_shell_with_a_key() {
    let Some(dir) = env::var_os("QQMGR_IMAGE").map(PathBuf::from) else {
        left_out("QQMGR_IMAGE names no directory with a Debian");
        return;
    };
    let Some(_) = real_qemu() else { return };
    let image = fs::read(dir.join("debian.qcow2")).expect("QQMGR_IMAGE has an image");
    let (project, sum) = (Project::new(), sha256(&image));
    let server = Server::new(image);
    let init = ["init", "--image", &server.url(), "--checksum", &sum];
    project.qqmgr(&init).run().stdout("wrote qqmgr.toml: [..]\n").success();
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    // Where KVM exists and does not work, as on hosts that are guests, QEMU does not fall back.
    let config = config.replace("-accel kvm ", "");
    let runs = |line: &str| {
        let with = format!("user = \"dev\"\nrun = [\"{line}\"]");
        project.config(&config.replacen("user = \"dev\"", &with, 1));
    };
    runs("sleep 5; touch /var/tmp/ran");
    builds_that_are_cut(&project, &server, &sum);

    // `--wait` has waited for cloud-init, which has no errors.
    let first_key = boot(&project, "", 0);
    project.qqmgr(&["ssh", "dev", "ls /var/tmp/ran"]).run().stdout("/var/tmp/ran\n").success();
    let wait = project.qqmgr(&["wait", "dev", "--for", "cloud-init"]).run();
    wait.stdout("dev is done with cloud-init after [SECONDS] s\n").success();
    project.qqmgr(&["ssh", "dev", "--", "touch mark && sync"]).run().success();
    let size = "df --output=size -BG / | tail -n 1";
    project.qqmgr(&["ssh", "dev", "--", size]).run().stdout("[..]20G\n").success();
    let refused = "qqmgr: error: image `dev` is in use by VM `dev`\n...\n";
    project.qqmgr(&["img", "reset", "dev"]).run().stderr(refused).code(1);
    let stopped = project.qqmgr(&["stop", "dev"]).run();
    assert_eq!(stopped.status, Some(0), "{}", stopped.stderr);

    // After a reset, the guest's writes and host key are gone; the user's key pair stays.
    runs("exit 3");
    project.qqmgr(&["img", "reset", "dev"]).run().stdout("dev reset: [..]\n").success();
    let error = "qqmgr: error: cloud-init reports an error on VM `dev`:\n...\nstatus: error\n...\n";
    let second_key = boot(&project, error, 1);
    project.qqmgr(&["ssh", "dev", "--", "ls"]).run().success();
    assert_ne!(first_key, second_key);
    let stopped = project.qqmgr(&["stop", "dev"]).run();
    assert_eq!(stopped.status, Some(0), "{}", stopped.stderr);
}

/// Starts the VM, with this error and exit status, logs in, and gives the guest's host key.
#[track_caller]
fn boot(project: &Project, error: &str, code: i32) -> String {
    let start = ["start", "dev", "--wait=580", "--set", "memory=512M"];
    let started = "dev started: running, pid [PID], ssh port [PORT]\n";
    let started = if code == 0 { started } else { "" };
    project.qqmgr(&start).within(BOOT).run().stdout(started).stderr(error).code(code);
    let sudo = project.qqmgr(&["ssh", "dev", "--", "sudo", "id"]).run();
    sudo.stdout("uid=0(root) gid=0(root) groups=0(root)\n").success();
    project.qqmgr(&["ssh", "dev", "hostname"]).run().stdout("dev\n").success();
    let key = project.qqmgr(&["ssh", "dev", "cat /etc/ssh/ssh_host_ed25519_key.pub"]).run();
    assert!(key.stdout.starts_with("ssh-ed25519 "), "{}", key.stdout);
    key.stdout.clone()
}

/// Kills the build at ten points; each time, the next build completes it. The last image is kept.
fn builds_that_are_cut(project: &Project, server: &Server, sum: &str) {
    let build = || project.qqmgr(&["img", "build"]).within(BUILD);
    let cached = project.path("home/.local/share/qqmgr").join(sum);
    let whole = |what: &str, run: crate::harness::Running| {
        let output = run.end();
        assert_eq!(output.status, Some(0), "{what}: {}", output.stderr);
        assert!(output.stdout.starts_with("dev built: "), "{what}: {}", output.stdout);
        project.sh("qemu-img check -q .qqmgr/img.dev/disk.qcow2").run().success();
        assert_eq!(sha256(&fs::read(&cached).unwrap()), sum, "{what}");
        assert_eq!(project.files("home/.local/share/qqmgr").len(), 2, "{what}");
    };
    let begin_anew = || {
        fs::remove_dir_all(project.path("home/.local")).unwrap();
        project.qqmgr(&["img", "rm", "dev"]).run().stdout("dev removed\n").success();
    };
    for tenth in [1, 3, 5, 7, 9] {
        let length = server.length() / 10 * tenth;
        let begin = server.seen().bytes_sent;
        server.set(|behaviour| behaviour.stall_after = Some(length));
        let run = build().start();
        server.wait_for_bytes(begin + length);
        signal(run.pid, "KILL");
        assert_eq!(run.end().status, None);
        server.set(|behaviour| behaviour.stall_after = None);
        let next = build().start();
        next.says("waiting for another command that has `http://");
        kill_curl(project, sum);
        whole(&format!("{tenth}/10 of the file"), next);
        begin_anew();
    }
    for (number, (name, argument, when)) in [
        ("sha256sum", "", "before"),
        ("qemu-img", "info", "after"),
        ("ssh-keygen", "", "after"),
        ("qemu-img", "create", "before"),
        ("qemu-img", "create", "after"),
    ]
    .into_iter()
    .enumerate()
    {
        if number > 0 {
            begin_anew();
        }
        let what = format!("{when} {name} {argument}");
        let Some(path) = killer(project, name, argument, when) else { return };
        assert_eq!(build().env("PATH", path).run().status, None, "{what} does not kill");
        assert!(!project.path(".qqmgr/img.dev/disk.qcow2").exists(), "{what}");
        fs::remove_file(project.path("killers").join(name)).unwrap();
        whole(&what, build().start());
    }
}
