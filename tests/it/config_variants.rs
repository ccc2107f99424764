//! VMs that are much alike: what one takes over from another, its own QEMU, a port that is chosen
//! at start.

use crate::harness::Project;

// --- a port that is chosen at start

#[test]
fn a_port_to_be_chosen_is_shown_as_that() {
    let project = Project::new();
    project.config("[vm.vm]\ncmd = \"-S\"\nssh.port = \"auto\"\n[vm.b]\nssh.port = 1\n");
    let listed = "\
NAME  STATE              PID  SSH PORT
vm    stopped              -      auto
b     stopped              -         1
";
    project.qqmgr(&["list"]).run().stdout(listed).success();
    let json = "[
  {
...
    \"ssh\": {
      \"port\": null
    },
...
    \"ssh\": {
      \"port\": 1
    },
...
";
    project.qqmgr(&["list", "--json"]).run().stdout(json).success();
    let status = "...\nssh port:   auto\n...\n";
    project.qqmgr(&["status", "vm"]).run().stdout(status).success();
    let json = "{
...
  \"ssh\": {
    \"port\": null,
    \"vm_port\": 22,
...
";
    project.qqmgr(&["status", "vm", "--json"]).run().stdout(json).success();
}
