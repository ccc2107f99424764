//! Drives the real binary. One test binary, so that it links once.

mod check;
mod config_errors;
mod config_files;
mod expect;
mod faults;
mod guest;
mod harness;
mod lifecycle;
mod man;
mod real_qemu;
mod tidy;
mod usage;
