//! Tests of choices that callers make and a file does not.

use super::Config;
use super::choices::Choices;
use super::resolve::{Resolver, SshSetting};
use super::vm::Vm;
use crate::error::{Error, Kind};
use crate::source::Source;

fn config(text: &str) -> Config {
    let source = Source { name: "f".into(), text: text.into() };
    let config = Config::examine_file(source, "/c/f".into(), "/c".into());
    let config = config.unwrap_or_else(|e| panic!("{}", e.text()));
    assert_eq!(config.all_problems(), []);
    config
}

/// The words of the VM `vm`, or the errors.
fn words(config: &Config, choices: Choices) -> Result<String, String> {
    let vm = config.vm("vm").map_err(|error| error.text())?;
    let resolver = Resolver::new(config, vm, choices);
    let words = resolver.checked(resolver.command()).map_err(|error| error.text())?.words;
    Ok(words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join("|"))
}

fn check_set(config: &Config, vm: &Vm, set: &[(String, String)]) -> Result<(), Error> {
    let choices = Choices { set, ..Choices::default() };
    Resolver::new(config, vm, choices).check_set()
}

fn options(config: &Config, choices: Choices) -> Vec<SshSetting> {
    Resolver::new(config, config.vm("vm").unwrap(), choices).examine_ssh_options()
}

#[test]
fn the_port_that_is_chosen() {
    let auto = config(
        "[vm.vm]\ncmd = '{{.vm.ssh.port}}'\nssh = { port = 'auto', x = '{{.vm.ssh.port}}' }\n",
    );
    let (none, chosen) = (Choices::default(), Choices { ssh_port: Some(7), ..Choices::default() });
    assert_eq!(words(&auto, chosen).as_deref(), Ok("7"));
    assert_eq!(options(&auto, chosen), [("x".to_string(), vec!["7".to_string()])]);
    assert_eq!(
        words(&auto, none).unwrap_err(),
        "\
qqmgr: error: the ssh port of VM `vm` is chosen at start
 --> f:2:8
  |
2 | cmd = '{{.vm.ssh.port}}'
  |        ^^^^^^^^^^^^^^^^
"
    );
    assert_eq!(
        Resolver::new(&auto, auto.vm("vm").unwrap(), none).ssh_port().unwrap_err().text(),
        "\
qqmgr: error: the ssh port of VM `vm` is chosen at start
 --> f:1:5
  |
1 | [vm.vm]
  |     ^^
"
    );
}

/// A running VM is reached on the port that it was started with, even if its configuration has
/// changed.
#[test]
fn a_chosen_port_wins_over_the_configured_one() {
    let fixed = config("[vm.vm]\ncmd = '{{.vm.ssh.port}}'\nssh.port = 1\n");
    assert_eq!(words(&fixed, Choices::default()).as_deref(), Ok("1"));
    let chosen = Choices { ssh_port: Some(7), ..Choices::default() };
    assert_eq!(words(&fixed, chosen).as_deref(), Ok("7"));
    assert_eq!(Resolver::new(&fixed, fixed.vm("vm").unwrap(), chosen).ssh_port().unwrap(), 7);
}

const VARIABLES: &str = "
[vars]
home = '/home/{{.user}}'
images = { base = 'a', dir = '{{.home}}/i' }
user = 'u'
unused = 1
list = [1]
[qemu]
bin = '{{.tools}}/qemu'
[vm.vm]
cmd = \"{{.images.base}} '{{.images.dir}}' {{.vm.kernel}}\"
vars = { disk = { size = 1 } }
ssh = { port = 1, User = '{{.vm.user}}' }
";

/// These pairs as `--set` gives them.
fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
}

