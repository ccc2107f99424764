//! Compares qqmgr.toml(5) with the keys, words and options of the program.

use std::path::PathBuf;

use super::{
    QQMGR_TOML_5, json, lines_after, literal_blocks, members, part, parts, printed, rendered, run,
    unique,
};
use crate::harness::{Project, fake_qemu, free_port, has_tool};

#[test]
fn configurations_are_accepted() {
    if !has_tool("qemu-img") {
        return;
    }
    let project = Project::new();
    let blocks = literal_blocks(&printed(QQMGR_TOML_5));
    assert!(blocks.len() > 3, "the examples are not found");
    for (number, block) in blocks.iter().enumerate() {
        let file = format!("{number}/qqmgr.toml");
        project.write(&file, block);
        let (code, listed) = run(&project, &["-c", &file, "list"]);
        assert_eq!(code, 0, "{block}");
        assert!(listed.lines().count() > 1, "no VM in\n{block}");
        // Placeholders, words and options are checked only when they are used.
        let qemu = fake_qemu();
        let (bin, fake_file) =
            (format!("bin = '{}'\n", qemu.display()), format!("{number}/fake.toml"));
        let lines: String =
            block.lines().filter(|line| !is_program(line)).map(with_free_port).collect();
        let lines = match lines.split_once("[qemu]\n") {
            Some((before, after)) => format!("{before}[qemu]\n{bin}{after}"),
            None => format!("{lines}\n[qemu]\n{bin}"),
        };
        project.write(&fake_file, &lines);
        project.write(format!("{number}/downloads/debian-12-generic-amd64.qcow2"), [0; 512]);
        let vms = listed.lines().skip(1).filter_map(|line| line.split(' ').next());
        for vm in vms {
            let (code, _) = run(&project, &["-c", &fake_file, "start", vm]);
            assert_eq!(code, 0, "start {vm}\n{lines}");
        }
    }
}

fn is_program(line: &str) -> bool {
    ["bin = ", "qemu = "].iter().any(|key| line.starts_with(key))
}

/// The line with a newline, and an ssh port in it replaced by one that is free here.
fn with_free_port(line: &str) -> String {
    match line.split_once("port = ") {
        Some((before, after)) if before.is_empty() || before.ends_with(['.', ' ']) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            let port = if rest == after { String::new() } else { free_port().to_string() };
            format!("{before}port = {port}{rest}\n")
        }
        _ => format!("{line}\n"),
    }
}

#[test]
fn words_are_split_as_the_page_says() {
    let block = literal_blocks(part(&printed(QQMGR_TOML_5), ".Sh", "WORDS"));
    let [block] = block.as_slice() else { panic!("WORDS has not one example") };
    let expected: Vec<&str> = block
        .lines()
        .filter_map(|line| line.split_once(" # [")?.1.strip_suffix(']'))
        .flat_map(|words| words.split("] ["))
        .collect();
    assert!(expected.len() > 10, "the words are not found");

    let project = Project::new();
    let lines: String = block.lines().map(with_free_port).collect();
    project.config(&format!("{lines}\n[qemu]\nbin = '{}'\n", fake_qemu().display()));
    let (argv, dir) = started(&project, "words");
    let (own, added) = argv[1..].split_at(expected.len());
    assert_eq!(own, expected);

    let page = printed(QQMGR_TOML_5);
    let text = part(part(&page, ".Sh", "WORDS"), ".Ss", "What is added");
    let documented: Vec<String> = lines_after(text, ".Fl ")
        .iter()
        .map(|line| rendered(&format!("Fl {line}")).replace("DIR", &dir))
        .collect();
    let added: Vec<String> = added.chunks(2).map(|two| two.join(" ")).collect();
    assert_eq!(added, documented);
}

/// Starts a VM: the command line of its QEMU, and its directory.
#[track_caller]
fn started(project: &Project, vm: &str) -> (Vec<String>, String) {
    assert_eq!(run(project, &["start", vm]).0, 0);
    let record = members(&project.vm_file(vm, "instance.json"));
    let words = record.into_iter().filter(|(path, _)| path == "argv[]");
    let unquoted =
        |word: String| word[1..word.len() - 1].replace("\\\"", "\"").replace("\\\\", "\\");
    let dir = project.vm_path(vm, "");
    let dir = dir.to_string_lossy().trim_end_matches('/').to_owned();
    (words.map(|(_, word)| unquoted(word)).collect(), dir)
}

#[test]
fn refused_arguments_are_those_of_the_page() {
    let page = printed(QQMGR_TOML_5);
    let text = part(part(&page, ".Sh", "WORDS"), ".Ss", "What is refused");
    let refused = lines_after(text, ".It Fl ");
    assert_eq!(refused.len(), 4);
    let project = Project::new();
    let qemu: PathBuf = fake_qemu();
    let config = |argument: &str| {
        let qemu = qemu.display();
        let port = free_port();
        format!("[qemu]\nbin = '{qemu}'\n[vm.a]\ncmd = '{argument} x'\nssh.port = {port}\n")
    };
    for option in refused {
        for dashes in ["-", "--"] {
            project.config(&config(&format!("{dashes}{option}")));
            assert_eq!(run(&project, &["start", "a"]).0, 5, "{dashes}{option}");
        }
    }
    project.config(&config("-serial"));
    assert_eq!(run(&project, &["start", "a"]).0, 0);
}

#[test]
fn keys_and_ssh_options_are_those_of_the_page() {
    let page = printed(QQMGR_TOML_5);
    let tables = part(&page, ".Sh", "TABLES");
    let keys = |table: &str| -> Vec<String> {
        let items = lines_after(part(tables, ".Ss", table), ".It Cm ");
        items.iter().map(|item| item.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    let top = parts(tables, ".Ss").into_iter().map(|(title, _)| {
        title.trim_matches(['[', ']']).split('.').next().unwrap_or_default().to_owned()
    });
    let documented = [unique(top), keys("[qemu]"), keys("[vm.NAME]")];

    let project = Project::new();
    let vm = "cmd = ''\nssh = { port = 1 }\n";
    for (header, documented) in ["", "[qemu]\n", "[vm.a]\n"].into_iter().zip(documented) {
        let rest = if header == "[vm.a]\n" { vm } else { "" };
        project.config(&format!("{header}zzzzzzzzz = 1\n{rest}"));
        let error = members(&json(&project, &["list"]));
        let hint = error.iter().find(|(path, _)| path == "error.hint").expect("a hint");
        let (_, known) = hint.1.split_once("are `").expect("the hint has the keys");
        let known = known.trim_end_matches(['`', '"']);
        assert_eq!(known.split("`, `").collect::<Vec<_>>(), documented, "{header}");
    }
    assert_eq!(keys("[vm.NAME.ssh]"), ["port", "vm_port"]);

    project.config(&format!(
        "[qemu]\nbin = '{}'\n[ssh]\nUserKnownHostsFile = '/dev/null'\n\
         [vm.a]\ncmd = ''\nssh.port = {}\n",
        fake_qemu().display(),
        free_port()
    ));
    let (_, dir) = started(&project, "a");
    let written = project.vm_file("a", "ssh.conf");
    let added: Vec<&str> = written
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.starts_with("Port ") && !line.starts_with("UserKnownHostsFile /dev"))
        .collect();
    let options = part(&page, ".Sh", "SSH OPTIONS");
    let documented: Vec<String> = lines_after(options, ".It Ic ")
        .iter()
        .map(|item| rendered(item).replace("DIR", &dir).replace("NAME", "a"))
        .collect();
    assert_eq!(added, documented);
}
