//! Everything that this program can do to a machine. New code that starts or signals a process,
//! opens a socket, or creates, changes or removes a file goes here. It decides nothing about VMs,
//! guests or images; its callers say what they want.

pub(crate) mod account;
pub(crate) mod arrivals;
pub(crate) mod control_sockets;
pub(crate) mod departures;
pub(crate) mod inherited;
pub(crate) mod left_out;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod ps;
pub(crate) mod qemu;
pub(crate) mod run;
pub(crate) mod scratch;
pub(crate) mod second_name;
pub(crate) mod short_way;
pub(crate) mod user_files;
