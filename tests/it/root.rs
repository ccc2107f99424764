//! The released files, installed and used in a root with nothing but BusyBox, ssh and QEMU.
//!
//! `QQMGR_ROOT` names the root, which `tests/fixtures/minimal-root` makes, and `QQMGR_PACKAGE` the
//! directory of `scripts/package`. `scripts/test` sets both; without them, nothing is tested. Each
//! test has its own mounts and process ids (unshare(1)), so that no process of it is left.

use crate::harness::{Project, Run, guest_dir, left_out, program};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounts the root in `$1`, with its own directories read-only, and runs the script of the project
/// in it. `$2` is the root, `$3` the project, `$4` the packages, `$5` the guest, `$6` whether there
/// is a `/proc`. A user other than root may not mount `/dev`, and uses the host's.
const SET_UP: &str = r#"
set -eu
mount -t tmpfs tmpfs "$1"
for dir in bin dev etc lib lib64 proc root tmp usr work package guest; do mkdir "$1/$dir"; done
for dir in bin etc lib lib64 usr; do
    [ -d "$2/$dir" ] || continue
    mount --bind "$2/$dir" "$1/$dir"
    mount -o remount,bind,ro "$1/$dir" 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev "$1/$dir"
done
mount -t tmpfs tmpfs "$1/usr/local"
mount --rbind /dev "$1/dev"
mount --bind "$3" "$1/work"
mount --bind "$4" "$1/package"
mount --bind "$5" "$1/guest"
[ "$6" = 0 ] || mount -t proc proc "$1/proc"
cd /
PATH=$PATH:/usr/sbin:/sbin
exec chroot "$1" /bin/env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/root /bin/sh -eu /work/script
"#;
/// A VM on the real guest, as a user would write it there.
const CONFIG: &str = r#"[ssh]
User = "root"
IdentityFile = "/root/key"
IdentitiesOnly = true
UserKnownHostsFile = "/dev/null"
StrictHostKeyChecking = false

[vm.vm]
cmd = [
    "-nodefaults -machine pc -accel tcg -cpu max -m 256 -display none",
    "-kernel /guest/vmlinuz -initrd /guest/initrd -append 'console=ttyS0 no_timer_check guest.hostname=vm'",
    "-netdev user,id=net0,hostfwd=tcp:127.0.0.1:{{.vm.ssh.port}}-:{{.vm.ssh.vm_port}}",
    "-device virtio-net-pci,netdev=net0",
]
ssh.port = "auto"
"#;
/// A script that runs every command of a VM on a guest; the test reads its output.
const USE: &str = r#"
cd /work
qqmgr check
qqmgr start vm --wait=200 | sed 's/, pid.*//'
[ "$(qqmgr start vm | sed 's/:.*//')" = 'vm is already running' ]
qqmgr list --running -q
qqmgr status -q vm
[ "$(qqmgr ssh vm hostname)" = vm ]
echo content >file
qqmgr put vm file /tmp/
qqmgr get vm /tmp/file copy
cmp file copy
qqmgr run vm -- 'cat /tmp/file'
qqmgr wait vm --for running | sed 's/ after.*//'
qqmgr stop vm | sed 's/off in .*/off/'
qqmgr list | sed -n 's/^vm *//p'
"#;
const USED: &str = "1 VM: all well\nvm started: running\nvm\ncontent\n\
                    vm is running\nvm powered off\nstopped              -      auto  \
                    the guest powered off, [SECONDS] s ago\n";

struct Root {
    project: Project,
    root: PathBuf,
    package: PathBuf,
    guest: PathBuf,
}

impl Root {
    #[track_caller]
    fn new() -> Option<Self> {
        let dir = |variable| env::var_os(variable).map(PathBuf::from);
        let (Some(root), Some(package)) = (dir("QQMGR_ROOT"), dir("QQMGR_PACKAGE")) else {
            left_out("QQMGR_ROOT and QQMGR_PACKAGE name no directories");
            return None;
        };
        let (guest, _) = (guest_dir()?, program("unshare")?);
        let project = Project::new();
        fs::create_dir(project.path("root")).unwrap();
        project.config(CONFIG);
        Some(Self { project, root, package, guest })
    }

    /// A script in the root. Its `/proc` shows only processes that it has started.
    fn run(&self, script: &str, has_proc: bool) -> Run<'_> {
        self.project.write("script", script);
        let mut words: Vec<&str> = vec!["--mount", "--pid", "--fork", "--kill-child"];
        if fs::metadata(self.project.path("")).unwrap().uid() != 0 {
            words.extend(["--user", "--map-root-user"]);
        }
        let paths = [
            self.project.path("root"),
            self.root.clone(),
            self.project.path(""),
            self.package.clone(),
            self.guest.clone(),
        ];
        words.extend(["sh", "-c", SET_UP, "sh"]);
        words.extend(paths.iter().map(|path| path.to_str().unwrap()));
        words.push(if has_proc { "1" } else { "0" });
        self.project.command("unshare", &words)
    }
}

