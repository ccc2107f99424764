//! Helpers of a VM as processes: real swtpm and virtiofsd, identity, process groups, and what is
//! left when `start`, `stop` or `run` is killed at any point.
//!
//! `QQMGR_FAULTS=N` makes the tests with random times N times as long.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::guest;
use crate::harness::{
    Project, fake_qemu, free_port, has_program, has_tool, is_root, left_out, poll, real_qemu,
    signal, wait_until,
};
use crate::model::{Kind, assert_path};

const QQMGR: &str = env!("CARGO_BIN_EXE_qqmgr");
const A_WHILE: Duration = Duration::from_secs(20);
const FORCED: &str = "vm ended by SIGTERM in [SECONDS] s\n";
const STARTED: &str = "vm started: running, pid [PID], ssh port [PORT]\n";
/// The paths of virtiofsd in distributions, which are not in `PATH`.
const VIRTIOFSD: &[&str] = &["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];

/// A project whose VM `vm` runs in the fake QEMU with these helpers.
fn with_helpers(helpers: &str) -> Project {
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = \"{}\"\n[vm.vm]\ncmd = \"-name fake=normal\"\nssh.port = {}\n\
         [vm.vm.helpers]\n{helpers}",
        fake_qemu().display(),
        free_port()
    ));
    project
}

/// A project with a TPM, and a second helper with a process group of three.
fn with_tpm() -> Option<Project> {
    let qemu = real_qemu().filter(|_| has_tool("swtpm"))?;
    let project = Project::new();
    project.config(&format!(
        r#"
        [qemu]
        bin = {qemu:?}
        [vm.vm]
        cmd = """-nodefaults -machine none -display none
          -chardev socket,id=c,path={{{{.vm.dir}}}}/tpm.sock -tpmdev emulator,id=t,chardev=c"""
        ssh.port = {}
        [vm.vm.helpers]
        three = "sh -c 'sleep 1000 & sleep 1000 & wait'"
        tpm = """swtpm socket --tpm2 --tpmstate dir={{{{.vm.dir}}}}/tpm
          --ctrl type=unixio,path={{{{.vm.dir}}}}/tpm.sock"""
        "#,
        free_port()
    ));
    Some(project)
}