#[test]
fn variables_that_are_set_at_start() {
    let config = config(VARIABLES);
    let needed = [("vm.kernel", "k"), ("tools", "/t")];
    for (more, expected) in [
        (&[][..], "a|/home/u/i|k"),
        (&[("images.base", "b")], "b|/home/u/i|k"),
        (&[("home", "/x")], "a|/x/i|k"),
        (&[("user", "x y")], "a|/home/x y/i|k"),
        // Placeholders in it are not replaced, and outside of quotes it is split like any value.
        (&[("user", "{{.home}}")], "a|/home/{{.home}}/i|k"),
        (&[("images.base", "b <<.no>> 'c d'")], "b|<<.no>>|c d|/home/u/i|k"),
        (&[("vm.kernel", "l"), ("vm.kernel", "m")], "a|/home/u/i|m"),
        (&[("vm.disk.size", "2"), ("unused", "2"), ("list", "")], "a|/home/u/i|k"),
    ] {
        let set = set(&[&needed[..], more].concat());
        check_set(&config, config.vm("vm").unwrap(), &set)
            .unwrap_or_else(|e| panic!("{}", e.text()));
        let choices = Choices { set: &set, ..Choices::default() };
        assert_eq!(words(&config, choices).as_deref(), Ok(expected), "{more:?}");
    }
    let set = set(&[("vm.user", "root")]);
    check_set(&config, config.vm("vm").unwrap(), &set).unwrap();
    let choices = Choices { set: &set, ..Choices::default() };
    assert_eq!(options(&config, choices), [("User".to_string(), vec!["root".to_string()])]);
}

#[test]
fn variables_that_cannot_be_set_at_start() {
    let config = config(VARIABLES);
    let vm = config.vm("vm").unwrap();
    let nobodys = "the configuration neither sets it nor uses it in a placeholder of this VM";
    for (name, message, hint) in [
        ("vm.kernl", "VM `vm` has no variable `vm.kernl`; did you mean `vm.kernel`?", ""),
        ("hme", "VM `vm` has no variable `hme`; did you mean `home`?", ""),
        ("images.bsae", "VM `vm` has no variable `images.bsae`; did you mean `images.base`?", ""),
        ("tolls", "VM `vm` has no variable `tolls`; did you mean `tools`?", ""),
        ("kernel", "VM `vm` has no variable `kernel`; did you mean `vm.kernel`?", ""),
        ("vm.home", "VM `vm` has no variable `vm.home`; did you mean `home`?", ""),
        ("vm.ssh.prot", "VM `vm` has no variable `vm.ssh.prot`", nobodys),
        ("", "VM `vm` has no variable ``", nobodys),
        ("images", "VM `vm` has no variable `images`", nobodys),
        (
            "vm.name",
            "`vm.name` cannot be set: it is not a variable",
            "a VM's name is that of its table, `[vm.NAME]`",
        ),
        (
            "vm.dir",
            "`vm.dir` cannot be set: it is not a variable",
            "a VM's directory follows from its name and from where the configuration is",
        ),
        (
            "vm.ssh.port",
            "`vm.ssh.port` cannot be set: it is not a variable",
            "the port is `port` in `[vm.NAME.ssh]`",
        ),
        (
            "vm.ssh.vm_port",
            "`vm.ssh.vm_port` cannot be set: it is not a variable",
            "the guest's port is `vm_port` in `[vm.NAME.ssh]`",
        ),
    ] {
        let error = check_set(&config, vm, &set(&[("home", "/x"), (name, "x")])).unwrap_err();
        let hint = if hint.is_empty() { String::new() } else { format!("qqmgr: hint: {hint}\n") };
        assert_eq!(error.text(), format!("qqmgr: error: {message}\n{hint}"));
        assert_eq!(error.kind, Kind::Usage);
    }
}

/// A variable of another VM cannot be set for this one.
#[test]
fn variables_of_another_vm_cannot_be_set() {
    let config = config(
        "[vm.vm]\ncmd = '{{.vm.a}}'\nssh.port = 1\n\
         [vm.b]\ncmd = '{{.vm.b}}'\nssh.port = 1\nvars.bb = 1\n",
    );
    for (name, fine) in [("vm.a", true), ("vm.b", false), ("vm.bb", false)] {
        let checked = check_set(&config, config.vm("vm").unwrap(), &set(&[(name, "")]));
        assert_eq!(checked.is_ok(), fine, "{name}");
    }
}

/// Only names are checked: other problems are reported when a variable is used.
#[test]
fn rings_and_errors_do_not_hide_a_name() {
    let config = config(
        "[vars]\na = '{{.b}}'\nb = '{{.a}} {{.c}}'\n\
         [vm.vm]\ncmd = ['{{.no}} {{.d}}', \"'{{.a}}\"]\nssh.port = 1\n",
    );
    for name in ["a", "b", "c", "d", "no"] {
        assert!(
            check_set(&config, config.vm("vm").unwrap(), &set(&[(name, "")])).is_ok(),
            "{name}"
        );
    }
}