/// The only file in the directory of packages whose name has this end.
#[track_caller]
fn package(dir: &Path, end: &str) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut found = files.filter(|path| path.to_str().unwrap().ends_with(end));
    found.next().unwrap_or_else(|| panic!("no {end} in {}", dir.display()))
}

/// BusyBox unpacks and installs the release, which is used and then uninstalled.
#[test]
fn a_release_works_on_a_minimal_host() {
    let Some(root) = Root::new() else { return };
    let script = format!(
        r"
cp /guest/id_ed25519 /root/key
chmod 600 /root/key
cd /tmp
(cd /package && sha256sum -c SHA256SUMS) >/dev/null
tar -xzf /package/qqmgr-*.tar.gz
sh qqmgr-*/install.sh | sed 's/^installed //'
qqmgr --version | sed 's/[0-9.]*$/N/'
{USE}
sh /tmp/qqmgr-*/install.sh --uninstall | wc -l
find /usr/local -type f
"
    );
    let installed = "/usr/local/bin/qqmgr\n/usr/local/share/man/man1/qqmgr.1\n\
                     /usr/local/share/man/man5/qqmgr-json.5\n\
                     /usr/local/share/man/man5/qqmgr.toml.5\n\
                     /usr/local/share/man/man7/qqmgr.7\n\
                     /usr/local/share/bash-completion/completions/qqmgr\n\
                     /usr/local/share/zsh/site-functions/_qqmgr\n\
                     /usr/local/share/fish/vendor_completions.d/qqmgr.fish\n";
    let run = root.run(&script, true).run();
    run.stdout(format!("{installed}qqmgr N\n{USED}8\n")).success();
}

/// The exit code and the last line of each command on a host without other programs.
const EACH: &[(&str, &str)] = &[
    // An image needs `qemu-img`, which does not exist.
    ("check", "5 2 VMs: 1 error, 1 warning"),
    ("start vm --wait=200", "0 vm started: running, pid [PID], ssh port [PORT]"),
    ("restart none", "0 none started: running, pid [PID], ssh port [PORT]"),
    ("status vm", "0 config:     /work/qqmgr.toml"),
    ("stats vm", "0 [..]"),
    ("list -q", "0 none"),
    ("wait vm --for running", "0 vm is running[..]"),
    ("serial vm -n 1", "0 [..]"),
    ("log vm", "0 "),
    ("console vm", "1 qqmgr: hint: put `console = true` into `[vm.vm]`, and restart the VM"),
    ("monitor vm info status", "0 VM status: running"),
    ("sendkey vm a", "0 vm: sent 1 key, running"),
    ("pause vm", "0 vm is paused"),
    ("resume vm", "0 vm: was paused for [SECONDS] s, running"),
    ("nmi vm", "0 vm: NMI sent, running"),
    ("qmp vm query-status", "0 }"),
    ("screenshot vm /tmp/screen.png", "0 [..]/tmp/screen.png[..]"),
    ("snapshot list vm", "0 TAG  SAVED (UTC)             MACHINE  DISKS"),
    ("ssh vm hostname", "0 vm"),
    ("put vm qqmgr.toml /tmp/", "0 "),
    ("get vm /tmp/qqmgr.toml copy", "0 "),
    ("forward vm", "0 [..]"),
    ("run vm -- echo x", "0 x"),
    ("gdb vm", "1 qqmgr: hint: install it (Debian: gdb[..]"),
    ("cmdline vm", "0 [..]"),
    ("ssh-config vm", "0     StrictHostKeyChecking no"),
    ("img build scratch", "1 qqmgr: hint: [..]qemu-utils[..]"),
    ("init -c /tmp/new.toml", "0 [..]/tmp/new.toml[..]"),
    ("completions bash", "0 [..]"),
    ("help", "0 qqmgr.toml(5) and qqmgr-json(5) are the reference."),
    ("reset none", "0 none: reset, running"),
    ("powerdown none", "0 none: power button pressed, running"),
    ("stop none --force", "0 none ended by SIGTERM in [SECONDS] s"),
    ("stop vm", "0 vm powered off in [SECONDS] s"),
];

/// Every command needs a row, including new ones.
#[test]
fn every_command_works_on_a_minimal_host_or_says_what_it_misses() {
    let Some(root) = Root::new() else { return };
    let help = root.project.qqmgr(&["help"]).run().stdout;
    let (list, _) = help.split_once("\nOptions of every command:").unwrap();
    let names: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let of = |row: &str| row.split(' ').next().unwrap().to_string();
    let missed: Vec<_> =
        names.iter().filter(|name| EACH.iter().all(|(row, _)| of(row) != **name)).collect();
    assert!(missed.is_empty(), "tests/it/root.rs, EACH: rows are missing for {missed:?}");
    let rows = EACH.iter().filter(|(row, _)| names.contains(&of(row).as_str()));

    let more = "[vm.none]\ncmd = '-nodefaults -machine none -display none'\nssh.port = 'auto'\n\
                ssh.vm_port = 22\n[img.scratch]\nsize = '1M'\n";
    root.project
        .config(&format!("{}{more}", CONFIG.replace("-nodefaults", "-device VGA -nodefaults")));
    let mut script = "cp /guest/id_ed25519 /root/key\nchmod 600 /root/key\n\
                      tar -xzf /package/qqmgr-*.tar.gz -C /tmp\n\
                      PATH=$(echo /tmp/qqmgr-*/bin):$PATH\ncd /work\n"
        .to_string();
    let mut expected = String::new();
    for (row, says) in rows {
        let _ = writeln!(
            script,
            "code=0; qqmgr {row} >/tmp/said 2>&1 || code=$?\n\
             echo '== {row}'; echo \"$code $(tail -n 1 /tmp/said)\""
        );
        let _ = writeln!(expected, "== {row}\n{says}");
    }
    root.run(&script, true).run().stdout(expected).success();
}