/// Whether the process has not ended. A zombie's command line is empty.
fn lives(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[track_caller]
fn stops(project: &Project) {
    let stop = project.qqmgr(&["stop", "vm", "--force"]).run();
    assert_eq!(stop.status, Some(0), "{}{}", stop.stdout, stop.stderr);
}

/// The process group of a process.
fn group(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

/// The pids that `status` shows: of QEMU, and of the helpers.
fn shown(project: &Project) -> BTreeSet<u32> {
    let status = project.qqmgr(&["status", "vm", "--json"]).run();
    assert_eq!(status.status, Some(0), "{}", status.stderr);
    let pids = status.stdout.lines().filter_map(|line| line.trim().strip_prefix("\"pid\": "));
    pids.filter_map(|pid| pid.trim_end_matches(',').parse().ok()).collect()
}

fn helper_pid(project: &Project, name: &str) -> u32 {
    let status = project.qqmgr(&["status", "vm", "--json"]).run().stdout;
    let of_helper = status.split_once(&format!("\"name\": \"{name}\"")).unwrap().1;
    let pid = of_helper.split_once("\"pid\": ").unwrap().1;
    let digits = |c: char| c.is_ascii_digit();
    pid[..pid.find(|c| !digits(c)).unwrap()]
        .parse()
        .unwrap_or_else(|_| panic!("helper {name} runs: {status}"))
}

fn is_gone(project: &Project, when: &str) {
    let gone = poll(A_WHILE, || project.processes().is_empty());
    assert!(gone, "{when}: {:?} are left", project.processes());
}

/// Starts `qqmgr`, and kills it after this delay.
fn killed_after(project: &Project, arguments: &[&str], delay: Duration) {
    let mut command = Command::new(QQMGR);
    // Its working directory is another one, so that it is not taken for a helper.
    command.arg("-c").arg(project.path("qqmgr.toml")).args(arguments).current_dir("/");
    command.env("HOME", project.path("home"));
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (mut child, begin) = (quiet.spawn().unwrap(), Instant::now());
    while begin.elapsed() < delay {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Delays that cover the whole run of a command, and a little more.
fn points(count: u32, command: impl FnOnce()) -> impl Iterator<Item = Duration> {
    let factor: u32 = std::env::var("QQMGR_FAULTS").map_or(1, |text| text.parse().unwrap());
    let count = count * factor;
    let begin = Instant::now();
    command();
    let whole = begin.elapsed().mul_f64(1.2);
    (0..count).map(move |point| whole * point / count)
}

/// Checks that every process is one that `status` shows, or in the process group of one.
fn all_is_in_reach(project: &Project, when: &str) {
    let mut lost = BTreeSet::new();
    let none = poll(A_WHILE, || {
        let shown = shown(project);
        lost = project.processes();
        lost.retain(|pid| !group(*pid).is_none_or(|group| shown.contains(&group)));
        lost.is_empty()
    });
    assert!(none, "{when}: {lost:?} are out of reach");
}

#[test]
fn start_killed_at_any_point_leaves_no_helper_out_of_reach() {
    let Some(project) = with_tpm() else { return };
    let start = || project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    for (number, delay) in points(12, || drop(start())).enumerate() {
        stops(&project);
        is_gone(&project, &format!("stopped, {delay:?}"));
        killed_after(&project, &["start", "vm"], delay);
        all_is_in_reach(&project, &format!("{delay:?}"));
        if number % 2 == 0 {
            let start = project.qqmgr(&["start", "vm"]).run();
            assert_eq!(start.status, Some(0), "{delay:?}: {}", start.stderr);
            assert_eq!(shown(&project).len(), 3, "{delay:?}");
            all_is_in_reach(&project, &format!("{delay:?}, started"));
        }
    }
    stops(&project);
    is_gone(&project, "at the end");
    assert_eq!(
        project.vm_files("vm"),
        "events.out helper.three.log helper.tpm.log lock qemu.log serial tpm"
    );
}

#[test]
fn stop_killed_at_any_point_leaves_no_helper_out_of_reach() {
    let Some(project) = with_tpm() else { return };
    let stop = &["stop", "vm", "--force"];
    let start = || project.qqmgr(&["start", "vm"]).run();
    start().stdout(STARTED).success();
    for delay in points(4, || drop(project.qqmgr(stop).run().stdout(FORCED).success())) {
        wait_until("the VM runs", A_WHILE, || start().status == Some(0));
        killed_after(&project, stop, delay);
        all_is_in_reach(&project, &format!("{delay:?}"));
    }
    stops(&project);
    is_gone(&project, "at the end");
}

#[test]
fn run_killed_at_any_point_leaves_no_helper() {
    let Some(project) = with_tpm() else { return };
    let run = &["run", "vm", "--fresh", "--wait=1", "--", "true"];
    for delay in points(4, || assert_eq!(project.qqmgr(run).run().status, Some(255))) {
        killed_after(&project, run, delay);
        is_gone(&project, &format!("{delay:?}"));
    }
}

/// The first process of a group has ended, and the others keep running.
#[test]
fn a_helper_is_its_whole_process_group() {
    let project = with_helpers("h = \"sh -c 'sleep 1000 & sleep 1000 & wait'\"");
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    let first = helper_pid(&project, "h");
    let rest =
        || project.processes().into_iter().filter(|pid| group(*pid) == Some(first)).collect();
    wait_until("the helper has two more processes", A_WHILE, || {
        let all: BTreeSet<u32> = rest();
        all.len() == 3
    });
    signal(first, "KILL");
    wait_until("its first process is gone", A_WHILE, || !lives(first));
    assert_eq!(helper_pid(&project, "h"), first);
    let all: BTreeSet<u32> = rest();
    assert_eq!(all.iter().filter(|pid| lives(**pid)).count(), 2);
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
    is_gone(&project, "stopped");
}

/// The helper and its children ignore SIGTERM.
#[test]
fn a_helper_that_does_not_heed_sigterm_gets_sigkill() {
    let project =
        with_helpers("h = '''sh -c \"trap '' TERM; sleep 1000 & while :; do sleep 0.1; done\"'''");
    project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
    project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
    is_gone(&project, "stopped");
}

/// After a crash or a reboot, another process may have the recorded pid.
#[test]
fn a_pid_that_is_not_the_recorded_process_is_never_signalled() {
    let project = with_helpers("h = \"sleep 1000\"");
    let mut sleep = Command::new("sleep");
    let quiet = sleep.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
    // It works in the project's directory, so it ends with the project even if this test fails.
    let mut innocent = quiet.current_dir(project.path("")).process_group(0).spawn().unwrap();
    for change in ["start", "boot_id"] {
        project.qqmgr(&["start", "vm"]).run().stdout(STARTED).success();
        let (qemu, helper) = (project.pid("vm"), helper_pid(&project, "h"));
        signal(qemu, "KILL");
        signal(helper, "KILL");
        wait_until("both are gone", A_WHILE, || !lives(qemu) && !lives(helper));
        let record = project.vm_file("vm", "instance.json");
        let (before, helpers) = record.split_once("\"helpers\"").unwrap();
        let helpers = helpers.replace(&helper.to_string(), &innocent.id().to_string());
        let start = start_of(innocent.id());
        let record = if change == "start" {
            format!("{before}\"helpers\"{helpers}")
        } else {
            let (head, tail) = helpers.split_once("\"start\": \"").unwrap();
            let tail = tail.split_once('"').unwrap().1;
            let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            let other = before.replace(id.trim(), "11111111-1111-1111-1111-111111111111");
            format!("{other}\"helpers\"{head}\"start\": \"{start}\"{tail}")
        };
        project.write(".qqmgr/vm.vm/instance.json", &record);
        assert_eq!(shown(&project), BTreeSet::new(), "{change}: {record}");
        project.qqmgr(&["stop", "vm"]).run().stdout("vm was not running\n").success();
        assert!(lives(innocent.id()), "{change}");
    }
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

/// When the process started, as the record has it.
fn start_of(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    fields.split_ascii_whitespace().nth(19).unwrap().to_string()
}

/// `stop --force` does not wait for a `start` that waits for a helper.
#[test]
fn a_start_that_waits_for_a_helper_can_be_stopped() {
    let project = with_helpers("h = \"sh -c 'exec sleep 1000' sh s.sock\"");
    let config = fs::read_to_string(project.path("qqmgr.toml")).unwrap();
    let socket = "fake=normal -chardev socket,id=c,path=s.sock";
    project.config(&config.replace("fake=normal", socket));
    let start = project.qqmgr(&["start", "vm", "--timeout", "600", "-v"]).start();
    wait_until("the helper runs", A_WHILE, || shown(&project).len() == 1);
    let stop = project.qqmgr(&["stop", "vm", "--force", "-v"]).run();
    let stop = stop.stdout("vm was not running\n").stderr(
        "...\nqqmgr: waiting for `start` (pid [PID]) of VM `vm` to finish\n...\n\
         qqmgr: end_helpers: none of them is left\n...\n",
    );
    assert_path(Kind::StopForce, true, &stop.success().stderr, false);
    let start = start.end();
    assert_path(Kind::Start, true, &start.stderr, false);
    assert_eq!(start.status, Some(1));
    let expected = "the helper `h` was ended by signal 15 before QEMU was ready";
    assert!(start.stderr.contains(expected), "{}", start.stderr);
    is_gone(&project, "stopped");
}

/// Starts the configurations among the recipes of qqmgr(7), on a machine that does not boot. Only
/// what root and this host need is changed.
#[test]
fn recipes_of_the_man_page_start() {
    let (Some(qemu), true) = (real_qemu(), is_root()) else { return };
    let page = include_str!("../../man/qqmgr.7").replace("\\-", "-");
    let section = page.split("\n.Ss Configurations\n").nth(1).unwrap();
    let section = section.split("\n.Ss ").next().unwrap();
    let blocks =
        section.split("-compact\n").skip(1).map(|text| text.split("\n.Ed").next().unwrap());
    let project = Project::new();
    let base = "[vm.dev]\ncmd = '-machine q35 -m 256 -S -display none'\nssh.port = 'auto'\n";
    let mut config = format!("[qemu]\nbin = {qemu:?}\n{base}");
    blocks.for_each(|block| config.extend([block, "\n"]));
    let config = config.replace("cmd = \"\"\"", "cmd = \"\"\"-S -display none ");
    let config = config.replace("-accel kvm -cpu host", "-cpu max");
    let config = config.replace("--one-off", "--one-off --runas 0");
    project.config(
        &config
            .replace("--shared-dir {{.config_dir}}", "-o source={{.config_dir}}")
            .replace(VIRTIOFSD[0], VIRTIOFSD[1]),
    );
    project.sh("qemu-img create -q -f qcow2 disk.qcow2 1M").run().success();
    for (vm, program) in [
        ("tpm", "swtpm"),
        ("src", VIRTIOFSD[1]),
        ("p9", "sh"),
        ("net", "passt"),
        ("win", "sh"),
        ("vsock", "/dev/vhost-vsock"),
    ] {
        if !has_program(program) && !Path::new(program).exists() {
            left_out(&format!("a recipe needs {program}"));
            continue;
        }
        let start = project.qqmgr(&["start", vm]).run();
        assert_eq!(start.status, Some(0), "{vm}: {}", start.stderr);
        let stop = project.qqmgr(&["stop", vm, "--force"]).run();
        assert_eq!(stop.status, Some(0), "{vm}: {}", stop.stderr);
        is_gone(&project, vm);
    }
}

/// The words of a real virtiofsd for the directory `share`; without one, the test is left out.
fn virtiofsd() -> Option<String> {
    let Some(program) = VIRTIOFSD.iter().find(|path| Path::new(path).exists()) else {
        left_out("no virtiofsd");
        return None;
    };
    let share = if program.contains("libexec") { "--shared-dir " } else { "-o source=" };
    Some(format!(
        "{program} --socket-path={{{{.vm.dir}}}}/src.sock {share}{{{{.config_dir}}}}/share"
    ))
}

/// The words of QEMU for virtiofsd, with this many MiB of memory.
fn shared_memory(mib: u32) -> String {
    format!(
        "-machine memory-backend=m -object memory-backend-memfd,id=m,size={mib}M,share=on \
         -chardev socket,id=src,path={{{{.vm.dir}}}}/src.sock \
         -device vhost-user-fs-pci,chardev=src,tag=src"
    )
}

/// A real virtiofsd ends with its first client, so it is never connected to.
#[test]
fn virtiofsd_serves_qemu() {
    let (Some(qemu), true) = (real_qemu(), is_root()) else { return };
    let Some(virtiofsd) = virtiofsd() else { return };
    let project = Project::new();
    project.config(&format!(
        "[qemu]\nbin = {qemu:?}\n[vm.vm]\ncmd = \"-nodefaults -display none -machine q35 -m 64 -S {}\"\n\
         ssh.port = {}\n[vm.vm.helpers]\nsrc = {virtiofsd:?}\n",
        shared_memory(64),
        free_port(),
    ));
    project.write("share/host", "");
    for _ in 0..3 {
        let start = project.qqmgr(&["start", "vm"]).run();
        start
            .stdout("vm started: prelaunch, pid [PID], ssh port [PORT]\n")
            .stderr("qqmgr: VM `vm` is prelaunch: `qqmgr resume vm` lets it go on\n")
            .success();
        assert_eq!(shown(&project).len(), 2);
        project.qqmgr(&["stop", "vm", "--force"]).run().stdout(FORCED).success();
        is_gone(&project, "stopped");
        assert!(!project.vm_path("vm", "src.sock").exists());
    }
}

/// Files go both ways by virtiofs, and by 9p where the guest's kernel has it. A guest also sees
/// that its disk was grown.
#[test]
fn a_guest_shares_a_directory_with_its_host() {
    let Some(virtiofsd) = virtiofsd().filter(|_| is_root()) else { return };
    let words = shared_memory(256)
        + " -virtfs local,path={{.config_dir}}/share,mount_tag=src9p,security_model=none \
            -drive file={{.img.data}},if=virtio,format=qcow2";
    let Some(config) = guest::config("", &free_port().to_string(), &words) else { return };
    let project = Project::new();
    let config = format!("{config}[vm.vm.helpers]\nsrc = {virtiofsd:?}\n[img.data]\nsize = '1M'\n");
    project.config(&config);
    project.write("share/host", "from the host\n");
    let started = project.qqmgr(&["start", "--wait=50", "vm"]).run();
    started.stdout(STARTED).stderr("qqmgr: built image `data`\n").success();
    let ssh = |script: &str| project.qqmgr(&["ssh", "vm", script]).run();
    ssh("cd /lib/modules && for m in $(cat later 2>/dev/null); do insmod $m.ko; done").success();
    for (kind, mount) in [("virtiofs", "virtiofs src"), ("9p", "9p -o trans=virtio src9p")] {
        if ssh(&format!("grep -qw {kind} /proc/filesystems")).status != Some(0) {
            // Debian's kernel for clouds, which boots twice as fast, has no 9p.
            if kind == "virtiofs" {
                left_out("the guest's kernel has no virtiofs");
            }
            continue;
        }
        let script = format!(
            "mount -t {mount} /mnt && cat /mnt/host && echo {kind} >/mnt/guest && umount /mnt"
        );
        ssh(&script).stdout("from the host\n").success();
        assert_eq!(fs::read_to_string(project.path("share/guest")).unwrap(), format!("{kind}\n"));
    }
    project.config(&config.replace("'1M'", "'2M'"));
    let restarted = project.qqmgr(&["restart", "--wait=50", "vm"]).run();
    let stdout = format!("vm powered off in [SECONDS] s\n{STARTED}");
    restarted.stdout(stdout).stderr("qqmgr: data: disk grown from 1 to 2 MiB\n").success();
    ssh("cat /sys/block/vda/size").stdout("4096\n").success();
    project.qqmgr(&["stop", "vm"]).run().stdout("vm powered off in [SECONDS] s\n").success();
    is_gone(&project, "powered off");
}