/// The host's dpkg unpacks the package, since the minimal root has none.
#[test]
fn the_debian_package_works_on_a_minimal_host() {
    let Some(root) = Root::new() else { return };
    let Some(dpkg) = program("dpkg") else { return };
    let into = root.project.path("deb");
    fs::create_dir_all(into.join("var/lib/dpkg/updates")).unwrap();
    fs::create_dir_all(into.join("var/lib/dpkg/info")).unwrap();
    fs::write(into.join("var/lib/dpkg/status"), "").unwrap();
    let mut install = Command::new(dpkg);
    install.arg(format!("--root={}", into.display())).args(["--force-not-root", "--install"]);
    install.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = install.arg(package(&root.package, ".deb")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let script = format!(
        r"
PATH=/work/deb/usr/bin:$PATH
cp /guest/id_ed25519 /root/key
chmod 600 /root/key
cd /work/deb
md5sum -c var/lib/dpkg/info/qqmgr.md5sums >/dev/null
zcat usr/share/man/man[157]/*.gz | grep -c '^.Dt QQMGR'
zcat usr/share/doc/qqmgr/changelog.Debian.gz | head -n 1
{USE}
"
    );
    let run = root.run(&script, true).run();
    run.stdout(format!("4\nqqmgr (0.2.0-1) unstable; urgency=medium\n{USED}")).success();
}

/// Where no process can be seen, no process is touched; all other commands work.
#[test]
fn a_minimal_host_without_proc_is_told_what_it_misses() {
    let Some(root) = Root::new() else { return };
    let script = r#"
tar -xzf /package/qqmgr-*.tar.gz -C /tmp
PATH=$(echo /tmp/qqmgr-*/bin):$PATH
cd /work
qqmgr check
qqmgr list -q
qqmgr cmdline --help | head -n 1
for command in 'start vm' 'stop vm' 'status vm' list 'run vm -- true' 'ssh vm'; do
    code=0
    qqmgr $command || code=$?
    echo "$command: $code"
done
ls -A
"#;
    let missing = "qqmgr: error: cannot see which processes run: there is no `/proc`, and `ps` does \
                   not show them\nqqmgr: hint: mount /proc, without which that of Linux shows \
                   nothing\n";
    let run = root.run(script, false).run();
    run.stdout(
        "warning: there is no file `/root/key`\n...\n1 VM: 1 warning\nvm\nPrint the command line of QEMU\n\
         start vm: 1\nstop vm: 1\nstatus vm: 1\nlist: 1\nrun vm -- true: 255\nssh vm: 255\n\
         home\nqqmgr.toml\nroot\nscript\n",
    )
    .stderr(missing.repeat(6))
    .success();
}

/// qqmgr sees no `/proc`, as on systems without one, but `ps` does.
#[test]
fn a_minimal_host_without_proc_needs_a_ps_that_works() {
    let Some(root) = Root::new() else { return };
    let script = format!(
        r#"
cp /guest/id_ed25519 /root/key
chmod 600 /root/key
tar -xzf /package/qqmgr-*.tar.gz -C /tmp
mkdir -p /usr/local/bin /tmp/host/bin /tmp/host/proc
ln -s /tmp/qqmgr-*/bin/qqmgr /usr/local/bin/
mount -o bind /bin /tmp/host/bin
mount -t proc proc /tmp/host/proc
printf '#!/bin/sh\nexec chroot /tmp/host /bin/ps "$@"\n' >/usr/local/bin/ps
chmod 755 /usr/local/bin/ps
ls /proc
{USE}
"#
    );
    root.run(&script, false).run().stdout(USED).success();
}

/// The binary is linked statically and needs no other file.
#[test]
fn the_binary_of_a_release_needs_nothing() {
    let Some(root) = Root::new() else { return };
    let script = r#"
tar -xzf /package/qqmgr-*.tar.gz -C /tmp
mkdir /tmp/empty
cp /tmp/qqmgr-*/bin/qqmgr /tmp/empty/
chroot /tmp/empty /qqmgr --version | sed 's/[0-9.]*$/N/'
chroot /tmp/empty /qqmgr list || echo "$?"
"#;
    let run = root.run(script, true).run();
    run.stdout("qqmgr N\n5\n")
        .stderr("qqmgr: error: found no configuration: [..]\nqqmgr: hint: `qqmgr init` [..]\n")
        .success();
}
